"""GitLab and gists, against servers that answer as theirs do."""

import asyncio

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.repos import repo_key
from member.core.images import image_name
from providers.base import ProviderUnavailableError, RefNotFoundError, SpecError
from providers.gist import GistProvider
from providers.gitlab import GitLabProvider
from providers.registry import Providers
from providers.settings import GistSettings, GitLabSettings
from tests.providers.conftest import World
from tests.providers.trouble import assert_deadline_met, each_refusal, once_asked_again

A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture(autouse=True)
def filled(world: World) -> None:
    world.gitlab.projects = {"group/sub/project": {"HEAD": A, "dev": B, "feature/x": C}}
    world.gists.add("8a658f7f63b13768d1e75fa2464f5092", "Someone", B, A)
    world.gists.add("5ec1e7", "Someone", C, public=False)


@pytest.mark.parametrize(
    ("spec", "commit"),
    [
        ("gl/group%2Fsub%2Fproject/HEAD", A),
        ("gl/Group%2FSub%2FProject.git/dev", B),
        ("gl/group%2fsub%2fproject/feature/x", C),
        (f"gl/group%2Fsub%2Fproject/{C.upper()}", C),
    ],
)
async def test_a_project_in_nested_groups(all_providers: Providers, spec: str, commit: str) -> None:
    found = await all_providers.resolve(all_providers.parse(spec))
    quoted = spec.split("/")[1]
    assert (found.commit, found.resolved_spec) == (commit, f"gl/{quoted}/{commit}")
    assert found.spec.repo == "gitlab.com/group/sub/project"
    assert found.spec.repo == repo_key("https://gitlab.com/group/sub/project.git")
    assert found.spec.repo_url.lower() == "https://gitlab.com/group/sub/project.git"
    assert found.ref_url.lower() == f"https://gitlab.com/group/sub/project/tree/{commit}"


async def test_a_server_of_ones_own_and_its_tokens(world: World, http: aiohttp.ClientSession) -> None:
    world.gitlab.token = "secret"
    for name, token, accepted in (
        ("private_token", "secret", True),
        ("access_token", "secret", True),
        ("private_token", "wrong", False),
        ("private_token", "", False),
    ):
        host = {"host": "git.example.org:8443", name: token}
        providers = Providers(world.settings(gl=host), http, world.clock)
        spec = providers.parse("gl/group%2Fsub%2Fproject/dev")
        assert spec.repo_url == "https://git.example.org:8443/group/sub/project.git"
        if accepted:
            assert (await providers.resolve(spec)).commit == B
        else:
            # Without a token, what asks for one is as good as not there.
            kind = ProviderUnavailableError if token else RefNotFoundError
            with pytest.raises(kind):
                await providers.resolve(spec)
        await providers.close()
    assert all("secret" not in str(request.rel_url) for request in world.gitlab.requests)


async def test_a_token_does_not_follow_a_redirect(world: World, http: aiohttp.ClientSession) -> None:
    settings = world.settings(gl={"private_token": "secret"}, zenodo={"urls": [world.zenodo.url]})
    providers = Providers(settings, http, world.clock)
    world.gitlab.redirect = f"{world.zenodo.url}/api/records/1"
    with pytest.raises(SpecError, match="internal address"):
        await providers.resolve(providers.parse("gl/group%2Fsub%2Fproject/dev"))
    assert not world.zenodo.requests
    await providers.close()


@pytest.mark.parametrize("spec", ["gl/group%2Fnone/HEAD", "gl/group%2Fsub%2Fproject/none"])
async def test_what_is_not_there_is_remembered_for_a_while(world: World, all_providers: Providers, spec: str) -> None:
    for _ in range(2):
        with pytest.raises(RefNotFoundError, match="Double check your URL and that your repo is public"):
            await all_providers.resolve(all_providers.parse(spec))
    assert len(world.gitlab.requests) == 1
    world.gitlab.projects = {"group/none": {"HEAD": A}, "group/sub/project": {"none": A}}
    world.clock.now += 301
    assert (await all_providers.resolve(all_providers.parse(spec))).commit == A


@pytest.mark.parametrize(
    "spec",
    ["gl/", "gl/group", "gl/group/HEAD", "gl/g%2Fproject", "gl/g%2Fproject/", "gl/g%2F..%2Fproject/HEAD"]
    + [f"gl/{rest}" for rest in ("g%2F%2Fproject/HEAD", "g%2Fpro%20ject/HEAD", "g%2Fproject/-x", "-a%2Fb/HEAD")],
)
def test_specs_that_are_none(all_providers: Providers, spec: str) -> None:
    with pytest.raises(SpecError):
        all_providers.parse(spec)


@pytest.mark.parametrize(
    ("end", "commit"), [("", B), ("/HEAD", B), ("/master", B), ("/main", B), (f"/{A}", A), (f"/{B.upper()}", B)]
)
async def test_a_gist(all_providers: Providers, end: str, commit: str) -> None:
    found = await all_providers.resolve(all_providers.parse(f"gist/someone/8a658f7f63b13768d1e75fa2464f5092{end}"))
    assert found.commit == commit
    assert found.resolved_spec == f"gist/someone/8a658f7f63b13768d1e75fa2464f5092/{commit}"
    assert found.spec.repo_url == "https://gist.github.com/Someone/8a658f7f63b13768d1e75fa2464f5092.git"
    assert found.spec.repo == "gist.github.com/someone/8a658f7f63b13768d1e75fa2464f5092"


@pytest.mark.parametrize("spec", ["gist/someone/0", f"gist/someone/8a658f7f63b13768d1e75fa2464f5092/{C}"])
async def test_a_gist_or_a_commit_of_it_that_is_not_there(all_providers: Providers, spec: str) -> None:
    with pytest.raises(RefNotFoundError, match="Could not resolve ref for gist:someone/"):
        await all_providers.resolve(all_providers.parse(spec))


async def test_a_secret_gist_is_refused_unless_allowed(world: World, http: aiohttp.ClientSession) -> None:
    for allowed in (False, True):
        providers = Providers(world.settings(gist={"allow_secret_gist": allowed}), http, world.clock)
        spec = providers.parse("gist/Someone/5ec1e7")
        if allowed:
            assert (await providers.resolve(spec)).commit == C
        else:
            with pytest.raises(RefNotFoundError, match="secret Gist"):
                await providers.resolve(spec)
        await providers.close()


async def test_a_gist_is_found_by_its_id_and_belongs_to_its_owner(all_providers: Providers) -> None:
    found = await all_providers.resolve(all_providers.parse("gist/anybody/8a658f7f63b13768d1e75fa2464f5092"))
    assert found.spec.repo == "gist.github.com/someone/8a658f7f63b13768d1e75fa2464f5092"


@pytest.mark.parametrize("server", ["gitlab", "gists"])
async def test_faults_are_the_providers_and_not_remembered(world: World, all_providers: Providers, server: str) -> None:
    specs = {"gitlab": "gl/group%2Fsub%2Fproject/dev", "gists": "gist/someone/8a658f7f63b13768d1e75fa2464f5092"}
    faulty, parsed = getattr(world, server), all_providers.parse(specs[server])
    bodies = (b"<html>", b"[]", b"{}", b'{"id": 1, "public": 1}', b'{"id": "main", "public": true, "history": [1]}')
    for name, value in [("status", 500), ("drop", True), ("loop", True), *(("body", body) for body in bodies)]:
        setattr(faulty, name, value)
        with pytest.raises(ProviderUnavailableError):
            await all_providers.resolve(parsed)
        faulty.mend()
    assert (await all_providers.resolve(parsed)).commit == B


HOST_SPECS = [("gitlab", "gl/group%2Fsub%2Fproject/dev"), ("gists", "gist/someone/8a658f7f63b13768d1e75fa2464f5092")]


@pytest.mark.parametrize(("server", "spec"), HOST_SPECS, ids=["gitlab", "gists"])
@each_refusal
async def test_who_refuses_for_now_is_left_alone(
    world: World, http: aiohttp.ClientSession, server: str, spec: str, status: int, headers: dict[str, str]
) -> None:
    # GitHub is told of in steps of five minutes.
    told = f"Try again in {5 if server == 'gists' else 2} minutes"
    assert await once_asked_again(world, http, server, spec, status, headers, told) == B


@pytest.mark.parametrize(("server", "spec"), HOST_SPECS, ids=["gitlab", "gists"])
async def test_a_server_that_hangs_meets_the_deadline(
    world: World, http: aiohttp.ClientSession, server: str, spec: str
) -> None:
    await assert_deadline_met(world, http, server, spec, ("gl", "gh"))


async def test_gists_share_the_quota_of_github(world: World, all_providers: Providers) -> None:
    world.gists.status, world.gists.headers = 429, {"Retry-After": "30"}
    for spec in ("gist/someone/8a658f7f63b13768d1e75fa2464f5092", "gh/org/repo/main"):
        with pytest.raises(ProviderUnavailableError, match="GitHub rate limit exceeded"):
            await all_providers.resolve(all_providers.parse(spec))
    assert len(world.gists.requests) == 1


async def test_many_at_once_ask_once(world: World, all_providers: Providers) -> None:
    specs = ["gl/group%2Fsub%2Fproject/dev", "gl/Group%2FSub%2FProject/dev"] * 5
    found = await asyncio.gather(*(all_providers.resolve(all_providers.parse(spec)) for spec in specs))
    assert {item.commit for item in found} == {B}
    assert len(world.gitlab.requests) == 1


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,10}", fullmatch=True)


@given(st.lists(NAMES, min_size=2, max_size=5), st.sampled_from(["main", "feature/x", A]))
def test_good_specs_round_trip(names: list[str], ref: str) -> None:
    gitlab = GitLabProvider(GitLabSettings(), None)  # type: ignore[arg-type]  # parsing talks to nobody
    spec = gitlab.parse(f"{'%2F'.join(names)}/{ref}")
    assert (spec.repo_url, spec.ref) == (f"https://gitlab.com/{'/'.join(names)}.git", ref)
    assert spec.repo == f"gitlab.com/{'/'.join(names)}".lower()
    gist = GistProvider(GistSettings(), None)  # type: ignore[arg-type]
    assert gist.parse(f"{names[0]}/abc123/{ref}").ref == ref


SAME = [
    (f"gl/group%2Fsub%2Fproject/{A}", f"git/https%3A%2F%2Fgitlab.com%2Fgroup%2Fsub%2Fproject.git/{A}"),
    (f"gl/Group%2Fproject/{A}", f"git/git@gitlab.com:group%2Fproject/{A}"),
    (f"gh/Org/Repo/{A}", f"git/https%3A%2F%2Fgithub.com%2Forg%2Frepo.git/{A}"),
    (f"gist/User/0AF9/{A}", f"git/https%3A%2F%2Fgist.github.com%2Fuser%2F0af9.git/{A}"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_repository_has_one_image_whichever_provider_it_came_by(
    all_providers: Providers, one: str, other: str
) -> None:
    keys = {all_providers.parse(spec).repo for spec in (one, other)}
    assert len(keys) == 1
    for spec in (one, other):
        # Nor does the ref make another.
        assert all_providers.parse(spec.replace(A, "main")).repo in keys
    assert len({image_name("m-", key, A) for key in keys}) == 1
