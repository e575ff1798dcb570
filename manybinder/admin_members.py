"""``manybinder admin``, as far as members come and go."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import click

from contract import json_types
from manybinder.admin import Operator, ask, objects, show, when
from manybinder.errors import CommandError, Exit
from manybinder.terminal import for_people, plain

#: Seconds between two looks at a member that is waited for.
_POLL_S = 1.0


async def make_join_token(operator: Operator, body: Mapping[str, Any]) -> Exit:
    """Make a join token; standard output has it and nothing else."""
    made = await ask(operator, "POST", "join-tokens", body)
    if operator.as_json:
        click.echo(json_types.dumps(made))
        return Exit.DONE
    until = made.get("expires_at")
    for_people().print(
        f"{made.get('name')} may join with this token, once, until "
        f"{when(until) if isinstance(until, int | float) else '?'}; it is shown this once:"
    )
    click.echo(plain(str(made.get("token"))))
    return Exit.DONE


async def show_join_tokens(operator: Operator) -> Exit:
    """The join tokens that were made and not revoked."""
    rows = []
    for item in objects((await ask(operator, "GET", "join-tokens")).get("join_tokens")):
        until, used, hosts = item.get("expires_at"), item.get("used_at"), item.get("hosts")
        shown = {
            "hosts": ", ".join(map(str, hosts)) if isinstance(hosts, list) else "",
            "until": "expired" if item.get("expired") else when(until) if isinstance(until, int | float) else "?",
            "used": when(used) if isinstance(used, int | float) else "no",
        }
        rows.append(item if operator.as_json else {**item, **shown})
    columns = {"id": "ID", "name": "MEMBER", "hosts": "HOSTS", "until": "UNTIL", "used": "USED"}
    return show(operator, rows, columns, "no join tokens were made")


async def show_alerts(operator: Operator) -> Exit:
    """The alerts that stand."""
    rows = []
    for item in objects((await ask(operator, "GET", "alerts")).get("alerts")):
        since = item.get("since")
        rows.append(item if operator.as_json else {**item, "since": when(since) if since else "?"})
    return show(operator, rows, {"since": "SINCE", "name": "ALERT", "member": "MEMBER", "said": "WHY"}, "all is quiet")


async def drain(operator: Operator, name: str, *, wait: bool, timeout_s: float) -> Exit:
    """Send a member no more launches, and wait until it is empty if told so; raises :class:`CommandError`."""
    await ask(operator, "PUT", f"members/{quote(name, safe='')}/policy", {"policy": "draining"})
    for_people().print(f"{name} is draining")
    held = 0
    deadline = time.monotonic() + timeout_s
    while wait:
        member = await _member(operator, name)
        found = _held(member)
        if found == 0:
            for_people().print(f"{name} is empty")
            break
        if found != held and found is not None:
            for_people().print(f"{name} holds {found} sessions and launches …")
        held = found if found is not None else held
        if time.monotonic() > deadline:
            what = f"still holds {held}" if found is not None else "does not report what it holds"
            raise CommandError(f"{name} {what}; it stays drained", Exit.FAILED)
        await asyncio.sleep(_POLL_S)
    if operator.as_json:
        click.echo(json_types.dumps({"name": name, "policy": "draining", "empty": wait}))
    return Exit.DONE


async def check(operator: Operator, name: str, *, wait: bool, timeout_s: float) -> Exit:
    """Have a member checked, and say what was found; raises :class:`CommandError`."""
    await ask(operator, "POST", f"members/{quote(name, safe='')}/check")
    deadline = time.monotonic() + timeout_s
    while wait:
        found = (await _member(operator, name)).get("check")
        if isinstance(found, dict) and not found.get("due"):
            return _told(operator, found)
        if time.monotonic() > deadline:
            raise CommandError(f"the check of {name} goes on; `manybinder admin members` tells its end", Exit.FAILED)
        await asyncio.sleep(_POLL_S)
    for_people().print(f"{name} is being checked")
    return Exit.DONE


def _told(operator: Operator, found: Mapping[str, Any]) -> Exit:
    for step in objects(found.get("steps")):
        if operator.as_json:
            click.echo(json_types.dumps(step))
        else:
            click.echo(plain(f"{'✗' if step.get('ok') is False else '✓'} {step.get('name')}: {step.get('said')}"))
    return Exit.DONE if found.get("passed") else Exit.FAILED


async def _member(operator: Operator, name: str) -> dict[str, Any]:
    for item in objects((await ask(operator, "GET", "members")).get("members")):
        if item.get("name") == name:
            return item
    raise CommandError(f"no member of the name {name} is registered", Exit.USAGE)


def _held(member: Mapping[str, Any]) -> int | None:
    """Sessions and launches of a member; ``None`` where it does not tell, or not any more."""
    capacity, age, reservations = (member.get(name) for name in ("capacity", "capacity_age_s", "reservations"))
    sessions = capacity.get("sessions") if isinstance(capacity, dict) else None
    if not isinstance(sessions, dict) or not isinstance(age, int | float) or age > _POLL_S * 15:
        return None
    counts = (sessions.get("running"), sessions.get("pending"), reservations)
    return sum(count for count in counts if isinstance(count, int))
