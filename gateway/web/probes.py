"""What orchestrators and monitors ask: health, versions, liveness, readiness, metrics, the API's description."""

import json
from functools import cache
from importlib import resources
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from gateway.web.parts import PARTS

REGISTRY = web.AppKey("REGISTRY", CollectorRegistry)

_NO_STORE = {"Cache-Control": "no-store"}


async def health(request: web.Request) -> web.Response:
    """BinderHub's form: 200 if any member is available, else 503; members are told one by one."""
    parts = request.app[PARTS]
    fleet = parts.fleet
    snapshot, now = fleet.snapshot, fleet.now()
    checks: list[dict[str, Any]] = []
    available = 0
    for view in snapshot.members:
        status = snapshot.status(view, now)
        available += status.available
        checks.append(
            {
                "service": f"Member {view.name}",
                "ok": status.available,
                "state": status.state,
                "reasons": list(snapshot.reasons(view, now)),
                # One member that is away is what a federation is for.
                "_ignore_failure": True,
            }
        )
    if parts.replicas.shared:
        since = parts.replicas.away_since
        checks.append({"service": "Shared state", "ok": since is None, "since": since, "_ignore_failure": True})
    ok = available > 0
    checks.insert(0, {"service": "Members", "ok": ok, "available": available, "total": len(snapshot.members)})
    return web.json_response({"ok": ok, "checks": checks}, status=200 if ok else 503, headers=_NO_STORE)


async def versions(request: web.Request) -> web.Response:
    """The gateway's own version in BinderHub's form, and those of the members."""
    parts = request.app[PARTS]
    members = {view.name: dict(view.versions) for view in parts.fleet.snapshot.members}
    answer = {
        "builder_info": {},
        "binderhub": f"manybinder {parts.site.version}",
        "builder": "federation",
        "manybinder": parts.site.version,
        "members": members,
    }
    return web.json_response(answer, headers={"Access-Control-Allow-Origin": "*"})


async def livez(request: web.Request) -> web.Response:  # noqa: ARG001 - a handler
    """This process answers."""
    return web.json_response({"ok": True}, headers=_NO_STORE)


async def readyz(request: web.Request) -> web.Response:
    """Ready once each member has been probed, whatever came of it: without members there are still pages to serve.

    Not any more when it is about to end.
    """
    parts = request.app[PARTS]
    ready = parts.fleet.snapshot.probed and not parts.replicas.draining
    answer = {"ok": ready, "draining": parts.replicas.draining}
    return web.json_response(answer, status=200 if ready else 503, headers=_NO_STORE)


async def metrics(request: web.Request) -> web.Response:
    """Prometheus."""
    body = generate_latest(request.app[REGISTRY])
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def openapi(request: web.Request) -> web.Response:
    """The description of this API (OpenAPI 3.1)."""
    parts = request.app[PARTS]
    description = dict(openapi_description())
    description["info"] = {**description["info"], "version": parts.site.version}
    description["servers"] = [{"url": parts.site.public_url.rstrip("/")}]
    return web.json_response(description)


@cache
def openapi_description() -> dict[str, Any]:
    """What stands in ``openapi.json``."""
    description: dict[str, Any] = json.loads(resources.files("gateway.web").joinpath("openapi.json").read_text())
    return description
