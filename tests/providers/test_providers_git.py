"""Git servers: real ones, hostile ones, and those at addresses that must not be reached."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from contract.repos import repo_key
from providers import internet, lsremote
from providers.base import ProviderUnavailableError, RefNotFoundError, Resolved, SpecError
from providers.git import choose
from providers.registry import Providers
from providers.settings import GitSettings, ProvidersSettings
from tests.gitserver import GitServer

Resolve = Callable[[str, str], Awaitable[Resolved]]


def git(directory: Path, *arguments: str) -> str:
    environ = {
        **{f"GIT_{who}_{what}": "x@y.z" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    done = subprocess.run(["git", *arguments], cwd=directory, env=environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A served repository: its commits by name, ``url`` and ``root`` beside them."""
    root = tmp_path_factory.mktemp("served")
    work = root / "repo.git"
    work.mkdir()
    git(work, "init", "--quiet", "--bare", "--initial-branch=trunk", ".")
    tree = git(work, "mktree")
    found = {}
    for name in ("trunk", "feature/main", "main", "v1", "twin-branch", "twin-tag"):
        found[name] = git(work, "commit-tree", "-m", name, tree)
    for branch in ("trunk", "feature/main", "main"):
        git(work, "update-ref", f"refs/heads/{branch}", found[branch])
    git(work, "tag", "-a", "-m", "annotated", "v1", found["v1"])
    git(work, "update-ref", "refs/heads/twin", found["twin-branch"])
    git(work, "update-ref", "refs/tags/twin", found["twin-tag"])
    for ref in ("refs/pull/7/head", "refs/merge-requests/5/head"):
        found[ref] = git(work, "commit-tree", "-m", ref, tree)
        git(work, "update-ref", ref, found[ref])
    git(work, "update-server-info")
    return {**found, "root": str(root)}


@pytest.fixture(scope="module")
def server(commits: dict[str, str]) -> Iterator[GitServer]:
    with GitServer(Path(commits["root"])) as server:
        yield server


@asynccontextmanager
async def providers(**git_settings: object) -> AsyncIterator[Providers]:
    settings = ProvidersSettings(git=GitSettings(**{"timeout": "90s", **git_settings}))
    async with aiohttp.ClientSession() as session:
        providers = Providers(settings, session)
        yield providers
        await providers.close()


@pytest.fixture
async def resolve() -> AsyncIterator[Resolve]:
    """Resolve a ref of a URL, internal addresses allowed."""
    async with providers(allow_private_addresses=True) as found:

        async def resolve(url: str, ref: str) -> Resolved:
            return await found.resolve(found.parse(f"git/{quote(url, safe='')}/{quote(ref)}"))

        yield resolve


@pytest.mark.parametrize("mode", ["smart", "old", "dumb"])
@pytest.mark.parametrize(
    ("ref", "commit"),
    [
        ("HEAD", "trunk"),
        ("main", "main"),
        ("feature/main", "feature/main"),
        ("refs/heads/trunk", "trunk"),
        ("heads/trunk", "trunk"),
        ("v1", "v1"),
        ("refs/tags/v1", "v1"),
        ("twin", "twin-branch"),
        ("tags/twin", "twin-tag"),
        ("refs/pull/7/head", "refs/pull/7/head"),
        ("refs/merge-requests/5/head", "refs/merge-requests/5/head"),
    ],
)
async def test_refs(
    server: GitServer, commits: dict[str, str], resolve: Resolve, mode: str, ref: str, commit: str
) -> None:
    url = server.url("repo", mode)
    resolved = await resolve(url, ref)
    assert resolved.commit == commits[commit]
    assert resolved.spec.repo_url == resolved.ref_url == url
    assert resolved.resolved_spec == f"git/{quote(url, safe='')}/{commits[commit]}"


async def test_a_commit_is_taken_as_it_is(resolve: Resolve) -> None:
    assert (await resolve("https://nowhere.invalid/r", "A" * 40)).commit == "a" * 40


@pytest.mark.parametrize(
    ("mode", "name", "ref"), [("smart", "repo", "none"), ("smart", "none", "main"), ("dumb", "none", "main")]
)
async def test_what_is_not_there(server: GitServer, resolve: Resolve, mode: str, name: str, ref: str) -> None:
    url = server.url(name, mode)
    with pytest.raises(RefNotFoundError) as caught:
        await resolve(url, ref)
    spec = f"{quote(url, safe='')}/{ref}"
    text = f"Could not resolve ref for git:{spec}. Double check your URL and that your repo is public."
    assert str(caught.value) == text


async def test_what_is_not_public_asks_nobody_for_a_password(server: GitServer, resolve: Resolve) -> None:
    with pytest.raises(RefNotFoundError, match="your repo is public"):
        await resolve(server.url("repo", "private"), "main")


async def test_a_private_repository_is_asked_with_the_credentials_of_its_server(
    server: GitServer, commits: dict[str, str]
) -> None:
    server.password = "someone:s3cr3t"
    url = server.url("repo", "private")
    good = {"url": f"http://127.0.0.1:{server.port}", "username": "someone", "password": "s3cr3t"}
    try:
        for entry, is_there in (
            (good, True),
            ({**good, "password": "other"}, False),
            ({**good, "url": "http://127.0.0.1:9"}, False),
        ):
            async with providers(allow_private_addresses=True, git_credentials=[entry]) as found:
                spec = found.parse(f"git/{quote(url, safe='')}/main")
                assert found.may_be_private(spec) is (entry["url"] == good["url"])
                if is_there:
                    assert (await found.resolve(spec)).commit == commits["main"]
                else:
                    with pytest.raises(RefNotFoundError) as caught:
                        await found.resolve(spec)
                    assert entry["password"] not in str(caught.value)
    finally:
        server.password = ""


async def test_a_shortened_commit_is_told(server: GitServer, commits: dict[str, str], resolve: Resolve) -> None:
    with pytest.raises(RefNotFoundError, match="give all 40 characters"):
        await resolve(server.url("repo"), commits["trunk"][:8])


async def test_a_server_that_fails(server: GitServer, resolve: Resolve) -> None:
    with pytest.raises(ProviderUnavailableError, match="did not say which refs it has"):
        await resolve(server.url("repo", "broken"), "main")


@pytest.mark.parametrize("scheme", ["http", "git", "ssh"])
async def test_a_port_where_nobody_listens(resolve: Resolve, scheme: str) -> None:
    with pytest.raises(ProviderUnavailableError):
        await resolve(f"{scheme}://127.0.0.1:1/repo.git", "main")


@pytest.mark.parametrize("banner", [b"", b"at work, come back later\r\n"])
async def test_an_ssh_server_that_hangs_up(resolve: Resolve, banner: bytes) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1") as server:
        with pytest.raises(ProviderUnavailableError):
            await resolve(f"ssh://git@127.0.0.1:{server.sockets[0].getsockname()[1]}/repo.git", "main")


def _children(marker: str) -> list[psutil.Process]:
    """Processes below this one that bear a text in their arguments."""
    found = []
    for child in psutil.Process().children(recursive=True):
        # One that has ended meanwhile has none any more.
        with suppress(psutil.Error):
            if marker in " ".join(child.cmdline()):
                found.append(child)
    return found


async def test_a_server_that_is_silent_leaves_no_process(server: GitServer) -> None:
    """``git ls-remote`` without a deadline."""
    url = server.url("repo", "silent")
    async with providers(allow_private_addresses=True, timeout="500ms") as found:
        with pytest.raises(ProviderUnavailableError, match=r"did not answer within 0\.5 seconds"):
            await found.resolve(found.parse(f"git/{quote(url, safe='')}/main"))
    assert not _children("silent")


async def test_a_lookup_that_is_given_up_leaves_no_process(server: GitServer) -> None:
    url = server.url("repo", "silent")
    seen = len(server.requests)
    async with providers(allow_private_addresses=True) as found:
        waiting = asyncio.create_task(found.resolve(found.parse(f"git/{quote(url, safe='')}/main")))
        async with asyncio.timeout(60):
            while len(server.requests) == seen:
                await asyncio.sleep(0.01)
        waiting.cancel()
    assert not _children("silent")


async def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> TestServer:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    return server


async def test_a_server_that_never_stops_talking(resolve: Resolve) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        lines = "".join(f"{n:040x}\trefs/heads/{n}/main\n" for n in range(2000)).encode()
        while True:
            await response.write(lines)

    hostile = await answering(flood)
    with pytest.raises(ProviderUnavailableError):
        await resolve(str(hostile.make_url("/repo.git")), "main")
    await hostile.close()


async def test_a_repository_that_moved(server: GitServer, commits: dict[str, str], resolve: Resolve) -> None:
    async def moved(request: web.Request) -> web.Response:
        target = server.url("repo") + request.path_qs.removeprefix("/old")
        return web.Response(status=301, headers={"Location": target})

    old = await answering(moved)
    resolved = await resolve(str(old.make_url("/old")), "main")
    assert resolved.commit == commits["main"]
    assert resolved.spec.repo_url == server.url("repo")
    # Nobody gets past a ban or a quota by way of a redirection.
    assert resolved.spec.repo == repo_key(server.url("repo"))
    await old.close()


@pytest.mark.parametrize("location", ["/login", "file:///etc/info/refs", "ssh://h/info/refs", "", "http://[/info/refs"])
async def test_redirections_that_lead_nowhere(resolve: Resolve, location: str) -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": location})

    old = await answering(redirect)
    with pytest.raises((RefNotFoundError, SpecError, ProviderUnavailableError)):
        await resolve(str(old.make_url("/repo")), "main")
    await old.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": 404}, RefNotFoundError),
        ({"status": 403}, RefNotFoundError),
        ({"status": 429, "headers": {"Retry-After": "30"}}, ProviderUnavailableError),
        ({"status": 503}, ProviderUnavailableError),
        ({"text": "<html>"}, RefNotFoundError),
        ({"body": b"zzzz", "content_type": "application/x-git-upload-pack-advertisement"}, ProviderUnavailableError),
        ({"body": b"", "content_type": "application/x-git-upload-pack-advertisement"}, ProviderUnavailableError),
    ],
    ids=["absent", "refused", "too-many", "away", "page", "garbage", "nothing"],
)
async def test_answers_of_a_server_that_does_not_tell_its_refs(
    resolve: Resolve, answer: dict[str, object], error: type[Exception]
) -> None:
    async def say(request: web.Request) -> web.Response:
        return web.Response(**answer)  # type: ignore[arg-type]

    faulty = await answering(say)
    with pytest.raises(error):
        await resolve(str(faulty.make_url("/repo.git")), "main")
    await faulty.close()


async def test_redirections_in_a_circle(resolve: Resolve) -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.path_qs})

    old = await answering(redirect)
    with pytest.raises(RefNotFoundError, match="redirects too often"):
        await resolve(str(old.make_url("/repo")), "main")
    await old.close()


async def test_a_redirection_to_an_internal_address(server: GitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def redirect(request: web.Request) -> web.Response:
        target = server.url("repo").replace("127.0.0.1", "127.0.0.2")
        return web.Response(status=302, headers={"Location": f"{target}/info/refs?service=git-upload-pack"})

    # No address of this machine is public; one of them is declared so.
    monkeypatch.setattr(internet, "is_public", lambda address: str(address) == "127.0.0.1")
    public = await answering(redirect)
    async with providers() as found:
        assert (await found.resolve(found.parse(f"git/{quote(server.url('repo'), safe='')}/main"))).commit
        with pytest.raises(SpecError, match=r"127\.0\.0\.2 is an internal address"):
            await found.resolve(found.parse(f"git/{quote(str(public.make_url('/repo')), safe='')}/main"))
    await public.close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
        "169.254.169.254",
        "0",
        "0x7f.1",
        "2130706433",
        "127.1",
        "0.0",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "192.168.1.1.",
        "100.64.0.1",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "ssh", "git"])
async def test_internal_addresses_are_refused(server: GitServer, scheme: str, host: str) -> None:
    """``git`` specs that reach internal addresses."""
    seen = len(server.requests)
    url = f"{scheme}://{host}:{server.port}/repo.git"
    async with providers() as found:
        with pytest.raises((SpecError, RefNotFoundError), match=r"internal address|There is no host"):
            await found.resolve(found.parse(f"git/{quote(url, safe='')}/main"))
    assert len(server.requests) == seen


async def test_only_so_many_servers_are_asked_at_a_time() -> None:
    here, most, gate = 0, 0, asyncio.Event()

    async def refs(request: web.Request) -> web.Response:
        nonlocal here, most
        here += 1
        most = max(most, here)
        await gate.wait()
        here -= 1
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{rest:.*}", refs)
    async with TestServer(app) as slow, providers(allow_private_addresses=True, concurrent=2) as found:
        specs = [found.parse(f"git/{quote(str(slow.make_url(f'/r{n}')), safe='')}/main") for n in range(6)]
        tasks = [asyncio.create_task(found.resolve(spec)) for spec in specs]
        async with asyncio.timeout(90):
            while here < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert most == 2
        gate.set()
        assert {type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)} == {RefNotFoundError}
        assert most == 2


async def test_who_finds_no_place_is_told_so() -> None:
    async def hold(request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    app = web.Application()
    app.router.add_get("/{rest:.*}", hold)
    server = TestServer(app)
    async with server as slow, providers(allow_private_addresses=True, concurrent=1, timeout="2s") as found:
        specs = [found.parse(f"git/{quote(str(slow.make_url(f'/r{n}')), safe='')}/main") for n in range(2)]
        first, second = await asyncio.gather(*map(found.resolve, specs), return_exceptions=True)
        assert "did not answer within 2 seconds" in str(first)
        assert isinstance(second, ProviderUnavailableError)
        assert "many Git servers just now" in str(second) or "did not answer" in str(second)


async def test_a_host_that_does_not_exist() -> None:
    async with providers() as found:
        spec = found.parse(f"git/{quote('https://nowhere.invalid/r', safe='')}/main")
        with pytest.raises((RefNotFoundError, ProviderUnavailableError)):
            await found.resolve(spec)


async def test_git_keeps_to_the_addresses_that_were_checked(server: GitServer, commits: dict[str, str]) -> None:
    result = await lsremote.ls_remote(
        f"http://checked.invalid:{server.port}/repo.git",
        ["main"],
        config=[f"http.curloptResolve=checked.invalid:{server.port}:127.0.0.1"],
        env=lsremote.environment(["http"]),
        timeout_s=90,
    )
    assert choose(result.output, "main") == commits["main"]


async def test_git_uses_nothing_of_this_machine(
    server: GitServer, resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text('[url "http://127.0.0.1:1/"]\n\tinsteadOf = http://127.0.0.1\n')
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "http.extraHeader")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Authorization: Basic secret")
    assert (await resolve(server.url("repo"), "main")).commit
    with pytest.raises(RefNotFoundError):
        await resolve(server.url("repo", "private"), "main")
