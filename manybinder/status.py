"""``manybinder status``: the members as the gateway sees them."""

import asyncio
from typing import Any

import aiohttp
import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from contract import json_types
from manybinder import public_api
from manybinder.errors import CommandError, Exit
from manybinder.terminal import for_people, for_results, plain, table

_INTERVAL_S = 1.0

_COLUMNS = ("MEMBER", "STATE", "SESSIONS", "FREE", "BUILDS", "IMAGES", "REPORT", "WHY")


async def status(gateway: str, *, as_json: bool, watch: bool) -> Exit:
    """Print the members; with ``watch`` again and again, until interrupted.  Raises :class:`CommandError`."""
    async with public_api.client() as http:
        if not watch:
            federation = await _federation(http, gateway)
            _print_json(federation) if as_json else for_results().print(_shown_federation(federation))
            return Exit.DONE
        if as_json:
            await _watch_json(http, gateway)
        else:
            await _watch(http, gateway, for_results())
    return Exit.DONE


async def _federation(http: aiohttp.ClientSession, gateway: str) -> dict[str, Any]:
    answer = await public_api.get_object(http, gateway, "api/v1/federation")
    members = answer.get("members")
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise CommandError(f"{gateway} gave an answer that is not understood: it lists no members")
    return answer


def _print_json(federation: dict[str, Any]) -> None:
    for member in federation["members"]:
        click.echo(json_types.dumps(member))


async def _watch_json(http: aiohttp.ClientSession, gateway: str) -> None:
    while True:
        _print_json(await _federation(http, gateway))
        await asyncio.sleep(_INTERVAL_S)


async def _watch(http: aiohttp.ClientSession, gateway: str, console: Console) -> None:
    shown: RenderableType = _shown_federation(await _federation(http, gateway))
    with Live(shown, console=console, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                shown = _shown_federation(await _federation(http, gateway))
            except CommandError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)


def _shown_federation(federation: dict[str, Any]) -> RenderableType:
    """The state in one line, if the gateway tells it, and the members."""
    if not federation["members"]:
        for_people().print("the gateway has no members")
    made = table(_COLUMNS, (_row(member) for member in federation["members"]))
    said = _mapping(federation.get("status")).get("text")
    return Group(Text(plain(said)), Text(), made) if isinstance(said, str) else made


def _row(member: dict[str, Any]) -> list[str]:
    capacity = _mapping(member.get("capacity"))
    sessions, builds = _mapping(capacity.get("sessions")), _mapping(capacity.get("builds"))
    age = member.get("capacity_age_s")
    reasons = member.get("reasons")
    return [
        _shown(member.get("name")),
        _shown(member.get("state")),
        _of(sessions.get("running"), sessions.get("limit")),
        _shown(member.get("believed_free", sessions.get("free"))),
        _of(builds.get("running"), builds.get("limit")),
        _shown(member.get("images")),
        f"{age:.0f} s ago" if isinstance(age, int | float) else "none",
        " ".join(_shown(item) for item in reasons) if isinstance(reasons, list) else "",
    ]


def _of(used: Any, limit: Any) -> str:
    return _shown(used) if limit is None else f"{_shown(used)} of {_shown(limit)}"


def _shown(value: Any) -> str:
    return "?" if value is None else plain(str(value))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
