"""The federation's API: the snapshot, decisions and reports."""

import random
from dataclasses import asdict
from typing import Any

from aiohttp import web

from contract.joining import NOTICE_HEADER
from frontend.links import LinkError, parse_link
from gateway.core.decision import Decision, LaunchRequest, decide
from gateway.core.fleet import FleetSnapshot, Health, MemberView
from gateway.core.headline import headline
from gateway.core.ports import ReportRefusedError
from gateway.core.versions import skew
from gateway.web.parts import PARTS, Parts
from providers.base import ProviderError, RepoSpec
from providers.refs import is_commit
from servicekit.problems import Problem

#: Transitions of each member that are shown.
SHOWN_HISTORY = 20

_NO_STORE = {"Cache-Control": "no-store"}


async def federation(request: web.Request) -> web.Response:
    """What routing believes of every member."""
    return web.json_response(federation_wire(request.app[PARTS]), headers=_NO_STORE)


def federation_wire(parts: Parts) -> dict[str, Any]:
    """What routing believes of every member, as a JSON object."""
    snapshot, now = parts.fleet.snapshot, parts.fleet.now()
    found = headline(snapshot, now, degraded=parts.replicas.away_since is not None)
    return {
        "name": parts.site.name,
        "public_url": parts.site.public_url,
        "version": parts.site.version,
        "mode": parts.mode,
        "policy": parts.fleet.settings.routing.policy,
        "at": now,
        "status": {"level": found.level.value, "text": found.text},
        "snapshot_version": snapshot.version,
        "launches": parts.launches.running,
        "waiting": parts.launches.waiting,
        "replicas": replicas_wire(parts),
        "degraded_since": parts.replicas.away_since,
        "members": [member_wire(snapshot, view, now, parts.site.version) for view in snapshot.members],
    }


def replicas_wire(parts: Parts) -> list[dict[str, Any]]:
    """The replicas of this gateway; ``disagrees`` names the members of which one believes something else than this."""
    states = {view.name: view.state for view in parts.fleet.snapshot.members}
    return [
        {
            "name": replica.name,
            "this": replica.name == parts.replicas.name,
            "version": replica.version,
            "started_at": replica.started_at,
            "launches": replica.launches,
            "draining": replica.draining,
            "disagrees": sorted(
                name for name, state in replica.states.items() if name in states and states[name] != state
            ),
        }
        for _, replica in sorted(parts.replicas.known.items())
    ]


def member_wire(snapshot: FleetSnapshot, view: MemberView, now: float, own_version: str) -> dict[str, Any]:
    """A member as a JSON object; ``since`` is Unix time in seconds, ``capacity`` the last report's whatever its age."""
    status = snapshot.status(view, now)
    report = view.received.report if view.received else None
    capacity: dict[str, Any] | None = None
    capacity_at: float | None = None
    if report is not None and view.received is not None:
        capacity = {"sessions": asdict(report.sessions), "builds": asdict(report.builds)}
        capacity_at = view.received.at
    elif view.counted is not None:
        capacity, capacity_at = {"sessions": asdict(view.counted.sessions), "builds": None}, view.counted.at
    return {
        "name": view.name,
        "url": view.member.url,
        "kind": view.member.kind,
        "state": status.state,
        "available": status.available,
        "health": status.health.value,
        "capacity_state": status.capacity.value,
        "policy": status.policy.value,
        "slow_start": round(status.slow_start, 3),
        "reasons": list(snapshot.reasons(view, now)),
        "since": view.since,
        "capacity": capacity,
        "capacity_age_s": None if capacity_at is None else round(now - capacity_at, 1),
        "believed_free": status.free,
        "reservations": len(view.reservations),
        "weight": view.weight,
        "labels": dict(view.labels),
        "providers": list(view.providers),
        "versions": dict(view.versions),
        "version_skew": skew(view.versions, own_version),
        "checks": [{"service": item.service, "ok": item.ok, "message": item.message} for item in view.checks],
        "builder": report.builder if report else None,
        "confined": report.confined if report else None,
        "images": len(report.images) if report else None,
        "history": [asdict(item) for item in view.history[-SHOWN_HISTORY:]],
    }


async def explain(request: web.Request) -> web.Response:
    """Which member would take a launch of a repository now, and why."""
    parts = request.app[PARTS]
    text = request.query.get("repo", "").strip()
    if not text:
        detail = "Name a repository: ?repo=https://github.com/org/repo, or ?repo=gh/org/repo/HEAD."
        raise Problem(400, "Bad Request", detail, parameter="repo")
    spec = _spec(parts, text)
    commit = spec.ref if is_commit(spec.ref) else None
    client, origin, member = (request.query.get(name, "") for name in ("client", "origin", "member"))
    decision = _decide(
        parts, LaunchRequest(spec.repo, commit, provider=spec.provider, client=client, origin=origin, asked=member)
    )
    return web.json_response({"spec": spec.raw, **decision.to_wire()}, headers=_NO_STORE)


def _spec(parts: Parts, text: str) -> RepoSpec:
    try:
        if text.partition("/")[0] in parts.providers.prefixes:
            try:
                return parts.providers.parse(text)
            except ProviderError:
                if text.count("/") > 1:
                    raise
                # A repository at GitHub may have such an owner: ckan/ckan.
        return parts.providers.parse(parse_link(text).path_spec)
    except (LinkError, ProviderError) as error:
        raise Problem(400, "Bad Request", str(error), parameter="repo") from error


def _decide(parts: Parts, request: LaunchRequest) -> Decision:
    draw = random.random()  # noqa: S311 - spreads load, hides nothing
    return decide(parts.fleet.snapshot, request, parts.fleet.settings.routing, parts.fleet.now(), draw)


async def report(request: web.Request) -> web.Response:
    """Take a member's capacity report."""
    try:
        token = (await request.read()).decode("ascii")
    except UnicodeDecodeError as error:
        raise Problem(401, "Not Signed", "A report is a signed token, which is ASCII text.") from error
    try:
        parts = request.app[PARTS]
        name = parts.reports.receive(token.strip())
    except ReportRefusedError as refusal:
        raise Problem(refusal.status, refusal.title, str(refusal)) from refusal
    return web.Response(status=204, headers={NOTICE_HEADER: parts.joining.notice(name)})


async def active_hosts(request: web.Request) -> web.Response:
    """The members in rotation, in the form of BinderHub's federation-redirect; none is prime."""
    parts = request.app[PARTS]
    snapshot, now = parts.fleet.snapshot, parts.fleet.now()
    hosts = {}
    for view in snapshot.members:
        status = snapshot.status(view, now)
        if status.available and status.health is Health.HEALTHY:
            url = view.member.url.rstrip("/")
            hosts[view.name] = {
                "url": url,
                "weight": view.weight,
                "health": f"{url}/health",
                "versions": f"{url}/versions",
                "prime": False,
            }
    return web.json_response({"active_hosts": hosts}, headers=_NO_STORE)
