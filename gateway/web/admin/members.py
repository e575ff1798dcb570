"""What is wanted of members: whether they take launches, and how many beside the others."""

from typing import Any

from aiohttp import web

from contract.signatures import fingerprint, load_public_key
from gateway.core.fleet import MemberView, Policy
from gateway.core.operators import Role, Scope
from gateway.core.records import POLICY, SUSPENSION, WEIGHT, Book, Change, Record
from gateway.core.registration import CHECK, MEMBER, check_value, read_check, read_registration, terms_value
from gateway.core.wanted import policy_changes, wanted_policy
from gateway.web.admin.asked import Asked, answer, done, not_found, text, unprocessable
from gateway.web.federation import member_wire
from gateway.web.parts import Parts
from servicekit.problems import Problem

#: The greatest weight, as in the configuration.
MAX_WEIGHT = 1e6

#: What anybody who may drain a member may set; the rest is for who may say who belongs to the federation.
_ROUTED = frozenset({Policy.ACTIVE, Policy.DRAINING})


async def show(asked: Asked) -> web.Response:
    """Every member as routing sees it, with what operators have set."""
    return answer({"members": members_wire(asked.parts)})


def members_wire(parts: Parts) -> list[dict[str, Any]]:
    """Every member as routing sees it, with what operators have set, as JSON objects."""
    snapshot, now = parts.fleet.snapshot, parts.fleet.now()
    members = []
    for view in snapshot.members:
        wire = member_wire(snapshot, view, now, parts.site.version)
        wire["registered_weight"] = view.member.weight
        book = parts.records.book
        suspension = book.of(SUSPENSION).get(view.name)
        wire["set"] = {
            "policy": _set(suspension or book.get(POLICY, view.name)),
            "weight": _set(book.get(WEIGHT, view.name)),
        }
        wire["joined"] = joined_wire(parts.records.book, view.name) if view.member.guarded else None
        wire["check"] = check_wire(parts.records.book.of(CHECK).get(view.name))
        members.append(wire)
    return members


def joined_wire(book: Book, name: str) -> dict[str, Any] | None:
    """How a member is registered that has joined; its keys by their fingerprints."""
    record = book.of(MEMBER).get(name)
    try:
        found = read_registration(name, (record.value if record else None) or {})
        keys = [fingerprint(load_public_key(pem)) for pem in found.keys]
    except ValueError:
        return None
    value = {"at": found.joined_at, "stage": found.stage.value, "hub_origin": found.hub_origin, "keys": keys}
    return {**value, "terms": terms_value(found.terms)}


def check_wire(record: Record | None) -> dict[str, Any] | None:
    """How a member was checked."""
    try:
        found = read_check(record.value or {}) if record else None
    except ValueError:
        return None
    return None if found is None else {**check_value(found), "due": found.is_due, "passed": found.passed}


def _set(record: Record | None) -> dict[str, Any] | None:
    if record is None or record.value is None:
        return None
    return {**record.value, "at": record.written_at}


async def put_policy(asked: Asked) -> web.Response:
    """What is wanted of a member: ``{"policy": "active" | "draining" | "suspended", "from"?: what must hold now}``."""
    view = _member(asked)
    wire = await asked.body("policy", "from")
    policy, wanted_before = text(wire, "policy"), text(wire, "from")
    known = (Policy.ACTIVE, Policy.DRAINING, Policy.SUSPENDED)
    for name, given in (("policy", policy), ("from", wanted_before)):
        if given not in known and (given or name == "policy"):
            raise unprocessable(name, f"must be one of {', '.join(known)}")
    await asked.parts.records.sync()
    book = asked.parts.records.book
    before = Policy.PENDING if view.policy is Policy.PENDING else wanted_policy(book, view.name)
    if policy not in _ROUTED or before not in _ROUTED:
        # Whoever may drain a member could otherwise end a suspension.
        await asked.require(Scope.MEMBERS, view.name)
    if wanted_before and before not in (wanted_before, policy):
        raise Problem(409, "Not So", f"{view.name} is {before}, and not {wanted_before}; nothing was changed.")
    await asked.write(*policy_changes(book, view.name, Policy(policy)))
    return answer({"name": view.name, "policy": policy})


async def put_weight(asked: Asked) -> web.Response:
    """A member's size beside the others': ``{"weight": 0.5}``; 0 = takes no launches."""
    view = _member(asked)
    weight = _weight((await asked.body("weight")).get("weight"))
    if asked.operator.role is Role.MEMBER and weight > view.member.weight:
        # Else a member could draw all launches to itself.
        detail = (
            f"{view.name} is registered with the weight {view.member.weight:g}: its own operator may set that or less; "
            "for more, ask an operator of the federation."
        )
        await asked.refused(detail)
    await asked.write(Change(WEIGHT, view.name, {"weight": weight}))
    return answer({"name": view.name, "weight": weight})


async def drop_weight(asked: Asked) -> web.Response:
    """Go by the registered weight again."""
    view = _member(asked)
    if asked.parts.records.book.get(WEIGHT, view.name) is None or view.weight_set is None:
        raise not_found(f"No weight of {view.name} was set here; it has that of its registration.")
    await asked.write(Change(WEIGHT, view.name, None))
    return done()


def _member(asked: Asked) -> MemberView:
    name = asked.request.match_info["member"]
    view = asked.parts.fleet.snapshot.get(name)
    if view is None:
        raise not_found(f"No member of the name {name[:100]!r} is registered here.")
    return view


def _weight(given: object) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= MAX_WEIGHT:
        return float(given)
    raise unprocessable("weight", f"must be a number from 0 to {MAX_WEIGHT:g}")
