"""A visitor ends a session, and meets its address again."""

import asyncio
import re

import aiohttp
import pytest
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer

pytestmark = pytest.mark.slow


async def test_a_visitor_ends_a_session_and_its_address_offers_another(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "leaving", {"requirements.txt": ""})
    spec = git_spec(git_server.url("leaving"))
    fields = ready(await federation.launch(http, spec))
    url, headers = fields["url"], {"Authorization": f"token {fields['token']}"}
    # As JupyterLab's own menu does.
    async with http.post(f"{url}api/shutdown", headers=headers) as response:
        assert response.status == 200
    page = {"Accept": "text/html"}
    async with asyncio.timeout(120):
        while True:
            try:
                async with http.get(f"{url}lab?token={fields['token']}", headers=page) as response:
                    text = await response.text()
                    if response.status == 410:
                        break
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
    assert "This session has ended" in text
    link = re.search(r'href="([^"]+)"', text)
    assert link is not None
    assert link[1] == f"{federation.url}/v2/{spec}"
    async with http.get(link[1]) as response:
        assert response.status == 200
        assert "buildToken" in await response.text()
