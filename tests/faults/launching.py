"""What a test of faults does with a launch: follow it, act at a moment of it, and see that nothing was lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import aiohttp
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook

from contract.events import BuildEvent
from contract.launches import parse_event_id

#: Sees each event as it comes.
Watch = Callable[[BuildEvent], Awaitable[None]]


async def launch(
    federation: Federation, http: aiohttp.ClientSession, spec: str, watch: Watch | None = None
) -> list[BuildEvent]:
    """All events of a launch, which came as one whole stream with one end."""
    events, ids = [], []
    async with asyncio.timeout(500), aclosing(federation.events(http, spec)) as stream:
        async for event_id, event in stream:
            events.append(event)
            ids.append(parse_event_id(event_id))
            if watch is not None:
                await watch(event)
    assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
    assert len({parsed[0] for parsed in ids if parsed}) == 1
    assert [parsed[1] for parsed in ids if parsed] == list(range(len(events)))
    return events


async def works(http: aiohttp.ClientSession, events: list[BuildEvent], code: str = "print('on')") -> str:
    """That a launch became ready and its notebook runs a cell; returns what the cell printed.  The session is ended."""
    fields = ready(events)
    notebook = Notebook(http, fields["url"], fields["token"])
    said = await notebook.run(code, deadline_s=240)
    headers = {"Authorization": f"token {fields['token']}"}
    async with http.post(f"{notebook.url}api/shutdown", headers=headers) as response:
        assert response.status == 200
    return said


async def until_member(
    federation: Federation, http: aiohttp.ClientSession, name: str, deadline_s: float = 180, **expected: Any
) -> dict[str, Any]:
    """Wait until the gateway believes this of a member."""
    async with asyncio.timeout(deadline_s):
        while True:
            view = (await federation.members(http))[name]
            if all(view[key] == value for key, value in expected.items()):
                return view
            await asyncio.sleep(0.1)


async def until_all_available(federation: Federation, http: aiohttp.ClientSession, git_server: GitServer) -> None:
    """Wait until every member is in rotation; one that is out for what a test did to it is given its trials.

    Without any launch a member on trial stays so.
    """
    make_repo(git_server.root, "trial", {"requirements.txt": "six\n"})
    async with asyncio.timeout(300):
        while True:
            views = (await federation.members(http)).values()
            if all(view["state"] == "available" for view in views):
                return
            if any(view["health"] == "half_open" for view in views):
                assert await works(http, await launch(federation, http, git_spec(git_server.url("trial")))) == "on\n"
            await asyncio.sleep(0.1)
