"""The client of a container engine (docker-py, which waits for its answers) inside of an event loop."""

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web

from member.builders.container.client import EngineClient
from member.builders.container.endpoint import Endpoint

IMAGE = "localhost/manybinder-repo:1"


async def _answer(request: web.Request) -> web.StreamResponse:
    """As an engine, as far as it goes."""
    # One turn of the loop for each, as for whoever else is served meanwhile.
    await asyncio.sleep(0)
    path = request.path.removeprefix("/v1.40")
    answers: dict[str, Any] = {
        "/version": {"Version": "1.2.3"},
        "/info": {"DockerRootDir": "/", "CgroupDriver": "systemd"},
        f"/images/{IMAGE}/json": {"Id": "sha256:abc"},
        "/images/json": [{"Id": "sha256:abc"}],
        "/containers/json": [{"ImageID": "sha256:abc"}],
        "/images/prune": {},
        f"/images/{IMAGE}/tag": {},
    }
    if path in ("/images/create", "/images/localhost/manybinder-repo/push"):
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        for status in ("begun", "done"):
            await response.write(json.dumps({"status": status}).encode() + b"\r\n")
            await asyncio.sleep(0)
        return response
    if path not in answers:
        return web.json_response({"message": "no such thing"}, status=404)
    return web.json_response(answers[path], status=201 if path.endswith("/tag") else 200)


async def test_no_call_to_the_engine_holds_the_event_loop_up(tmp_path: Path) -> None:
    """Blocking calls to Docker inside of the event loop.

    The engine is served by the very loop that asks it: a call that held the loop up would never be answered.
    """
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    client = EngineClient(Endpoint("docker", f"unix://{tmp_path}/engine.sock"))
    try:
        async with asyncio.timeout(60):
            assert await client.version() == "docker 1.2.3"
            assert (await client.about()).systemd
            assert await client.image(IMAGE) == {"Id": "sha256:abc"}
            assert await client.image("localhost/none:1") is None
            assert len(await client.images("a=b")) == 1
            assert await client.used_images() == {"abc"}
            await client.remove_untagged("1h")
            await client.tag(IMAGE, "localhost/other:1")
            await client.remove_container("none")
            assert [line async for line in client.pull(IMAGE, None)] == ["begun", "done"]
            assert [line async for line in client.push(IMAGE, None)] == ["begun", "done"]
    finally:
        await runner.cleanup()
