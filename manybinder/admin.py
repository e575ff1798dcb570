"""``manybinder admin``: what operators decide, over the gateway's ``/api/v1/admin``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import click
from yarl import URL

from contract import json_types
from manybinder import public_api
from manybinder.errors import CommandError, Exit
from manybinder.terminal import for_people, plain, print_result, table


@dataclass(frozen=True, slots=True)
class Operator:
    """Who decides, where, and how it is shown."""

    gateway: str
    token_file: Path | None
    as_json: bool

    @property
    def token(self) -> str:
        """What proves it; raises :class:`CommandError`."""
        if self.token_file is None:
            raise CommandError("name the file with an operator's token: --token-file", Exit.USAGE)
        try:
            token = self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", error)
            raise CommandError(f"cannot read {self.token_file}: {reason}", Exit.USAGE) from error
        if not token or not token.isascii() or not token.isprintable():
            raise CommandError(f"{self.token_file} holds no token", Exit.USAGE)
        return token


async def ask(
    operator: Operator, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str
) -> dict[str, Any]:
    """One call of the API; raises :class:`CommandError`."""
    url = URL(f"{operator.gateway}api/v1/admin/{path}", encoded=True).update_query(query)
    headers = {"Authorization": f"Bearer {operator.token}"}
    async with public_api.client() as http:
        try:
            async with http.request(method, url, json=body, headers=headers, allow_redirects=False) as response:
                text = await response.text(errors="replace")
                if response.status == 204:
                    return {}
                if response.status in (200, 201):
                    return json_types.loads_object(text)
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise public_api.unreachable(operator.gateway, error) from error
        except ValueError as error:
            raise CommandError(f"{operator.gateway} gave an answer that is not understood: {error}") from error
    if status in (401, 403):
        raise CommandError(public_api.detail(text) or f"HTTP {status}", Exit.REFUSED)
    if status in (400, 404, 409, 422):
        raise CommandError(public_api.detail(text) or f"HTTP {status}", Exit.USAGE)
    raise public_api.refused(operator.gateway, status, text)


async def act(
    operator: Operator, said: str, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str
) -> Exit:
    """Do something, and say that it is done."""
    answer = await ask(operator, method, path, body, **query)
    if operator.as_json:
        click.echo(json_types.dumps(answer))
    else:
        for_people().print(said)
    return Exit.DONE


async def show_bans(operator: Operator) -> Exit:
    """Bans in force, and what members propose."""
    answer = await ask(operator, "GET", "bans")
    rows = []
    for kind in ("bans", "proposals"):
        for item in objects(answer.get(kind)):
            until = item.get("until")
            state = "in force" if kind == "bans" else f"proposed by {item.get('member')}"
            end = when(until) if isinstance(until, int | float) else "for ever"
            rows.append({**item, "state": state, "end": end})
    return show(
        operator, rows, {"name": "NAME", "state": "STATE", "end": "UNTIL", "reason": "WHY"}, "there are no bans"
    )


async def show_members(operator: Operator) -> Exit:
    """Every member, with what operators have set."""
    rows = []
    for item in objects((await ask(operator, "GET", "members")).get("members")):
        given = item.get("set")
        by_hand = [
            f"{key} {_set_at(value)}" for key, value in (given if isinstance(given, dict) else {}).items() if value
        ]
        free, reasons = item.get("believed_free"), item.get("reasons")
        shown = {
            "free": "?" if free is None else free,
            "set_by_hand": ", ".join(by_hand),
            "why": " ".join([*map(str, reasons if isinstance(reasons, list) else []), checked(item.get("check"))]),
        }
        rows.append(item if operator.as_json else {**item, **shown})
    columns = {"name": "MEMBER", "state": "STATE", "free": "FREE", "weight": "WEIGHT"}
    return show(operator, rows, {**columns, "set_by_hand": "SET BY OPERATORS", "why": "WHY"}, "there are no members")


def checked(check: Any) -> str:
    """What is to be said of a member's check."""
    if not isinstance(check, dict) or check.get("passed"):
        return ""
    if check.get("due"):
        return "It is being checked."
    steps = objects(check.get("steps"))
    return f"Its check has failed ({steps[-1].get('name')}): {steps[-1].get('said')}" if steps else ""


def _set_at(value: Any) -> str:
    at = value.get("at") if isinstance(value, dict) else None
    return f"since {when(at)}" if isinstance(at, int | float) else ""


async def show_whoami(operator: Operator) -> Exit:
    """As whom one is known."""
    answer = await ask(operator, "GET", "whoami")
    until, scopes = answer.get("expires_at"), answer.get("scopes")
    shown = {
        "until": when(until) if isinstance(until, int | float) else "for ever",
        "may": ", ".join(str(scope) for scope in scopes) if isinstance(scopes, list) else "",
    }
    columns = {"name": "NAME", "role": "ROLE", "member": "MEMBER", "may": "MAY", "until": "UNTIL", "address": "FROM"}
    return show(operator, [answer if operator.as_json else {**answer, **shown}], columns, "")


async def make_token(operator: Operator, body: Mapping[str, Any]) -> Exit:
    """Make a token; standard output has it and nothing else."""
    made = await ask(operator, "POST", "tokens", body)
    if operator.as_json:
        click.echo(json_types.dumps(made))
        return Exit.DONE
    until = made.get("expires_at")
    for_people().print(
        f"token {made.get('id')} of {made.get('name')}, role {made.get('role')}, holds until "
        f"{when(until) if isinstance(until, int | float) else '?'}; it is shown this once:"
    )
    click.echo(plain(str(made.get("token"))))
    return Exit.DONE


async def show_tokens(operator: Operator) -> Exit:
    """The tokens that were made and are not revoked."""
    rows = []
    for item in objects((await ask(operator, "GET", "tokens")).get("tokens")):
        until, used, scopes = item.get("expires_at"), item.get("last_used_at"), item.get("scopes")
        shown = {
            "role": f"{item.get('role')} {item.get('member') or ''}".strip(),
            "for": ", ".join(str(scope) for scope in scopes) if isinstance(scopes, list) else "",
            "until": "expired" if item.get("expired") else when(until) if isinstance(until, int | float) else "?",
            "used": when(used) if isinstance(used, int | float) else "never",
        }
        rows.append(item if operator.as_json else {**item, **shown})
    columns = {"id": "ID", "name": "NAME", "role": "ROLE", "for": "FOR", "until": "UNTIL", "used": "LAST USED"}
    return show(
        operator, rows, {**columns, "made_by": "MADE BY"}, "no tokens were made; the configuration may have some"
    )


async def show_quotas(operator: Operator) -> Exit:
    """All quotas."""
    answer = await ask(operator, "GET", "quotas")
    repos = answer.get("repos")
    limits = {"total": answer.get("total"), "per_repo": answer.get("per_repo")}
    limits.update(sorted(repos.items()) if isinstance(repos, dict) else [])
    rows = [{"name": name, "limit": limit} for name, limit in limits.items()]
    if not operator.as_json:
        rows = [{**row, "limit": "none" if row["limit"] is None else row["limit"]} for row in rows]
    return show(operator, rows, {"name": "QUOTA", "limit": "SESSIONS"}, "")


async def show_notes(operator: Operator) -> Exit:
    """What operators say to visitors."""
    rows = []
    for item in objects((await ask(operator, "GET", "notes")).get("notes")):
        at = item.get("at")
        shown = {"when": when(at) if isinstance(at, int | float) else "?", "about": item.get("member") or "all"}
        rows.append(item if operator.as_json else {**item, **shown})
    return show(
        operator, rows, {"id": "ID", "when": "WHEN", "about": "ABOUT", "text": "TEXT"}, "nothing is said to visitors"
    )


async def show_log(operator: Operator, **query: str) -> Exit:
    """What was decided, what changed and who did what, newest first."""
    rows = []
    given = {name: value for name, value in query.items() if value}
    for item in objects((await ask(operator, "GET", "log", None, **given)).get("entries")):
        at = item.get("at")
        shown = when(at) if isinstance(at, int | float) else "?"
        rows.append(item if operator.as_json else {**item, "when": shown, "text": _sentence(item)})
    columns = {"when": "WHEN", "kind": "KIND", "name": "WHAT", "who": "WHO", "text": "HOW"}
    return show(operator, rows, columns, "nothing of this kind was logged yet")


def _sentence(item: Mapping[str, Any]) -> str:
    if item.get("kind") == "transition":
        return f"{item.get('member')}: {item.get('before')} → {item.get('after')}. {item.get('reason')}"
    if item.get("kind") == "decision":
        return str(item.get("sentence"))
    if item.get("outcome") == "refused":
        return f"refused: {item.get('detail')}"
    if "value" not in item:
        return str(item.get("detail", ""))
    value = "taken back" if item["value"] is None else json_types.dumps(item["value"])
    return f"{item.get('what')} {item.get('key')}: {value}"


def show(operator: Operator, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], none: str) -> Exit:
    """Print rows, as a table or as JSON; ``columns`` are the fields with their titles."""
    if operator.as_json:
        for row in rows:
            click.echo(json_types.dumps(row))
        return Exit.DONE
    if not rows:
        for_people().print(none)
        return Exit.DONE
    print_result(table(tuple(columns.values()), ([row.get(name, "") for name in columns] for row in rows)))
    return Exit.DONE


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def when(at: float) -> str:
    """A Unix time for people."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return "?"
