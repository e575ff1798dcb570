"""What is told to everybody of a launch: its event, and what of a spec may be in it."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import gateway
from contract.events import Phase
from contract.repos import repo_key
from gateway.core.launch import Outcome
from gateway.core.launch_events import FinishedLaunch, launch_event, request_origin
from gateway.core.redaction import public_spec, public_url
from providers.base import RepoSpec

COMMIT = "0123456789" * 4
TIMESTAMP = "2026-11-23T14:10:00+00:00"
PREFIXES = ("gh", "git", "gl", "gist", "zenodo", "figshare", "dataverse", "hydroshare", "ckan")

#: BinderHub's ``event-schemas/launch.json``, version 6, in what it demands.
LAUNCH_6 = {
    "properties": {
        "provider": {
            "enum": ["GitHub", "Gist", "GitLab", "Git", "Zenodo", "Figshare", "Hydroshare", "Dataverse", "CKAN"]
        },
        "spec": {"type": "string"},
        "ref": {"type": "string"},
        "status": {"enum": ["success", "failure"]},
        "build_token": {"type": "boolean"},
        "origin": {"type": "string"},
        "request_origin": {"type": "string"},
    },
    "type": "object",
}
FAILURE_1 = json.loads((Path(gateway.__file__).parent / "event_schemas/launch-failure.json").read_text())

jsonschema: Any = importlib.import_module("jsonschema")  # it has no types


def spec_of(raw: str) -> RepoSpec:
    """A spec as it might come from any provider."""
    url = f"https://host.example/{raw}"
    return RepoSpec(raw.partition("/")[0], raw, url, "HEAD", repo_key(url))


def git(url: str, ref: str = "main") -> str:
    """The spec of a Git server's repository."""
    return f"git/{quote(url, safe='')}/{ref}"


READY = FinishedLaunch(
    spec=spec_of("gh/org/repo/main"),
    outcome=Outcome.READY,
    ended_at=1000.0,
    host_url="https://gke.example.org:8443/binder/",
    commit=COMMIT,
    member="gke",
    attempts=2,
    phase=Phase.LAUNCHING,
    build_token=True,
    request_origin="https://docs.example.org",
)


def wire(launch: FinishedLaunch) -> dict[str, Any]:
    """The event as a reader of the archive has it."""
    found: dict[str, Any] = json.loads(json.dumps(launch_event(launch).to_wire(TIMESTAMP)))
    return found


def test_a_success_is_binderhubs_own_event() -> None:
    event = wire(READY)
    assert event == {
        "timestamp": TIMESTAMP,
        "schema": "binderhub.jupyter.org/launch",
        "version": 6,
        "provider": "GitHub",
        "spec": "org/repo/main",
        "ref": COMMIT,
        "status": "success",
        "build_token": True,
        "origin": "gke.example.org:8443",
        "request_origin": "https://docs.example.org",
    }
    assert list(event)[:3] == ["timestamp", "schema", "version"]
    assert launch_event(READY).at == 1000.0


def test_a_failure_says_whose_and_how_far() -> None:
    event = wire(replace(READY, outcome=Outcome.MEMBER, spec=spec_of(git("https://git.example/o/r"))))
    assert event == {
        "timestamp": TIMESTAMP,
        "schema": "manybinder/launch-failure",
        "version": 1,
        "provider": "Git",
        "spec": "https%3A%2F%2Fgit.example%2Fo%2Fr/main",
        "ref": COMMIT,
        "status": "failure",
        "build_token": True,
        "origin": "gke.example.org:8443",
        "request_origin": "https://docs.example.org",
        "failure": "member",
        "member": "gke",
        "attempts": 2,
        "phase": "launching",
    }


def test_what_was_never_resolved_is_not_told() -> None:
    event = wire(replace(READY, outcome=Outcome.USER, commit=""))
    assert (event["spec"], event["ref"], event["failure"]) == ("redacted", "", "user")


texts = st.text(max_size=30)
launches = st.builds(
    FinishedLaunch,
    spec=st.builds(
        lambda prefix, rest: spec_of(f"{prefix}/{quote(rest)}"), st.sampled_from(PREFIXES), texts | st.just("a/b/c")
    ),
    outcome=st.sampled_from(Outcome),
    ended_at=st.floats(0, 1e10),
    host_url=texts | st.sampled_from(["https://a.example/", "http://u:p@a.example/"]),
    commit=texts | st.just(COMMIT),
    member=texts,
    attempts=st.integers(0, 9),
    phase=st.sampled_from(Phase),
    build_token=st.booleans(),
    request_origin=texts,
    known_public=st.booleans(),
    may_be_private=st.booleans(),
)


@given(launches)
def test_every_event_is_of_its_schema(launch: FinishedLaunch) -> None:
    event = wire(launch)
    capsule = {name: event.pop(name) for name in ("timestamp", "schema", "version")}
    ready = launch.outcome == Outcome.READY
    schema = LAUNCH_6 if ready else FAILURE_1
    jsonschema.validate(event, schema, cls=jsonschema.Draft202012Validator)
    properties: Any = schema["properties"]
    assert set(event) == set(properties)
    assert (capsule["schema"], capsule["version"]) == (
        ("binderhub.jupyter.org/launch", 6) if ready else (FAILURE_1["$id"], FAILURE_1["version"])
    )


def test_the_schema_of_failures_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(FAILURE_1)
    assert set(FAILURE_1["properties"]["failure"]["enum"]) == {*Outcome} - {Outcome.READY}
    assert FAILURE_1["properties"]["phase"]["enum"] == [*Phase]
    # BinderHub's emitter adds these itself, and refuses a schema that has them.
    assert not {"timestamp", "schema", "version"} & set(FAILURE_1["properties"])


def test_a_provider_without_a_name_is_told_apart() -> None:
    with pytest.raises(ValueError, match="no name for the provider 'none'"):
        launch_event(replace(READY, spec=spec_of("none/rev")))


@pytest.mark.parametrize(
    ("origin", "fetch_site", "told"),
    [
        (None, None, ""),
        (None, "same-origin", "same-origin"),
        (None, "cross-site", "cross-site"),
        (None, "token=123", ""),
        ("https://docs.example.org", "cross-site", "https://docs.example.org"),
        ("https://Docs.example.org:8443", None, "https://docs.example.org:8443"),
        ("null", "cross-site", "null"),
        ("http://localhost:8888", None, "http://localhost:8888"),
        ("http://127.0.0.1:8585", None, "http://127.0.0.1:8585"),
        ("http://[::1]:8585", None, "http://[::1]:8585"),
        # Addresses of visitors.
        ("http://192.0.2.7:8888", None, ""),
        ("http://[2001:db8::7]", None, ""),
        ("http://3221225991", None, ""),
        ("http://0xC0.0.2.7", None, ""),
        # Ids of browsers.
        ("moz-extension://0b6e3f0c-6a80-4c5e-9b8b-000000000000", None, ""),
        # Forged.
        ("https://user:pass@docs.example.org", None, ""),
        ("https://docs.example.org/?token=123", None, ""),
        ("https://docs.example.org\n", None, ""),
        ("https://docs.ex\u00e4mple.org", None, ""),
    ],
)
def test_where_a_request_comes_from(origin: str | None, fetch_site: str | None, told: str) -> None:
    assert request_origin(origin, fetch_site) == told
    assert wire(replace(READY, request_origin=origin or fetch_site or ""))["request_origin"] == told


@pytest.mark.parametrize(
    "raw",
    [
        "gh/org/repo/HEAD",
        "gh/Org-1/re.po_2/feature/a-b#12",
        "gh/org/repo/v1.0%2Brc",
        git("https://git.example/o/r.git"),
        git("https://git.example:8443/~user/a%20b", "feature/x"),
        git("git@github.com:org/repo"),
        git("ssh://git@host:2222/o/r"),
        git("git://host/o"),
        git("http://[2001:db8::1]/o/r"),
        f"git/{quote(quote('https://git.example/o/r', safe=''), safe='')}/main",
        "gl/group%2Fsub%2Fproject/main",
        "zenodo/10.5281/zenodo.3242074",
        "zenodo/https%3A%2F%2Fdoi.org%2F10.5281%2Fzenodo.3242074",
        "figshare/10.6084/m9.figshare.9782777.v3",
        "dataverse/10.7910/DVN/TJCLKP",
        "hydroshare/b8f6eae9d89241cf8b5904033460af61",
        "hydroshare/https%3A%2F%2Fwww.hydroshare.org%2Fresource%2Fb8f6eae9d89241cf8b5904033460af61%2F",
        "ckan/https%3A%2F%2Fdemo.ckan.org%2Fdataset%2Fsample-dataset-1",
        f"swh/swh:1:rev:{COMMIT}",
    ],
)
def test_what_is_public_is_told_as_it_came(raw: str) -> None:
    assert public_spec(spec_of(raw)) == raw
    assert wire(replace(READY, spec=spec_of(raw)))["spec"] == raw.partition("/")[2]
    assert not launch_event(replace(READY, spec=spec_of(raw))).redacted


SECRET = "s3cr3t"
HIDDEN = [
    git(f"https://user:{SECRET}@git.example/o/r"),
    git(f"https://{SECRET}@git.example/o/r"),
    git(f"HTTPS://user:{SECRET}@git.example/o/r"),
    git(f"https:user:{SECRET}@git.example/o/r"),
    git(f"https:\\\\user:{SECRET}@git.example/o/r"),
    git(f"https:///user:{SECRET}@git.example/o/r"),
    git(f"//user:{SECRET}@git.example/o/r"),
    git(f"user:{SECRET}@git.example:o/r"),
    git(f"{SECRET}@git.example:o/r"),
    git(f"git:{SECRET}@git.example:o/r"),
    git(f"ssh://git:{SECRET}@git.example/o/r"),
    git(f"ssh://{SECRET}@git.example/o/r"),
    git(f"https://git.example/o/r?private_token={SECRET}"),
    git(f"https://git.example/o/r?{SECRET}"),
    git(f"https://git.example/o/r#{SECRET}"),
    git(f"https://git.example/o/r;token={SECRET}"),
    git(f"https://git.example/redirect/https://user:{SECRET}@host/"),
    git(f"https://user:{SECRET}\uff20git.example/o/r"),
    git(f"https\uff1a//user\uff1a{SECRET}\ufe6bgit.example/o/r"),
    git(f"https://git.example/user\uff1a{SECRET}\uff20host/r"),
    f"gh/org/repo/{quote(SECRET + chr(0xFF20))}github.com",
    git(f"https://git.example/o/r\nhttps://{SECRET}"),
    git(f"https://user:12/{SECRET}@git.example/o/r"),
    f"git/https:%2F%2Fuser:12/{SECRET}@git.example/o/r/main",
    git("https://git.example/o/r", f"https://user:{SECRET}@host/"),
    git(f"file:///home/{SECRET}/repo"),
    git(f"/home/{SECRET}/repo"),
    f"gh/org/repo/main?token={SECRET}",
    f"gh/org/repo/main%3Ftoken%3D{SECRET}",
    f"gh/org/repo/user:{SECRET}@github.com",
    f"gh/org/repo/{SECRET}@github.com",
    f"gh/user:{SECRET}@github.com/org/repo",
    f"gh/https:/user:{SECRET}@github.com/org/repo",
    f"gl/https%3A%2F%2Foauth2%3A{SECRET}%40gitlab.com%2Fo%2Fr/main",
    f"gl/{SECRET}/main",
    f"zenodo/https%3A%2F%2Fzenodo.org%2Frecord%2F1%3Ftoken%3D{SECRET}",
    f"ckan/https%3A%2F%2Fuser%3A{SECRET}%40demo.ckan.org%2Fdataset%2Fx",
    f"swh/swh:1:rev:{COMMIT};origin=https://{SECRET}@git.example/o/r",
    f"unknown/{SECRET}",
    SECRET,
    "",
    f"gh/org/repo/{SECRET * 400}",
    "gh/org/repo/%ff",
    "gh/org/repo/" + "%25" * 20 + "40",
]


@pytest.mark.parametrize("raw", HIDDEN)
@pytest.mark.parametrize("again", [0, 1, 2])
def test_what_is_not_for_everybody_is_not_told(raw: str, again: int) -> None:
    prefix, slash, rest = raw.partition("/")
    for _ in range(again):
        # Encoded once more, with its slashes and without them.
        rest = quote(rest, safe="/")
    for hidden in (f"{prefix}{slash}{rest}", f"{prefix}{slash}{quote(rest, safe='')}" if again else raw):
        assert public_spec(spec_of(hidden)) is None, hidden
        if prefix in PREFIXES:
            event = wire(replace(READY, spec=spec_of(hidden)))
            assert (event["spec"], event["ref"]) == ("redacted", "")
            assert launch_event(replace(READY, spec=spec_of(hidden))).redacted
            assert SECRET not in json.dumps(event)


@pytest.mark.parametrize(
    "token",
    [
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2_" * 10,
        "glpat-" + "a1B2-" * 4,
        "AKIA" + "Q1" * 8,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
        "hf_" + "aB" * 17,
    ],
)
def test_tokens_are_known_by_their_form(token: str) -> None:
    for raw in (
        f"gh/{token}/repo/HEAD",
        f"gh/org/repo/{token}",
        git(f"https://git.example/{token}/repo"),
        f"gl/o%2F{token}/main",
    ):
        assert public_spec(spec_of(raw)) is None, raw


def test_a_gist_is_a_secret_until_it_is_known_not_to_be() -> None:
    spec = spec_of(f"gist/user/{'0af9' * 8}")
    assert public_spec(spec) is None
    assert public_spec(spec, known_public=True) == spec.raw
    assert wire(replace(READY, spec=spec))["spec"] == "redacted"
    assert wire(replace(READY, spec=spec, known_public=True))["spec"] == f"user/{'0af9' * 8}"
    assert public_spec(spec_of(f"gist/user:{SECRET}@x/{'0af9' * 8}"), known_public=True) is None


def test_what_took_credentials_to_fetch_may_be_private_and_is_not_told() -> None:
    assert wire(READY)["spec"] != "redacted"
    event = wire(replace(READY, may_be_private=True))
    assert (event["spec"], event["ref"]) == ("redacted", "")


def test_urls_alone() -> None:
    assert public_url("https://github.com/org/repo") == "https://github.com/org/repo"
    for url in (f"https://user:{SECRET}@github.com/org/repo", f"https://h/o?t={SECRET}", "https://h/ghp_" + "a1" * 20):
        assert public_url(url) is None


# Whatever a password may be made of, percent-encoded in a URL or not.
secrets = st.text(min_size=4, max_size=20)
users = st.text("abcdefghijklmnopqrstuvwxyz", max_size=8)
schemes = st.sampled_from(
    ["https://", "http://", "ssh://", "git://", "HTTPS://", "", "//", "https:", "git+ssh://", "x/https://"]
)
hosts = st.sampled_from(["git.example", "10.0.0.1", "[2001:db8::1]", "localhost:80"])
tails = st.sampled_from(["/o/r", ":o/r", "/", "", "/o/r.git?x=1"])
shapes = st.sampled_from(
    [
        "{prefix}/{url}",
        "{prefix}/{url}/main",
        "{prefix}/org/{url}/main",
        "{prefix}/org/repo/{url}",
        "{prefix}/org%2F{url}",
    ]
)


@given(st.sampled_from(PREFIXES), shapes, schemes, users, secrets, hosts, tails, st.lists(st.booleans(), max_size=4))
@example("git", "{prefix}/{url}/main", "ssh://", "git", "secret", "git.example", "/o/r", [True])
def test_no_password_survives(
    prefix: str, shape: str, scheme: str, user: str, secret: str, host: str, tail: str, layers: list[bool]
) -> None:
    url = f"{scheme}{user}:{quote(secret, safe='')}@{host}{tail}"
    for slashes in layers:
        url = quote(url, safe="/:" if slashes else "")
    raw = shape.format(prefix=prefix, url=url)
    assert public_spec(spec_of(raw), known_public=True) is None
    event = wire(replace(READY, spec=spec_of(raw), known_public=True))
    assert (event["spec"], event["ref"]) == ("redacted", "")


@given(st.sampled_from(PREFIXES), st.text("abA01/:@%?#=&;\\. 23540FC-_", max_size=60), st.booleans())
@example("git", "https:%2f%2fa%40b%2fc/main", False)
def test_what_is_told_holds_no_user_and_no_query(prefix: str, rest: str, quoted: bool) -> None:
    raw = f"{prefix}/{quote(rest) if quoted else rest}"
    told = public_spec(spec_of(raw), known_public=True)
    if told is None:
        return
    assert told == raw
    plain = raw
    while unquote(plain) != plain:
        plain = unquote(plain)
    assert not set("?=&;\\") & set(plain)
    assert "@" not in plain.removeprefix("git/").removeprefix("ssh://").removeprefix("git@")
