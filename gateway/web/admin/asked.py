"""A call of the API by somebody who may make it: what it says, and how what it does is written down."""

import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from aiohttp import hdrs, web

from contract.addresses import client_address
from contract.json_types import loads_object
from contract.units import parse_duration
from gateway.core.operators import Operator, Scope, refusal
from gateway.core.ports import RecordsAwayError
from gateway.core.records import AUDIT, Change, Record
from gateway.web.parts import Parts
from servicekit.problems import Problem

#: Whoever reads what was done has no use for these: secrets, even as digests, and what a provider says of people.
SECRET_FIELDS = frozenset({"digest", "claims"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A call; ``call`` names it for the log ("PUT bans"), ``address`` is whom it came from ("" = not known).

    ``given`` is what a form says, in the place of a JSON body.
    """

    request: web.Request
    parts: Parts
    operator: Operator
    call: str
    address: str
    given: Mapping[str, Any] | None = None

    async def require(self, scope: Scope, member: str | None = None) -> None:
        """Raises :class:`Problem` for who may not do what needs this scope, to this member; that is written down."""
        detail = refusal(self.operator, scope, member)
        if detail is not None:
            await self.refused(detail)

    async def refused(self, detail: str) -> NoReturn:
        """Refuse for want of a right, and write it down; ``detail`` is a sentence.  Raises :class:`Problem`."""
        if self.parts.operators.is_news(self.operator.name, self.call):
            with contextlib.suppress(Problem):
                await self.write(outcome="refused", detail=detail)
        raise Problem(403, "Not Allowed", detail)

    async def body(self, *known: str) -> dict[str, Any]:
        """The JSON object that was sent; raises :class:`Problem` for anything else, and for strange fields."""
        try:
            wire = loads_object(await self.request.read()) if self.given is None else dict(self.given)
        except ValueError as error:
            raise Problem(400, "Bad Request", f"The body must be a JSON object: {error}.") from error
        if strange := sorted(wire.keys() - set(known)):
            raise unprocessable(strange[0], f"is not a field of this (known: {', '.join(sorted(known))})")
        return wire

    async def write(self, *changes: Change, **fields: Any) -> None:
        """Write records, and who has done so, all or none; see :func:`write_act`.  Raises :class:`Problem`."""
        member = self.request.match_info.get("member", "")
        given = {"member": member, **fields} if member else fields
        await write_act(self.parts, self.operator, self.call, self.address, *changes, **given)


async def write_act(
    parts: Parts,
    operator: Operator,
    call: str,
    address: str,
    *changes: Change,
    quietly: Sequence[Change] = (),
    merged: Sequence[Record] = (),
    outcome: str = "done",
    **fields: Any,
) -> None:
    """Write records, and who has done so, all or none; without changes, what ``fields`` tell.

    Of ``quietly``, which goes without saying, and ``merged`` (see :meth:`RecordsPort.write`) nothing is told.

    Raises :class:`Problem`.
    """
    told = [{"kind": kind, "key": key, "value": shown(value)} for kind, key, value in changes]
    who = {
        "operator": operator.name,
        "role": operator.standing,
        "by": f"{operator.by} {operator.id}".strip(),
        "address": address,
        "call": call,
        "outcome": outcome,
    }
    acts = [Change(AUDIT, secrets.token_hex(8), {**who, **item, **fields}) for item in told or [{}]]
    try:
        await parts.records.write(*changes, *quietly, *acts, merged=merged)
    except RecordsAwayError as error:
        detail = f"This cannot be kept on the gateway's disk, and was not done: {error}"
        raise Problem(503, "Not Kept", detail) from error


Handler = Callable[[Asked], Awaitable[web.StreamResponse]]


def address_of(request: web.Request, parts: Parts) -> str:
    """Whom a call comes from, as far as trusted proxies tell."""
    forwarded = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
    return client_address(request.remote or "", forwarded, parts.trusted_proxies)


def answer(wire: Mapping[str, Any], status: int = 200) -> web.Response:
    """A JSON answer that nobody keeps."""
    return web.json_response(wire, status=status, headers={hdrs.CACHE_CONTROL: "no-store"})


def done() -> web.Response:
    """The answer to what leaves nothing to say."""
    return web.Response(status=204)


def text(wire: Mapping[str, Any], name: str) -> str:
    """A text; "" where it is not given.  Raises :class:`Problem`."""
    value = wire.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise unprocessable(name, "must be a text")
    return value


def duration(wire: Mapping[str, Any], name: str) -> float | None:
    """A duration such as 24h, in seconds; ``None`` where it is not given.  Raises :class:`Problem`."""
    if wire.get(name) is None:
        return None
    try:
        return parse_duration(str(wire[name]))
    except ValueError as error:
        raise unprocessable(name, str(error)) from error


def unprocessable(field: str, problem: str) -> Problem:
    """The answer to a field that will not do."""
    return Problem(422, "Unprocessable Content", f"{field}: {problem}", field=field)


def not_found(what: str) -> Problem:
    """The answer where there is no such thing; ``what`` is a sentence."""
    return Problem(404, "Not Found", what)


def shown(value: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A record's value as it may be told."""
    return None if value is None else {key: item for key, item in value.items() if key not in SECRET_FIELDS}
