"""Any BinderHub as a member: whose failure it is when a launch fails there."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Failure, Phase, event, failed
from gateway.clients.binderhub_failures import Course
from tests.fakes.binderhub import COMMIT, SPEC
from tests.gateway.binderhubkit import Pair, pair

__all__ = ["pair"]

KEY = SPEC.replace("/", ":", 1)
TABLE = [
    ("early", "Requests from a cloud are not allowed", 403, Failure.REFUSED),
    ("early", "Forbidden", 403, Failure.REFUSED),
    ("early", "Invalid build token", 403, Failure.MEMBER),
    ("early", "Rate limit exceeded. Try again in 3600 seconds.", 429, Failure.REFUSED),
    ("early", "Rate limit exceeded. Try again in 3600 seconds.", None, Failure.REFUSED),
    ("early", "Too Many Requests", 429, Failure.REFUSED),
    ("early", "Missing Accept header: text/event-stream", 400, Failure.MEMBER),
    ("early", "Internal Server Error", 500, Failure.MEMBER),
    ("early", "No provider found for prefix zenodo", None, Failure.REFUSED),
    ("early", "Unsupported git url http://h/r, protocol http not in https, ssh", None, Failure.REFUSED),
    ("early", f"Sorry, {SPEC} is not allowed to launch. Please contact admins for more info!", None, Failure.REFUSED),
    ("early", 'Spec is not of the form "user/repo/ref", provided: "user".', None, Failure.USER),
    ("early", "not enough values to unpack (expected 2, got 1)", None, Failure.USER),
    ("early", "`unresolved_ref` must be specified in the url for the basic git provider", None, Failure.USER),
    ("early", "An unresolved ref is required", None, Failure.USER),
    (
        "early",
        f"Could not resolve ref for {KEY}. Double check your URL and that your repo is public.",
        None,
        Failure.USER,
    ),
    (
        "early",
        f"Error resolving ref for {KEY}: GitHub rate limit exceeded. Try again in 5 minutes.",
        None,
        Failure.MEMBER,
    ),
    ("early", f"Error resolving ref for {KEY}: HTTP 503: Service Unavailable", None, Failure.MEMBER),
    ("early", f"Error resolving ref for {KEY}: HTTP 403: rate limit exceeded", None, Failure.MEMBER),
    ("early", f"Error resolving ref for {KEY}: HTTP 599: Timeout while connecting", None, Failure.MEMBER),
    ("early", "Error resolving ref for zenodo:10.5281/zenodo.1: HTTP 404: NOT FOUND", None, Failure.USER),
    ("early", "Error resolving ref for figshare:10.6/x: Unexpected figshare doi: 10.6/x", None, Failure.USER),
    ("early", "Error resolving ref for figshare:10.6/x: Article 12 has no versions", None, Failure.USER),
    (
        "early",
        "Error resolving ref for hydroshare:x: The specified Hydroshare resource id was not recognized.",
        None,
        Failure.USER,
    ),
    (
        "early",
        "Error resolving ref for gist:a/b: You seem to want to use a secret Gist, but do not have permission to do so",
        None,
        Failure.REFUSED,
    ),
    (
        "early",
        "Error resolving ref for git:x: Unable to run git ls-remote to get the `resolved_ref`: remote: none\n"
        "fatal: repository 'https://git.example/x/' not found",
        None,
        Failure.USER,
    ),
    (
        "early",
        "Error resolving ref for git:x: Unable to run git ls-remote to get the `resolved_ref`: "
        "fatal: unable to access 'https://git.example/x/': Could not resolve host: git.example",
        None,
        Failure.MEMBER,
    ),
    ("early", "Too many users on this BinderHub! Try again soon.", None, Failure.REFUSED),
    ("early", "Too many users running https://github.com/org/repo! Try again soon.", None, Failure.REFUSED),
    ("early", "Whatever a newer version says", None, Failure.MEMBER),
    ("early", "", None, Failure.MEMBER),
    ("waiting", "Unhandled error watching for build events. Please try again.", None, Failure.MEMBER),
    ("waiting", "Error during build: 'NoneType' object has no attribute 'fetch'", None, Failure.MEMBER),
    ("waiting", "", None, Failure.MEMBER),
    ("fetching", f"Error during build: Failed to clone repository from x (ref {COMMIT}).", None, Failure.USER),
    ("building", "Unhandled error watching for build events. Please try again.", None, Failure.MEMBER),
    ("building", "Internal Server Error", 500, Failure.MEMBER),
    ("building", "Error during build: The buildx plugin must be installed: [Errno 2]", None, Failure.MEMBER),
    ("building", "Error during build: The docker commandline client must be installed: x", None, Failure.MEMBER),
    ("building", "Error during build: [Errno 28] No space left on device: '/tmp/x'", None, Failure.MEMBER),
    (
        "building",
        "Error during build: Command '['docker', 'login', '--username', 'x']' returned non-zero exit status 1.",
        None,
        Failure.MEMBER,
    ),
    (
        "building",
        "Error during build: Command '['docker', 'buildx', 'build']' returned non-zero exit status 1.",
        None,
        Failure.USER,
    ),
    ("building", "The command '/bin/sh -c pip install x' returned a non-zero code: 1", None, Failure.USER),
    # What a repository's own build says is no sentence of BinderHub's.
    ("building", "Too many users on this BinderHub! Try again soon.", None, Failure.USER),
    ("building", "Requests from you are not allowed", None, Failure.USER),
    ("pushing", "denied: requested access to the resource is denied", None, Failure.MEMBER),
    ("built", "Too many users on this BinderHub! Try again soon.", None, Failure.REFUSED),
    ("built", "Internal Server Error", 500, Failure.MEMBER),
    ("found", "Too many users running https://github.com/org/repo! Try again soon.", None, Failure.REFUSED),
    ("launching", "Failed to create temporary user for image:tag", 500, Failure.MEMBER),
    ("launching", "Failed to launch image image:tag", 500, Failure.MEMBER),
    ("launching", "Image image:tag for user u took too long to launch", 500, Failure.MEMBER),
    ("launching", "Image image:tag for user u failed to launch", 500, Failure.MEMBER),
    ("launching", "Spawn failed: the container has ended", 500, Failure.MEMBER),
    ("launching", "User u already has a running server.", 409, Failure.MEMBER),
    ("launching", "This repository may not be launched here", 403, Failure.REFUSED),
    ("launching", "Could not resolve ref for x", None, Failure.MEMBER),
]


@pytest.mark.parametrize(("stage", "message", "status", "failure"), TABLE)
async def test_whose_failure_it_is(pair: Pair, stage: str, message: str, status: int | None, failure: Failure) -> None:
    last: dict[str, Any] = {"phase": "failed", "message": message + "\n"}
    pair.hub.knobs.fails = stage, last if status is None else {**last, "status_code": status}
    final = (await pair.launch())[-1]
    assert (final.phase, final.failure) == (Phase.FAILED, failure)
    assert final.message == (message or "The build has ended there without a word about why.") + "\n"
    assert final.fields.get("status_code") == status


async def test_which_refusals_pass_and_when(pair: Pair) -> None:
    expected = {
        "Too many users on this BinderHub! Try again soon.\n": 30,
        "Too many users running https://github.com/org/repo! Try again soon.\n": None,
        "Rate limit exceeded. Try again in 600 seconds.\n": 600,
        "Rate limit exceeded. Try again in 0 seconds.\n": 30,
        "Rate limit exceeded. Try again in 999999 seconds.\n": 30,
        "Sorry, x is not allowed to launch. Please contact admins for more info!": None,
    }
    for message, after in expected.items():
        pair.hub.knobs.events = [{"phase": "failed", "message": message}]
        final = (await pair.launch())[-1]
        assert (final.failure, final.fields.get("retry_after_s")) == (Failure.REFUSED, after)


async def test_a_registry_that_takes_no_push_is_the_members_trouble(pair: Pair) -> None:
    failure = {"phase": "failed", "message": "Error during build: Command '['docker', 'buildx']' returned non-zero"}
    trouble = "ERROR: failed to build: failed to solve: failed to push registry/image: unexpected status: 401"
    for line, whose in ((trouble, Failure.MEMBER), (f"#12 0.5 {trouble}", Failure.USER)):
        pair.hub.knobs.events = [{"phase": "building", "message": line + "\n"}, failure]
        assert (await pair.launch())[-1].failure == whose


async def test_refusals_by_the_hub_itself(pair: Pair) -> None:
    knobs = pair.hub.knobs
    knobs.ban = "a cloud"
    assert (await pair.launch())[-1].failure == Failure.REFUSED
    knobs.ban, knobs.banned_specs = "", (SPEC.removeprefix("gh/"),)
    assert (await pair.launch())[-1].failure == Failure.REFUSED
    knobs.banned_specs, knobs.quota = (), 0
    assert (await pair.launch())[-1].failure == Failure.REFUSED
    assert (await pair.launch("gh/org"))[-1].failure == Failure.USER
    assert (await pair.launch("zenodo/10.5281%2Fzenodo.1"))[-1].failure == Failure.REFUSED


@given(
    st.lists(st.tuples(st.sampled_from([item for item in Phase if item != Phase.FAILED]), st.text(max_size=20))),
    st.text(max_size=60),
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.floats(allow_nan=False)),
)
def test_every_failure_gets_an_owner(before: list[tuple[Phase, str]], message: str, status: Any) -> None:
    course = Course()
    for phase, text in before:
        item = event(phase, text)
        assert course.take(item) is item
    final = course.take(event(Phase.FAILED, message, status_code=status))
    assert final.failure in (Failure.USER, Failure.MEMBER, Failure.REFUSED)
    assert final.message.strip()
    if any(phase in (Phase.BUILT, Phase.LAUNCHING) for phase, _ in before):
        assert final.failure != Failure.USER
    assert course.take(failed(Failure.USER, "x")).failure == Failure.USER
