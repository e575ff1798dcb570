"""Any BinderHub as a member: what the client makes of upstream's answers, flaws included."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aiohttp
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import BuildEvent, Failure, Phase, event, failed
from contract.reports import Sessions
from gateway.clients.binderhub import BinderHubClient, secret_bytes
from gateway.clients.binderhub_failures import Course
from gateway.clients.binderhub_health import read_health
from gateway.clients.faults import Fault, MemberFault
from gateway.clients.members import MAX_ANSWER
from gateway.clients.orders import LaunchOrder
from gateway.core.fleet import Member
from gateway.core.settings import LaunchSettings
from tests.fakes.binderhub import COMMIT, POD_FAILED, SECRET, SPEC, FakeBinderHub

QUICK = LaunchSettings(connect_timeout=0.5, first_event_timeout=2, silence_timeout=1)
PUBLIC_URL = "https://binder.example.org/"
ORDER = LaunchOrder(SPEC, "0" * 32, "token")


class Pair:
    """A BinderHub and clients of it."""

    def __init__(self, hub: FakeBinderHub, session: aiohttp.ClientSession) -> None:
        self.hub, self.session = hub, session
        self.secrets: dict[str, str | bytes] = {}

    @property
    def member(self) -> Member:
        return Member("m", self.hub.url, kind="binderhub")

    def client(self, public_url: str = PUBLIC_URL, **changes: Any) -> BinderHubClient:
        return BinderHubClient(self.session, lambda: QUICK, self.secrets, public_url=public_url, **changes)

    async def launch(self, spec: str = SPEC, client: BinderHubClient | None = None) -> list[BuildEvent]:
        order = LaunchOrder(spec, "0" * 32)
        async with asyncio.timeout(30):
            return [told.event async for told in (client or self.client()).build(self.member, order)]

    async def fault(self) -> MemberFault:
        with pytest.raises(MemberFault) as caught:
            await self.launch()
        return caught.value

    async def findings(self, public_url: str = PUBLIC_URL) -> list[tuple[str, bool]]:
        found = await self.client(public_url).conformance(self.member, 3)
        assert all(item.what.endswith(".") and item.advice.endswith(".") for item in found)
        return [(item.what, item.serious) for item in found]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    hub = await FakeBinderHub().start()
    async with aiohttp.ClientSession() as session:
        yield Pair(hub, session)
    await hub.stop()


# Launches


@pytest.mark.parametrize("found", [True, False])
async def test_a_launch_with_upstreams_own_fields(pair: Pair, found: bool) -> None:
    pair.hub.knobs.found = found
    events = await pair.launch()
    assert [item.phase for item in events][-3:] == [Phase.LAUNCHING, Phase.LAUNCHING, Phase.READY]
    assert events[-1].fields["url"] == f"{pair.hub.url}user/org-repo-abcdefgh/"
    assert events[-1].fields["token"] == "notebook-token"
    assert events[-1].fields["image"] == "image:tag"
    assert events[-1].failure is None
    if not found:
        assert events[3].fields["progress"] == {"layer": 3}
    # Upstream keeps the stream of a fresh build open for a minute: the client does not.
    async with asyncio.timeout(5):
        while pair.hub.open_streams:
            await asyncio.sleep(0.01)


async def test_the_launch_token_is_for_members_of_manybinder_alone(pair: Pair) -> None:
    await pair.launch()
    assert "Authorization" not in pair.hub.headers[0]
    assert pair.hub.headers[0]["Accept"] == "text/event-stream"


async def test_phases_in_other_letters_or_none(pair: Pair) -> None:
    pair.hub.knobs.events = [
        {"phase": "Building", "message": "one"},
        {"message": "no phase"},
        "no JSON",
        {"phase": "Succeed", "message": "unknown", "failure": None},
        {"phase": "FAILED", "message": "The command returned a non-zero code: 1"},
    ]
    events = await pair.launch()
    assert [item.phase.value for item in events] == ["building", "unknown", "unknown", "unknown", "failed"]
    assert events[2].message == "no JSON\n"
    assert events[-1].failure == Failure.USER


async def test_repo2dockers_old_word_for_a_failure(pair: Pair) -> None:
    pair.hub.knobs.events = [{"phase": "building"}, {"phase": "Failure", "message": "broken"}]
    final = (await pair.launch())[-1]
    assert (final.phase, final.failure, final.message) == (Phase.FAILED, Failure.USER, "broken")


async def test_comments_keep_a_stream_alive_and_are_no_first_event(pair: Pair) -> None:
    pair.hub.knobs.keepalives = 5
    assert (await pair.launch())[-1].phase == Phase.READY
    pair.hub.knobs.keepalives = 100
    fault = await pair.fault()
    assert (fault.fault, str(fault)) == (Fault.HANG, "did not begin within 2 s")


async def test_a_failed_build_whose_stream_never_closes(pair: Pair) -> None:
    pair.hub.knobs.fails = "building", {"phase": "failed", "message": "Error during build: pip\n"}
    async with asyncio.timeout(5):
        final = (await pair.launch())[-1]
    assert (final.failure, final.message) == (Failure.USER, "Error during build: pip\n")


async def test_a_second_failure_is_not_heard(pair: Pair) -> None:
    pair.hub.knobs.quota_after_build = True
    events = await pair.launch()
    assert [item.phase for item in events].count(Phase.FAILED) == 1
    assert events[-1].failure == Failure.REFUSED
    assert events[-1].fields["retry_after_s"] == 30


async def test_the_reason_of_a_failed_build_may_come_after_the_pods_failure(pair: Pair) -> None:
    pair.hub.knobs.fails = "building", POD_FAILED
    pair.hub.knobs.reason_late = {"phase": "failed", "message": "No such package\n"}
    pair.hub.gate.set()
    events = await pair.launch()
    assert [item.phase.value for item in events[-2:]] == ["building", "failed"]
    assert (events[-1].failure, events[-1].message) == (Failure.USER, "No such package\n")


@pytest.mark.parametrize("closes", [True, False])
async def test_a_build_pod_that_fails_without_a_word(pair: Pair, closes: bool) -> None:
    pair.hub.knobs.fails = "building", POD_FAILED
    pair.hub.knobs.never_closes = not closes
    final = (await pair.launch())[-1]
    assert final.failure == Failure.MEMBER
    assert final.message == "The build has ended there without a word about why.\n"


async def test_what_says_whose_a_failure_is_stays_as_it_is(pair: Pair) -> None:
    last = {"phase": "failed", "message": "x", "failure": "gateway", "retry_after_s": 7}
    pair.hub.knobs.events = [last]
    final = (await pair.launch())[-1]
    assert (final.failure, final.fields["retry_after_s"]) == (Failure.GATEWAY, 7)
    pair.hub.knobs.events = [{**last, "failure": "nobody"}]
    assert (await pair.launch())[-1].failure == Failure.MEMBER


@pytest.mark.parametrize("events", [[], [{"phase": "building", "message": "one"}]])
async def test_an_end_without_a_final_event(pair: Pair, events: list[Any]) -> None:
    pair.hub.knobs.events = events
    assert (await pair.fault()).fault == Fault.CUT


@pytest.mark.parametrize(
    ("status", "fault", "retry_after_s"),
    [(403, Fault.STATUS, None), (429, Fault.REFUSED, 30), (307, Fault.STATUS, None), (502, Fault.STATUS, None)],
)
async def test_http_errors_and_redirects(pair: Pair, status: int, fault: Fault, retry_after_s: float | None) -> None:
    pair.hub.knobs.build_status = status
    caught = await pair.fault()
    assert (caught.fault, caught.retry_after_s) == (fault, retry_after_s)
    assert "/hub/login" not in pair.hub.asked


async def test_a_page_instead_of_a_stream(pair: Pair) -> None:
    # As at any address that upstream does not know.
    member = Member("m", f"{pair.hub.url}elsewhere/", kind="binderhub")
    with pytest.raises(MemberFault) as caught:
        await anext(pair.client().build(member, ORDER))
    assert caught.value.fault == Fault.ANSWER


async def test_nobody_there(pair: Pair) -> None:
    await pair.hub.stop()
    for secrets in ({}, {"m": SECRET}):
        pair.secrets = dict(secrets)
        assert (await pair.fault()).fault == Fault.CONNECT
    assert not (await pair.client().probe(pair.member, 1)).reachable
    [(what, serious)] = await pair.findings()
    assert (what, serious) == ("It could not be reached: connection refused.", True)


async def test_a_hub_that_hangs(pair: Pair) -> None:
    pair.secrets["m"] = SECRET
    pair.hub.knobs.hang = True
    assert (await pair.fault()).fault == Fault.HANG


async def test_leaving_a_stream_closes_the_connection_and_cancel_does_nothing(pair: Pair) -> None:
    pair.hub.knobs.fails = "building", {"phase": "building", "message": "goes on"}
    client = pair.client()
    async with aclosing(client.build(pair.member, ORDER)) as stream:
        assert (await anext(stream)).event.phase == Phase.WAITING
        assert pair.hub.open_streams == 1
    asked = len(pair.hub.asked)
    await client.cancel(pair.member, ORDER.launch_id)
    assert len(pair.hub.asked) == asked
    async with asyncio.timeout(5):
        while pair.hub.open_streams:
            await asyncio.sleep(0.01)


# Build tokens


@pytest.mark.parametrize("secret", [SECRET, bytes.fromhex(SECRET), f" {SECRET}\n"])
@pytest.mark.parametrize(
    "spec", [SPEC, f"git/https%3A%2F%2Fgit.example%2Forg%2Frepo/{COMMIT}", "gh/%C3%A4%20b/c%2Fd/e/f"]
)
@pytest.mark.parametrize("public_url", ["", PUBLIC_URL, "http://Gateway.example:80/base/"])
async def test_a_signed_token_frees_from_the_rate_limit(
    pair: Pair, secret: str | bytes, spec: str, public_url: str
) -> None:
    pair.secrets["m"] = secret
    pair.hub.knobs.rate_limit = 1
    pair.hub.knobs.found = True
    for _ in range(3):
        assert (await pair.launch(spec, pair.client(public_url)))[-1].phase == Phase.READY
    assert pair.hub.with_token == [True] * 3
    assert not any(path.startswith("/v2/") for path in pair.hub.asked)


async def test_the_token_says_what_upstreams_own_would(pair: Pair) -> None:
    pair.secrets["m"] = SECRET
    await pair.launch(client=pair.client(wall=lambda: 4_000_000_000.7))
    claims = jwt.decode(pair.hub.tokens[-1], options={"verify_signature": False})
    assert claims == {"exp": 4_000_000_300, "aud": SPEC, "origin": "binder.example.org"}
    assert pair.hub.headers[-1]["Origin"] == "https://binder.example.org"


async def test_a_secret_that_is_text(pair: Pair) -> None:
    text = "no hexadecimal number, and long enough"
    pair.secrets["m"], pair.hub.knobs.secret = text, text.encode().hex()
    assert (await pair.launch())[-1].phase == Phase.READY


async def test_a_wrong_secret_is_nobodys_refusal(pair: Pair) -> None:
    pair.secrets["m"] = "00" * 32
    final = (await pair.launch())[-1]
    assert (final.failure, final.message) == (Failure.MEMBER, "Invalid build token\n")
    # Secrets are looked up anew each time: operators change them while the gateway runs.
    pair.secrets["m"] = SECRET
    assert (await pair.launch())[-1].phase == Phase.READY


@pytest.mark.parametrize("old_page", [True, False])
@pytest.mark.parametrize("public_url", ["", PUBLIC_URL])
async def test_a_token_from_a_page_frees_from_the_rate_limit(pair: Pair, old_page: bool, public_url: str) -> None:
    pair.hub.knobs.rate_limit = 1
    pair.hub.knobs.old_page = old_page
    for _ in range(3):
        assert (await pair.launch(client=pair.client(public_url)))[-1].phase == Phase.READY
    assert pair.hub.with_token == [True] * 3
    assert pair.hub.asked[:2] == [f"/v2/{SPEC}", f"/build/{SPEC}"]


async def test_without_any_token_the_rate_limit_counts(pair: Pair) -> None:
    pair.hub.knobs.page_token = False
    pair.hub.knobs.rate_limit = 2
    for _ in range(2):
        assert (await pair.launch())[-1].phase == Phase.READY
    final = (await pair.launch())[-1]
    assert (final.failure, final.fields["retry_after_s"]) == (Failure.REFUSED, 3600)
    assert pair.hub.with_token == [False, False]


async def test_a_page_that_hangs_or_asks_for_a_login_is_gone_without(pair: Pair) -> None:
    pair.hub.knobs.page_hang = True
    assert (await pair.launch())[-1].phase == Phase.READY
    pair.hub.knobs.page_hang, pair.hub.knobs.login = False, True
    final = (await pair.launch())[-1]
    assert (final.failure, final.message) == (Failure.REFUSED, "Forbidden\n")


@given(st.binary(max_size=70))
def test_secrets_are_read_as_upstream_reads_them(secret: bytes) -> None:
    assert secret_bytes(secret) == secret_bytes(secret.hex()) == secret_bytes(secret.hex().upper() + "\n") == secret
    assert secret_bytes(f"x{secret.hex()}") == f"x{secret.hex()}".encode()


# Whose failure it is

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


# Probes


@pytest.mark.parametrize(
    ("quota", "users", "expected"),
    [
        (10, 3, Sessions(3, 0, 10, 7)),
        (10, 10, Sessions(10, 0, 10, 0)),
        (10, 12, Sessions(12, 0, 10, 0)),
        (0, 0, Sessions(0, 0, 0, 0)),
        (0, 4, Sessions(4, 0, 0, 0)),
        (None, 3, None),
        (-1, 3, None),
        (10, -3, None),
        (True, 3, None),
        (10, True, None),
        (10**30, 3, None),
        (10, 10**30, None),
        (10.5, 3, None),
        ("10", 3, None),
        (10, None, None),
        ([10], 3, None),
    ],
)
async def test_a_probe_counts_sessions(pair: Pair, quota: Any, users: Any, expected: Sessions | None) -> None:
    pair.hub.knobs.quota, pair.hub.knobs.user_pods = quota, users
    result = await pair.client().probe(pair.member, 3)
    # Over quota or not: that check is for information.
    assert (result.reachable, result.passing, result.reason) == (True, True, "")
    assert result.sessions == expected
    assert [check.service for check in result.checks] == ["Docker registry", "JupyterHub API", "Pod quota"]


async def test_a_hub_that_is_not_on_kubernetes_counts_nothing(pair: Pair) -> None:
    pair.hub.knobs.has_quota = False
    result = await pair.client().probe(pair.member, 3, versions=True)
    assert (result.passing, result.sessions) == (True, None)
    assert result.versions["binderhub"] == "1.0.0"
    assert result.versions["builder_info.build_image"] == "quay.io/jupyterhub/repo2docker:2026"


async def test_a_failing_check_is_named_and_the_pod_quota_is_not(pair: Pair) -> None:
    pair.hub.knobs.hub_ok, pair.hub.knobs.user_pods = False, 12
    result = await pair.client().probe(pair.member, 3)
    assert (result.reachable, result.passing) == (True, False)
    assert result.reason == "It says that it is not healthy: JupyterHub API."
    assert result.sessions == Sessions(12, 0, 10, 0)


QUOTA_CHECK = {"service": "Pod quota", "ok": False, "quota": 1, "user_pods": 2, "_ignore_failure": True}


@pytest.mark.parametrize(
    ("status", "body", "passing", "reason"),
    [
        (503, json.dumps({"ok": False, "checks": [QUOTA_CHECK]}), True, ""),
        (200, json.dumps({"ok": False, "checks": [QUOTA_CHECK, 3, {"ok": False}]}), True, ""),
        (500, json.dumps({"ok": True, "checks": [QUOTA_CHECK]}), False, "HTTP 500"),
        (503, json.dumps({"ok": False, "checks": []}), False, "does not say what"),
        (503, json.dumps({"ok": False, "checks": [{"service": "Hub", "ok": True}]}), False, "does not say what"),
        (503, json.dumps({"ok": False, "checks": {"a": 1}}), False, "does not say what"),
        (503, "<html>", False, "HTTP 503 and no JSON"),
        (200, "<html>", False, "HTTP 200 and no JSON"),
        (200, "[" * 100_000, False, "no JSON"),
        (200, " " * (MAX_ANSWER + 1), False, "longer than"),
    ],
)
async def test_answers_to_a_probe(pair: Pair, status: int, body: str, passing: bool, reason: str) -> None:
    pair.hub.knobs.health = status, body
    result = await pair.client().probe(pair.member, 3)
    assert result.passing == passing
    assert reason in result.reason
    assert result.passing == (result.reason == "")


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["service", "ok", "quota", "user_pods", "_ignore_failure"]), inner)
        ),
        max_leaves=8,
    ),
    st.sampled_from([200, 500, 503]),
)
def test_whatever_checks_say_counts_stay_in_bounds(checks: Any, status: int) -> None:
    for listed in (checks, [checks], [{"service": "Pod quota", "quota": checks, "user_pods": checks}]):
        result = read_health(status, json.dumps({"ok": status == 200, "checks": listed}).encode(), {})
        if result.sessions is not None:
            assert result.sessions.limit is not None
            assert result.sessions.free is not None
            assert 0 <= result.sessions.free <= result.sessions.limit
            assert result.sessions.running >= 0


# Conformance


async def test_nothing_is_in_the_way(pair: Pair) -> None:
    pair.secrets["m"] = SECRET
    pair.hub.knobs.badge_base_url = PUBLIC_URL
    assert await pair.findings() == []
    assert pair.hub.builds == []
    assert pair.hub.counted == {}


async def test_without_a_secret_the_rate_limit_is_told(pair: Pair) -> None:
    pair.hub.knobs.badge_base_url = PUBLIC_URL
    [(what, serious)] = await pair.findings()
    assert "only 10 launches an hour" in what
    assert "asked for a token" in what
    assert not serious
    pair.hub.knobs.page_token = False
    [(what, serious)] = await pair.findings()
    assert "only 10 launches an hour" in what
    assert serious
    pair.hub.knobs.rate_limit = 1
    [(what, serious)] = await pair.findings()
    assert "only few launches an hour" in what
    assert serious
    pair.hub.knobs.rate_limit = 0
    assert await pair.findings() == []
    assert pair.hub.builds == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ban": "a cloud"}, ("It refuses requests from this gateway's address.", True)),
        ({"login": True}, ("It asks visitors to log in.", True)),
        ({"build_status": 307}, ("It asks visitors to log in.", True)),
        ({"build_status": 403}, ("It refuses requests from this gateway's address.", True)),
        ({"build_status": 404}, ("Its /build answers HTTP 404 with text/plain instead", True)),
        ({"broken": True}, ("It fails builds before it looks at them: Internal Server Error.", True)),
        ({"badge_base_url": ""}, ("Badges and links made there lead to the member itself", False)),
        ({"badge_base_url": "https://other.example/"}, ("Badges and links made there", False)),
        ({"health": (404, "")}, ("Its /health answers HTTP 404 and nothing", True)),
        ({"health": (200, "<html>")}, ("Its /health answers HTTP 200 and nothing", True)),
        ({"has_versions": False}, ("Its /versions answers HTTP 200 and nothing", False)),
        ({"has_quota": False}, ("Its /health does not count sessions: how full it is stays unknown.", False)),
        ({"quota": None}, ("It has no pod quota: how full it is stays unknown.", False)),
        ({"quota": 0}, ("Its pod quota is 0: it takes no launches.", True)),
        ({"secret": "00" * 32}, ("It does not take build tokens signed with the build_token_secret", True)),
    ],
)
async def test_what_is_in_the_way(pair: Pair, changes: dict[str, Any], expected: tuple[str, bool]) -> None:
    pair.secrets["m"] = SECRET
    pair.hub.knobs.badge_base_url = PUBLIC_URL
    for name, value in changes.items():
        setattr(pair.hub.knobs, name, value)
    [(what, serious)] = await pair.findings()
    assert what.startswith(expected[0])
    assert serious == expected[1]
    assert pair.hub.builds == []


async def test_a_hub_without_the_provider_that_most_have(pair: Pair) -> None:
    pair.hub.knobs.badge_base_url = PUBLIC_URL
    pair.hub.knobs.providers = ("git",)
    [(what, serious)] = await pair.findings()
    assert "asked for a token" in what
    assert not serious


async def test_badges_are_not_judged_where_the_gateways_address_is_not_known(pair: Pair) -> None:
    pair.secrets["m"] = SECRET
    assert await pair.findings("") == []


async def test_a_hub_that_hangs_is_a_finding(pair: Pair) -> None:
    pair.hub.knobs.page_hang = True
    [(what, serious)] = await pair.findings()
    assert (what, serious) == ("It did not answer within 3 s.", True)
