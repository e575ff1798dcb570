"""Members that have joined: their registrations, the tokens that they join with, and how they are checked, as records.

Beside the members that a gateway's configuration names, and whose names they cannot take.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, get_args
from urllib.parse import urlsplit

from contract.addresses import ClientForm
from contract.reports import CapacityReport, Sessions
from gateway.core import origins
from gateway.core.fleet import Member

#: Kinds of records: a member that has joined, a token to join with (under its digest), how a member was checked, and a
#: key that speaks for nobody any more (under its fingerprint).
MEMBER, JOIN_TOKEN, CHECK, REVOKED_KEY = "member", "join-token", "check", "revoked-key"


class Stage(StrEnum):
    """How far a member has come in."""

    #: Registered; takes no launches until it was checked, and accepted.
    PENDING = "pending"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a member may join: what its join token was made with.

    ``hosts`` are those that its addresses may name (``hub.example.org``, ``*.example.org``); the numbers bound what its
    reports are believed to say: sessions, and images held.
    """

    hosts: tuple[str, ...]
    weight: float = 1.0
    labels: Mapping[str, str] | None = None
    client_form: ClientForm = "full"
    max_sessions: int | None = None
    max_images: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A join token as it is kept: for whom, on what terms, until when (Unix time), and what has become of it.

    ``replaces``: the member of this name is replaced, and its keys are void.  ``used_by`` is the fingerprint of the key
    that has joined with it.
    """

    member: str
    terms: Terms
    expires_at: float
    replaces: bool = False
    used_by: str = ""
    used_at: float | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """A member that has joined; ``keys`` are the public keys (PEM) of its reports, two while they are rotated."""

    name: str
    url: str
    hub_origin: str
    keys: tuple[str, ...]
    terms: Terms
    stage: Stage
    joined_at: float

    def member(self) -> Member:
        """The member as the rules know it."""
        terms = self.terms
        return Member(
            name=self.name,
            url=self.url,
            weight=terms.weight,
            labels=terms.labels or {},
            origins=(self.hub_origin,),
            client_form=terms.client_form,
            max_sessions=terms.max_sessions,
            max_images=terms.max_images,
            guarded=True,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a check: ``said`` is a sentence for people; ``ok`` ``None``: it does not count."""

    name: str
    ok: bool | None
    said: str


@dataclass(frozen=True, slots=True)
class Check:
    """A member's check: when it was asked for, when it ended (``None``: it has not yet), and its steps."""

    asked_at: float
    ended_at: float | None = None
    steps: tuple[Step, ...] = ()

    @property
    def is_due(self) -> bool:
        """Whether it is still to be made."""
        return self.ended_at is None or self.ended_at < self.asked_at

    @property
    def passed(self) -> bool:
        """Whether it was made, and nothing was found in the way."""
        return not self.is_due and bool(self.steps) and all(step.ok is not False for step in self.steps)


def host_problem(url: str, hosts: Sequence[str]) -> str | None:
    """Why a member may not have this address; ``None``: it may."""
    try:
        origins.origin(url)
    except ValueError as error:
        return str(error)
    if not url.isascii() or "?" in url or "#" in url:
        return "it must be ASCII text without a query (?) or a fragment (#), for paths are appended to it"
    host = (urlsplit(url).hostname or "").lower()
    for allowed in hosts:
        if host == allowed or (allowed.startswith("*.") and host.endswith(allowed[1:])):
            return None
    return f"its host {host} is none of those that the join token allows ({', '.join(hosts)})"


def capped(report: CapacityReport, member: Member) -> CapacityReport:
    """A report, as far as the member's registration lets it be believed."""
    if member.max_sessions is not None:
        report = replace(report, sessions=capped_sessions(report.sessions, member.max_sessions))
    if member.max_images is not None and len(report.images) > member.max_images:
        report = replace(report, images=report.images[: member.max_images])
    return report


def capped_sessions(sessions: Sessions, most: int) -> Sessions:
    """Sessions of a member that is believed to have room for ``most`` in all."""
    room = max(0, most - sessions.running - sessions.pending)
    limit = most if sessions.limit is None else min(most, sessions.limit)
    free = room if sessions.free is None else min(room, sessions.free)
    return replace(sessions, limit=limit, free=min(free, limit))


def terms_value(terms: Terms) -> dict[str, Any]:
    """Terms as they stand in a record."""
    return {
        "hosts": list(terms.hosts),
        "weight": terms.weight,
        "labels": dict(terms.labels or {}),
        "client_addresses": terms.client_form,
        "max_sessions": terms.max_sessions,
        "max_images": terms.max_images,
    }


def offer_value(offer: Offer) -> dict[str, Any]:
    """An offer as it stands in a record."""
    return {
        "member": offer.member,
        "terms": terms_value(offer.terms),
        "expires_at": offer.expires_at,
        "replaces": offer.replaces,
        "used_by": offer.used_by,
        "used_at": offer.used_at,
    }


def registration_value(registration: Registration) -> dict[str, Any]:
    """A registration as it stands in a record."""
    return {
        "url": registration.url,
        "hub_origin": registration.hub_origin,
        "keys": list(registration.keys),
        "terms": terms_value(registration.terms),
        "stage": registration.stage.value,
        "joined_at": registration.joined_at,
    }


def check_value(check: Check) -> dict[str, Any]:
    """A check as it stands in a record."""
    steps = [{"name": step.name, "ok": step.ok, "said": step.said} for step in check.steps]
    return {"asked_at": check.asked_at, "ended_at": check.ended_at, "steps": steps}


def read_terms(value: Mapping[str, Any]) -> Terms:
    """Terms from a record or a request; raises ``ValueError`` with the field at fault."""
    hosts, labels = value.get("hosts"), value.get("labels") or {}
    if not isinstance(hosts, list) or not hosts or not all(isinstance(host, str) and host for host in hosts):
        raise ValueError("hosts: must be a list of host names, and not empty")
    if not isinstance(labels, dict) or not all(isinstance(item, str) for pair in labels.items() for item in pair):
        raise ValueError("labels: must map texts to texts")
    weight = value.get("weight", 1.0)
    if not _is_number(weight) or not 0 <= weight <= 1e6:
        raise ValueError("weight: must be a number from 0 to 1000000")
    form: ClientForm = value.get("client_addresses") or "full"
    if form not in get_args(ClientForm):
        raise ValueError("client_addresses: must be full, truncated, hashed or none")
    counts = {}
    for name in ("max_sessions", "max_images"):
        count = counts[name] = value.get(name)
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= 10**6):
            raise ValueError(f"{name}: must be a count from 1 to 1000000")
    folded = tuple(host.lower() for host in hosts)
    return Terms(folded, float(weight), labels, form, counts["max_sessions"], counts["max_images"])


def read_offer(value: Mapping[str, Any]) -> Offer:
    """An offer from its record; raises ``ValueError``."""
    try:
        used_at = value["used_at"]
        return Offer(
            member=_text(value, "member"),
            terms=read_terms(value["terms"]),
            expires_at=_number(value, "expires_at"),
            replaces=value.get("replaces") is True,
            used_by=_text(value, "used_by"),
            used_at=None if used_at is None else _number(value, "used_at"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an offer: {error!r}") from error


def read_registration(name: str, value: Mapping[str, Any]) -> Registration:
    """A registration from its record; raises ``ValueError``."""
    try:
        return Registration(
            name=name,
            url=_text(value, "url"),
            hub_origin=_text(value, "hub_origin"),
            keys=tuple(str(key) for key in value["keys"]),
            terms=read_terms(value["terms"]),
            stage=Stage(value["stage"]),
            joined_at=_number(value, "joined_at"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a registration: {error!r}") from error


def read_check(value: Mapping[str, Any]) -> Check:
    """A check from its record; raises ``ValueError``."""
    try:
        steps = tuple(Step(_text(item, "name"), item.get("ok"), _text(item, "said")) for item in value["steps"])
        ended_at = value.get("ended_at")
        return Check(_number(value, "asked_at"), None if ended_at is None else _number(value, "ended_at"), steps)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a check: {error!r}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Mapping[str, Any], name: str) -> float:
    found = value[name]
    if not _is_number(found):
        raise ValueError(f"{name}: must be a number")
    return float(found)


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value[name]
    if not isinstance(found, str):
        raise ValueError(f"{name}: must be a text")
    return found
