"""What gateways, orchestrators and monitors ask of a member."""

import json
from functools import cache
from importlib import resources
from typing import Any

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from member.web.parts import PARTS

_NO_STORE = {"Cache-Control": "no-store"}


async def health(request: web.Request) -> web.Response:
    """BinderHub's form: 200 if all checks pass, else 503."""
    checks = await request.app[PARTS].health.checks()
    ok = all(check.ok for check in checks)
    listed = [{"service": check.service, "ok": check.ok, "message": check.message} for check in checks]
    return web.json_response({"ok": ok, "checks": listed}, status=200 if ok else 503, headers=_NO_STORE)


async def versions(request: web.Request) -> web.Response:
    """BinderHub's form."""
    return web.json_response(request.app[PARTS].versions(), headers={"Access-Control-Allow-Origin": "*"})


async def capacity(request: web.Request) -> web.Response:
    """What this member can take; which repositories run here is the gateway's to know, and stays out."""
    report = (await request.app[PARTS].capacity.recent()).to_wire()
    shown = ("schema", "sessions", "builds", "memory_bytes", "cpu", "disk_bytes", "draining", "builder", "confined")
    return web.json_response({name: report[name] for name in shown}, headers=_NO_STORE)


async def livez(request: web.Request) -> web.Response:  # noqa: ARG001 - a handler
    """This process answers."""
    return web.json_response({"ok": True}, headers=_NO_STORE)


async def readyz(request: web.Request) -> web.Response:
    """Ready once all checks pass."""
    ok = all(check.ok for check in await request.app[PARTS].health.checks())
    return web.json_response({"ok": ok}, status=200 if ok else 503, headers=_NO_STORE)


async def metrics(request: web.Request) -> web.Response:
    """Prometheus."""
    body = generate_latest(request.app[PARTS].registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def openapi(request: web.Request) -> web.Response:
    """The description of this API (OpenAPI 3.1)."""
    site = request.app[PARTS].site
    description = dict(openapi_description())
    description["info"] = {**description["info"], "version": site.version}
    description["servers"] = [{"url": site.public_url.rstrip("/")}]
    return web.json_response(description)


@cache
def openapi_description() -> dict[str, Any]:
    """What stands in ``openapi.json``."""
    description: dict[str, Any] = json.loads(resources.files("member.web").joinpath("openapi.json").read_text())
    return description
