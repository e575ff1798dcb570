"""A session of who has logged in, as the Hub's spawner starts it: JupyterHub's single-user server, in the sandbox."""

from pathlib import Path

import aiohttp
import pytest
from builderkit import TOKEN, build_files, session, settings, traces
from gitserver import GitServer

from member.builders.choice import KINDS
from member.builders.process.builder import ProcessBuilder
from member.confine import confinement
from member.session import Session, SessionRequest
from tests.fakes.hub import FakeHub

AUTH = {"auth_enabled": True}


@pytest.mark.slow
async def test_a_session_asks_the_hub_who_comes(
    data_dir: Path, cache_dir: Path, git_server: GitServer, tmp_path: Path
) -> None:
    section = {"cache_dir": str(cache_dir), "confine": "required", "python_downloads": False}
    builder = ProcessBuilder(settings(data_dir, builder=section, **AUTH))
    await builder.start()
    try:
        outcome = await build_files(builder, git_server, "singleuser", {"data.txt": "from the repository"})
        assert outcome.failure is None, outcome.message
        async with FakeHub() as hub:
            hub.tokens |= {TOKEN: "someone", "of-somebody-else": "somebody"}
            hub.scopes = ("access:servers!user=someone",)
            environ = {
                "BINDER_REPO_URL": "http://git.example/repo",
                "JUPYTERHUB_USER": "someone",
                "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-someone",
                "JUPYTERHUB_BASE_URL": "/",
                "JUPYTERHUB_API_URL": f"{hub.url}hub/api",
                "JUPYTERHUB_ACTIVITY_URL": f"{hub.url}hub/api/users/someone/activity",
                "JUPYTERHUB_SERVICE_PREFIX": "/user/someone/",
                "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/someone/oauth_callback",
                "JUPYTERHUB_OAUTH_SCOPES": '["access:servers!user=someone"]',
                "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!user=someone"]',
            }
            async with session(data_dir, outcome.image, tmp_path, environ, singleuser=True, **AUTH) as started:
                code = "import os; print(open('data.txt').read(), os.environ['BINDER_REPO_URL'], os.getuid())"
                assert await started.notebook.run(code) == "from the repository http://git.example/repo 1000\n"
                async with aiohttp.ClientSession() as http:
                    url = started.notebook.url
                    async with http.get(f"{url}api/me", headers={"Authorization": f"token {TOKEN}"}) as response:
                        assert (await response.json())["identity"]["username"] == "someone"
                    # Whoever the Hub does not name is asked to log in there.
                    for headers in ({}, {"Authorization": "token of-nobody"}):
                        async with http.get(f"{url}api/status", headers=headers) as response:
                            assert response.status == 403
                    page = {"Accept": "text/html"}
                    async with http.get(f"{url}lab", headers=page, allow_redirects=False) as response:
                        assert response.status == 302
                        assert response.headers["Location"].startswith("/hub/api/oauth2/authorize?")
                    # What tells the member that it answers.
                    async with http.get(f"{url}api", allow_redirects=False) as response:
                        assert response.status == 200
            assert hub.count("activity") > 0
            assert TOKEN not in started.log.read_text()
    finally:
        await builder.close()
    assert not traces(data_dir)


@pytest.mark.parametrize("confine", ["auto", "required", "off"])
async def test_who_logs_in_is_kept_from_others_or_the_operator_has_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confine: str
) -> None:
    monkeypatch.setattr(confinement, "_binaries", list)
    section = {"confine": confine, "python_downloads": False}
    given = settings(tmp_path, builder=section, **AUTH)
    builder = ProcessBuilder(given)
    if confine == "off":
        assert KINDS["process"].look(given) == ()
        await builder.start()
        assert not builder.confined
    else:
        why = {
            "auto": r"auth_enabled: .* not confined: .*no bwrap program.*confine: off",
            "required": "'required', but",
        }
        with pytest.raises(RuntimeError, match=why[confine]):
            KINDS["process"].look(given)
        with pytest.raises(RuntimeError, match=why[confine]):
            await builder.start()
        # Nor does a session, if that comes later.
        with pytest.raises(RuntimeError, match=why[confine]):
            Session(given, SessionRequest("image", 1, "/user/x/", "x", singleuser=True)).open()
    await builder.close()
    # Where nobody logs in, the token of a session is all that there is of it.
    plain = ProcessBuilder(settings(tmp_path, builder={"confine": "auto", "python_downloads": False}))
    await plain.start()
    await plain.close()
