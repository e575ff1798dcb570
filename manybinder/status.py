"""``manybinder status``: the members as the gateway sees them."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from contract import json_types
from manybinder import public_api
from manybinder.errors import CommandError, Exit, error_line
from manybinder.terminal import for_people, for_results, plain, print_result, table

_INTERVAL_S = 1.0

#: How long ago something was, or how soon it will be.
_AGE = re.compile(r"\d+ s\b")

_COLUMNS = ("MEMBER", "STATE", "SESSIONS", "FREE", "BUILDS", "IMAGES", "REPORT", "WHY")


async def status(gateway: str, *, as_json: bool, watch: bool) -> Exit:
    """Print the members; with ``watch`` again and again, until interrupted.  Raises :class:`CommandError`."""
    async with public_api.client() as http:
        if not watch:
            federation = await _federation(http, gateway)
            _print_json(federation) if as_json else print_result(_shown_federation(federation))
            return Exit.DONE
        if as_json:
            await _watch_json(http, gateway)
        elif (console := for_results()).is_terminal:
            await _watch_live(http, gateway, console)
        else:
            await _watch_changes(http, gateway)
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


async def _looks(http: aiohttp.ClientSession, gateway: str) -> AsyncIterator[dict[str, Any] | CommandError]:
    """The federation every second, or why it could not be asked; raises :class:`CommandError` if it never could."""
    yield await _federation(http, gateway)
    while True:
        await asyncio.sleep(_INTERVAL_S)
        try:
            yield await _federation(http, gateway)
        except CommandError as error:
            yield error


async def _watch_json(http: aiohttp.ClientSession, gateway: str) -> None:
    told = ""
    async for found in _looks(http, gateway):
        told = _tell_once(found, told)
        if not isinstance(found, CommandError):
            _print_json(found)


async def _watch_live(http: aiohttp.ClientSession, gateway: str, console: Console) -> None:
    """One table that changes."""
    with Live(console=console, auto_refresh=False) as live:
        async for found in _looks(http, gateway):
            if isinstance(found, CommandError):
                live.update(Text(plain(error_line(found)), style="red"), refresh=True)
            else:
                live.update(_shown_federation(found), refresh=True)


async def _watch_changes(http: aiohttp.ClientSession, gateway: str) -> None:
    """One table after the other, whenever there is something new in it."""
    told, shown = "", None
    async for found in _looks(http, gateway):
        told = _tell_once(found, told)
        if not isinstance(found, CommandError) and (news := _news(found)) != shown:
            if shown is not None:
                click.echo()
            print_result(_shown_federation(found))
            shown = news


def _tell_once(found: dict[str, Any] | CommandError, told: str) -> str:
    """Say on standard error why there is no answer, once as long as it is the same; returns what was said."""
    said = plain(error_line(found)) if isinstance(found, CommandError) else ""
    if said and said != told:
        click.echo(said, err=True)
    return said


def _news(federation: dict[str, Any]) -> object:
    """What of a federation is news when it changes: all that is shown but how long ago something was."""
    members = [[_AGE.sub("", cell) for cell in _row(member)] for member in federation["members"]]
    return _mapping(federation.get("status")).get("text"), members


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
