"""GitHub, against a server that answers as GitHub does."""

import asyncio
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from providers.base import ProviderUnavailableError, RefNotFoundError, SpecError, UnknownProviderError
from providers.github import GitHubProvider
from providers.registry import Providers, failure_text
from providers.settings import GitHubSettings, ProvidersSettings
from tests.fakes.github import FakeGitHub

A, B, C = "a" * 40, "b" * 40, "c" * 40


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def github() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as server:
        server.add("Org/Repo", HEAD=A, dev=B, **{"feature/x y": C})
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def providers(request: pytest.FixtureRequest, github: FakeGitHub, clock: Clock) -> AsyncIterator[Providers]:
    # A server that hangs is waited for until the deadline; nothing else is to depend on it.
    hangs = "hang" in request.node.name
    settings = ProvidersSettings(gh=GitHubSettings(api_url=github.api_url, timeout="3s" if hangs else "60s"))
    async with aiohttp.ClientSession() as session:
        providers = Providers(settings, session, clock, lambda: github.reset_at - 420.0 + clock.now - 1000.0)
        yield providers
        await providers.close()


async def test_a_branch_becomes_a_commit(providers: Providers) -> None:
    resolved = await providers.resolve(providers.parse("gh/Org/Repo/dev"))
    assert resolved.commit == B
    assert resolved.resolved_spec == f"gh/Org/Repo/{B}"
    assert resolved.ref_url == f"https://github.com/Org/Repo/tree/{B}"
    assert (resolved.spec.repo, resolved.spec.repo_url) == ("github.com/org/repo", "https://github.com/Org/Repo")


async def test_a_pull_request_becomes_a_commit(github: FakeGitHub, providers: Providers) -> None:
    github.add("org/pulled", **{"refs/pull/12/head": C})
    resolved = await providers.resolve(providers.parse("gh/org/pulled/refs/pull/12/head"))
    assert (resolved.commit, resolved.resolved_spec) == (C, f"gh/org/pulled/{C}")
    assert str(github.requests[-1]).count("/repos/org/pulled/commits/refs/pull/12/head") == 1


async def test_a_ref_with_slashes_and_spaces_encoded(providers: Providers) -> None:
    with pytest.raises(SpecError):
        providers.parse("gh/Org/Repo/feature/x%20y")  # Git knows no spaces in refs


async def test_letter_case_and_git_ending_make_no_second_request(github: FakeGitHub, providers: Providers) -> None:
    for spec in ("gh/Org/Repo/dev", "gh/org/repo.git/dev", "gh/ORG/REPO/dev/"):
        resolved = await providers.resolve(providers.parse(spec))
        assert resolved.commit == B
        assert resolved.spec.raw == spec.rstrip("/")
    assert len(github.requests) == 1


async def test_many_at_once_ask_once_and_one_that_leaves_harms_none(github: FakeGitHub, providers: Providers) -> None:
    spec = providers.parse("gh/org/repo/dev")
    first, *others = [asyncio.create_task(providers.resolve(spec)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    assert {(await task).commit for task in others} == {B}
    assert len(github.requests) == 1


async def test_a_changed_branch_is_seen_after_its_time_and_an_unchanged_one_is_free(
    github: FakeGitHub, providers: Providers, clock: Clock
) -> None:
    spec = providers.parse("gh/org/repo/dev")
    await providers.resolve(spec)
    clock.now += 61
    assert (await providers.resolve(spec)).commit == B
    assert (len(github.requests), github.charged) == (2, 1)
    github.repositories["org/repo"].refs["dev"] = C
    assert (await providers.resolve(spec)).commit == B  # within its time
    clock.now += 61
    assert (await providers.resolve(spec)).commit == C
    assert providers.github_quota == 58


async def test_a_commit_needs_no_request(github: FakeGitHub, providers: Providers) -> None:
    resolved = await providers.resolve(providers.parse(f"gh/org/repo/{C.upper()}"))
    assert resolved.commit == C
    assert not github.requests


@pytest.mark.parametrize("spec", ["gh/org/none/dev", "gh/org/repo/none"])
async def test_what_is_not_there_is_remembered_for_a_while(
    github: FakeGitHub, providers: Providers, clock: Clock, spec: str
) -> None:
    text = f"Could not resolve ref for gh:{spec[3:]}. Double check your URL and that your repo is public."
    for _ in range(2):
        with pytest.raises(RefNotFoundError) as caught:
            await providers.resolve(providers.parse(spec))
        assert str(caught.value) == text
    assert len(github.requests) == 1
    github.add("org/none", dev=A)
    github.repositories["org/repo"].refs["none"] = A
    clock.now += 301
    assert (await providers.resolve(providers.parse(spec))).commit == A


async def test_master_stands_for_the_default_branch(providers: Providers) -> None:
    resolved = await providers.resolve(providers.parse("gh/org/repo/master"))
    assert resolved.commit == A
    assert "Trying again with HEAD instead of master. Please update your links." in resolved.notes[0]
    with pytest.raises(RefNotFoundError, match=r'from "master" to "main"\. Tip: HEAD will always resolve'):
        await providers.resolve(providers.parse("gh/org/none/master"))


async def test_a_renamed_repository_is_followed(github: FakeGitHub, providers: Providers) -> None:
    github.add("org/old").moved_to = "org/repo"
    assert (await providers.resolve(providers.parse("gh/org/old/dev"))).commit == B


async def test_no_quota_left(github: FakeGitHub, providers: Providers, clock: Clock) -> None:
    github.quota = 0
    spec = providers.parse("gh/org/repo/dev")
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError) as caught:
            await providers.resolve(spec)
        assert str(caught.value) == "GitHub rate limit exceeded. Try again in 10 minutes."
        assert caught.value.retry_after_s == 420
    assert failure_text(spec, caught.value).startswith("Error resolving ref for gh:org/repo/dev: GitHub rate limit")
    assert len(github.requests) == 1, "GitHub is not asked again before its quota is back"
    clock.now += 421
    github.quota = 60
    assert (await providers.resolve(spec)).commit == B


async def test_too_many_requests_at_once(github: FakeGitHub, providers: Providers) -> None:
    github.status, github.headers = 429, {"Retry-After": "30"}
    with pytest.raises(ProviderUnavailableError, match="Try again in 5 minutes") as caught:
        await providers.resolve(providers.parse("gh/org/repo/dev"))
    assert caught.value.retry_after_s == 30


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": 403}, {"status": 304}, {"drop": True}, {"hang": True}, {"loop": True}]
    + [{"body": body} for body in (b"<html>", b"[]", b"{}", b'{"sha": 1}', b'{"sha": "main"}', b"[" * 100_000)],
    ids=lambda fault: str(fault)[:30],
)
async def test_faults_are_the_providers_and_not_remembered(
    github: FakeGitHub, providers: Providers, fault: dict[str, object]
) -> None:
    for name, value in fault.items():
        setattr(github, name, value)
    with pytest.raises(ProviderUnavailableError):
        await providers.resolve(providers.parse("gh/org/repo/dev"))
    github.mend()
    assert (await providers.resolve(providers.parse("gh/org/repo/dev"))).commit == B


async def test_github_is_not_there(providers: Providers, github: FakeGitHub) -> None:
    await github._runner.cleanup()
    with pytest.raises(ProviderUnavailableError, match="cannot be reached"):
        await providers.resolve(providers.parse("gh/org/repo/dev"))


async def test_credentials(github: FakeGitHub) -> None:
    github.token = "secret"
    async with aiohttp.ClientSession() as session:
        for token, accepted in (("secret", True), ("wrong", False)):
            settings = GitHubSettings(api_url=github.api_url, access_token=SecretStr(token))
            providers = Providers(ProvidersSettings(gh=settings), session)
            spec = providers.parse("gh/org/repo/dev")
            if accepted:
                assert (await providers.resolve(spec)).commit == B
            else:
                with pytest.raises(ProviderUnavailableError, match="credentials"):
                    await providers.resolve(spec)
            await providers.close()


async def test_an_oauth_application_signs_in_with_its_secret(github: FakeGitHub) -> None:
    settings = GitHubSettings(api_url=github.api_url, client_id="app", client_secret=SecretStr("word"))
    async with aiohttp.ClientSession() as session:
        providers = Providers(ProvidersSettings(gh=settings), session)
        assert (await providers.resolve(providers.parse("gh/org/repo/dev"))).commit == B
        await providers.close()
    assert aiohttp.BasicAuth.decode(github.requests[0].headers["Authorization"]) == ("app", "word", "latin1")
    assert "word" not in str(github.requests[0].rel_url)


async def test_an_enterprise_server_is_asked_and_cloned_from_by_its_own_name(github: FakeGitHub) -> None:
    settings = GitHubSettings(api_url=f"{github.api_url}/", host="github.example.org")
    async with aiohttp.ClientSession() as session:
        providers = Providers(ProvidersSettings(gh=settings), session)
        found = await providers.resolve(providers.parse("gh/Org/Repo/dev"))
        assert (found.commit, found.spec.repo_url) == (B, "https://github.example.org/Org/Repo")
        assert found.spec.repo == "github.example.org/org/repo"
        await providers.close()


async def test_an_app_signs_in_as_its_installation(github: FakeGitHub, clock: Clock) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    github.app_keys, github.token = {"12345": key.public_key()}, "ghs_one"
    app = {"api_url": github.api_url, "app_id": "12345", "app_private_key": pem, "app_installation_id": 42}
    async with aiohttp.ClientSession() as session:
        settings = ProvidersSettings.model_validate({"gh": app, "ref_ttl": "0s"})
        providers = Providers(settings, session, clock, lambda: 1_700_000_000.0 + clock.now)
        specs = [providers.parse(f"gh/org/repo/{ref}") for ref in ("dev", "HEAD")]
        assert [found.commit for found in await asyncio.gather(*map(providers.resolve, specs))] == [B, A]
        assert github.tokens_given == 1
        # It is replaced before it ends.
        github.token = "ghs_two"
        clock.now += 3400
        assert (await providers.resolve(specs[0])).commit == B
        assert github.tokens_given == 2
        await providers.close()
        for wrong in ({"app_id": "none"}, {"app_installation_id": 7}):
            settings = ProvidersSettings.model_validate({"gh": app | wrong})
            providers = Providers(settings, session, clock)
            with pytest.raises(ProviderUnavailableError, match="does not accept the credentials"):
                await providers.resolve(specs[0])
            await providers.close()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"client_id": "x"}, "client_id and client_secret go together"),
        ({"app_id": "x"}, "app_id, app_private_key and app_installation_id go together"),
        ({"app_id": "x", "app_installation_id": 1, "app_private_key": "x"}, "not a readable PEM private key"),
    ],
)
def test_half_credentials_are_an_error(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        GitHubSettings.model_validate(fields)


@pytest.mark.parametrize(
    "spec",
    ["", "org", "org/repo", "org/repo/", "org//main", "/repo/main", "../repo/main", "org/../main", "o g/repo/main"]
    + [
        f"org/repo/{ref}"
        for ref in ("-x", "a..b", "a%20b", "a~1", "a%5E", "a:b", "@", "a.lock", "%ff", "a%2F%2Fb", "%00")
    ],
)
def test_specs_that_are_none(providers: Providers, spec: str) -> None:
    with pytest.raises(SpecError):
        providers.parse(f"gh/{spec}")


def test_a_spec_without_a_ref_is_told_what_is_missing(providers: Providers) -> None:
    with pytest.raises(SpecError) as caught:
        providers.parse("gh/org/repo")
    assert str(caught.value) == (
        'Spec is not of the form "user/repo/ref", provided: "org/repo". Did you mean "org/repo/HEAD"?'
    )


@pytest.mark.parametrize("spec", ["nope/x/y", "", "GH/org/repo/main", "%67h/org/repo/main"])
def test_unknown_providers(providers: Providers, spec: str) -> None:
    with pytest.raises(UnknownProviderError, match=f"No provider found for prefix {spec.partition('/')[0]}"):
        providers.parse(spec)


def test_an_enterprise_server() -> None:
    settings = GitHubSettings(host="github.example.org")
    assert settings.api_base == "https://github.example.org/api/v3"
    assert GitHubSettings().api_base == "https://api.github.com"


_SHOWN = ["gh", "gist", "gl", "git", "zenodo", "figshare", "dataverse", "hydroshare", "ckan", "swh"]


def test_descriptions(providers: Providers) -> None:
    described = {description["id"]: description for description in providers.descriptions()}
    assert list(described) == list(providers.prefixes) == _SHOWN
    for description in described.values():
        assert {"displayName", "id", "spec", "repo", "ref"} <= set(description)
        assert {"label", "placeholder", "urlEncode"} == set(description["repo"])


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,10}", fullmatch=True)


@given(NAMES, NAMES, st.from_regex(r"[a-z0-9][a-z0-9_/-]{0,6}[a-z]", fullmatch=True).filter(lambda r: "//" not in r))
def test_good_specs_round_trip(owner: str, repo: str, ref: str) -> None:
    provider = GitHubProvider(GitHubSettings(), None)  # type: ignore[arg-type]  # parsing talks to nobody
    spec = provider.parse(f"{owner}/{repo}/{ref.replace('/', '%2F')}")
    assert (spec.repo_url, spec.ref) == (f"https://github.com/{owner}/{repo}", ref)
    assert spec.repo == f"github.com/{owner}/{repo}".lower()


def test_descriptions_are_binderhubs(providers: Providers) -> None:
    described = {item["id"]: item for item in providers.descriptions()}
    doi = r"10\.\d+\/(.)+"
    # What BinderHub's own providers say of themselves: names, the form of a spec, whether it is encoded, and refs.
    expected: dict[str, tuple[str, str, str, bool, str | None]] = {
        "gh": ("GitHub", r"[^/]+/[^/]+/.+", "GitHub repository name or URL", False, "HEAD"),
        "gist": ("GitHub Gist", r"[^/]+/[^/]+(/[^/]+)?", "Gist ID (username/gistId) or URL", False, "HEAD"),
        "gl": ("GitLab", r"[^/]+/.+", "GitLab repository name or URL", True, "HEAD"),
        "git": ("Git repository", r"[^/]+/.+", "Arbitrary git repository URL", True, "HEAD"),
        "zenodo": ("Zenodo DOI", doi, "Zenodo DOI", False, None),
        "figshare": ("FigShare DOI", doi, "FigShare DOI", False, None),
        "dataverse": ("Dataverse DOI", doi, "Dataverse DOI", False, None),
        "hydroshare": ("Hydroshare resource", r"[^/]+", "Hydroshare resource id", True, None),
        "ckan": ("CKAN dataset", r"[^/]+", "CKAN dataset URL", True, None),
    }
    for name, (shown, form, label, encoded, ref) in expected.items():
        item = described[name]
        assert (item["displayName"], item["spec"]["validateRegex"]) == (shown, form)
        assert (item["repo"]["label"], item["repo"]["urlEncode"]) == (label, encoded)
        assert item["ref"] == ({"enabled": False} if ref is None else {"enabled": True, "default": ref})
    for name, url in (
        ("gh", "https://github.com/"),
        ("gl", "https://gitlab.com/"),
        ("gist", "https://gist.github.com/"),
    ):
        # The name of the group is written as JavaScript does.
        found = re.match(described[name]["detect"]["regex"].replace("(?<", "(?P<"), f"{url}org/repo/")
        assert found is not None
        assert found["repo"] == "org/repo"
