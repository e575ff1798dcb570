"""Takes members in: join tokens, joins, changes of keys, farewells.

Every request is signed by the member's own key; what a join token allows is kept under the token's digest, and a token
is used once, whichever replica hears of it first.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from contract.joining import SECRET_BYTES as TOKEN_SECRET
from contract.joining import (
    JoinRequest,
    JoinToken,
    Notice,
    Welcome,
    claimed_member,
    make_join_token,
    parse_join_token,
    read_farewell,
    read_join,
    read_key_change,
    sign_notice,
    sign_welcome,
)
from contract.signatures import SignatureRefusedError, fingerprint, load_public_key, public_pem
from gateway.clients.guard import AddressGuard
from gateway.clients.state.protocol import Quota, SharedState, StateUnavailableError
from gateway.core.alerts import AlertName, Alerts
from gateway.core.fleet import Policy
from gateway.core.operators import TOKEN
from gateway.core.origins import origin
from gateway.core.ports import JoinRefusedError, RecordsAwayError
from gateway.core.records import AUDIT, POLICY, SUSPENSION, WEIGHT, Change
from gateway.core.registration import (
    CHECK,
    JOIN_TOKEN,
    MEMBER,
    REVOKED_KEY,
    Check,
    Offer,
    Registration,
    Stage,
    check_value,
    host_problem,
    offer_value,
    read_offer,
    registration_value,
)
from gateway.core.signing import SigningKeys
from gateway.engines.fleet import Fleet
from gateway.engines.records import Records
from gateway.engines.registry import Registry

logger = logging.getLogger(__name__)

#: Seconds between two questions to the other replicas about what they have written.
ASK_EVERY = 0.2

#: Seconds beyond a join token's end for which it is remembered that it was used.
REMEMBERED = 3600.0


class Joining:
    """``issuer`` is the gateway's public URL; ``wall`` is Unix time."""

    def __init__(
        self,
        *,
        records: Records,
        registry: Registry,
        fleet: Fleet,
        state: SharedState,
        keys: SigningKeys,
        guard: AddressGuard,
        alerts: Alerts,
        issuer: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._records, self._registry, self._fleet, self._state = records, registry, fleet, state
        self._keys, self._guard, self._alerts, self._issuer, self._wall = keys, guard, alerts, issuer, wall

        self._heard_at = 0.0
        self._joining = asyncio.Lock()

    def make_token(self, offer: Offer) -> tuple[JoinToken, Change]:
        """A new join token, and the record to write of it; raises :class:`JoinRefusedError`."""
        name = offer.member
        if name in self._registry.configured:
            detail = f"{name} stands in the gateway's configuration, and needs no join token."
            raise JoinRefusedError(409, "Configured", detail)
        if name in self._registry.joined and not offer.replaces:
            detail = f"{name} is a member already; to replace it, ask for a token that does (--replace)."
            raise JoinRefusedError(409, "A Member Already", detail)
        if name not in self._registry.joined and offer.replaces:
            raise JoinRefusedError(404, "No Member", f"There is no member {name} that could be replaced.")
        token = make_join_token(name, self._keys.current.public_key(), secrets.token_bytes(TOKEN_SECRET))
        return token, Change(JOIN_TOKEN, token.digest, offer_value(offer))

    async def join(self, bearer: str, body: str, address: str) -> str:
        """Register a member; returns its welcome, signed.  Raises :class:`JoinRefusedError`.

        ``address`` is whom the request comes from, for the log.
        """
        token, request = self._read(bearer, body)
        await self._hear_others()
        # One after the other: replicas of a member may join at the same time, with one key.
        async with self._joining:
            return await self._join(token, request, address)

    async def _join(self, token: JoinToken, request: JoinRequest, address: str) -> str:
        offer = self._offer(token)
        key = fingerprint(request.key)
        if offer.used_by and offer.used_by != key:
            await self._reused(token, address)
        if self._records.book.of(REVOKED_KEY).get(key) is not None:
            raise JoinRefusedError(403, "Revoked", "This key was revoked; make a new one to join.")
        if offer.used_by:
            # The answer to its own request was lost.
            return self._welcome(token)
        await self._check_addresses(request, offer)
        self._check_free(request, token.member)
        await self._use(token, key, offer, address)
        await self._register(token, request, offer, address)
        return self._welcome(token)

    async def change_keys(self, body: str) -> None:
        """Go by other keys of a member from now on; raises :class:`JoinRefusedError`."""
        await self._hear_others()
        registration = self._signer(body)
        try:
            change = read_key_change(body, [load_public_key(pem) for pem in registration.keys])
        except SignatureRefusedError as error:
            raise self._forged(registration, error) from error
        self._check_addressed(change.issuer, change.sent_at)
        if any(self._records.book.of(REVOKED_KEY).get(fingerprint(key)) for key in change.keys):
            raise JoinRefusedError(403, "Revoked", "One of these keys was revoked; make a new one.")
        keys = tuple(public_pem(key) for key in change.keys)
        gone = [pem for pem in registration.keys if pem not in keys]
        if set(gone) == set(registration.keys):
            raise JoinRefusedError(422, "No Key Left", "One of the keys that are registered must stay, for now.")
        changed = replace(registration, keys=keys)
        shown = {"keys": [fingerprint(key)[:16] for key in change.keys]}
        await self._write(
            registration.name,
            "POST keys",
            Change(MEMBER, registration.name, registration_value(changed)),
            *_revoked(gone, registration.name),
            value=shown,
        )

    async def leave(self, body: str) -> None:
        """Let a member go that holds no sessions any more; raises :class:`JoinRefusedError`."""
        await self._hear_others()
        registration = self._signer(body)
        try:
            farewell = read_farewell(body, [load_public_key(pem) for pem in registration.keys])
        except SignatureRefusedError as error:
            raise self._forged(registration, error) from error
        self._check_addressed(farewell.issuer, farewell.sent_at)
        self._check_idle(registration.name)
        changes = self.removal(registration.name)
        await self._write(registration.name, "POST leave", *changes, value=None)

    def removal(self, name: str) -> list[Change]:
        """What to write so that a member belongs here no more; raises :class:`JoinRefusedError`."""
        registration = self._registry.joined.get(name)
        if registration is None:
            if name in self._registry.configured:
                detail = f"{name} stands in the gateway's configuration; take it out there."
                raise JoinRefusedError(409, "Configured", detail)
            raise JoinRefusedError(404, "No Member", f"No member of the name {name[:100]!r} has joined.")
        book = self._records.book
        left = [Change(kind, name, None) for kind in (POLICY, SUSPENSION, WEIGHT, CHECK) if name in book.of(kind)]
        # Its operators would go on reading here, and operate whoever has its name next.
        tokens = [key for key, record in book.of(TOKEN).items() if (record.value or {}).get("member") == name]
        left += [Change(TOKEN, key, None) for key in tokens]
        # Who holds one of these would be back in its place; that one was used is worth knowing, if it is tried again.
        offers = {key: record.value or {} for key, record in book.of(JOIN_TOKEN).items()}
        unused = [key for key, offer in offers.items() if offer.get("member") == name and not offer.get("used_by")]
        left += [Change(JOIN_TOKEN, key, None) for key in unused]
        return [Change(MEMBER, name, None), *_revoked(registration.keys, name), *left]

    def acceptance(self, name: str) -> list[Change]:
        """What to write so that a member that is pending takes launches; raises :class:`JoinRefusedError`."""
        registration = self._registry.joined.get(name)
        if registration is None:
            raise JoinRefusedError(404, "No Member", f"No member of the name {name[:100]!r} has joined.")
        if registration.stage is Stage.ACCEPTED:
            raise JoinRefusedError(409, "Accepted", f"{name} is accepted already.")
        return [Change(MEMBER, name, registration_value(replace(registration, stage=Stage.ACCEPTED)))]

    def check_request(self, name: str) -> list[Change]:
        """What to write so that a member is checked (again); raises :class:`JoinRefusedError`."""
        view = self._fleet.snapshot.get(name)
        if view is None or view.member.kind != "manybinder":
            raise JoinRefusedError(404, "No Member", f"There is no member {name[:100]!r} of manybinder to check.")
        return [Change(CHECK, name, check_value(Check(self._wall())))]

    def refresh(self) -> None:
        """Put in force what was written."""
        self._registry.refresh()

    def notice(self, name: str) -> str:
        """What a member is told with each report that is taken, signed."""
        view = self._fleet.snapshot.get(name)
        policy = view.policy.value if view else ""
        return sign_notice(Notice(name, self._issuer, self._keys.public, policy, self._wall()), self._keys.current)

    async def _hear_others(self) -> None:
        """Another replica may have written what is asked about just now.

        Anybody may ask, so the others are not asked each time.
        """
        now = self._fleet.now()
        if now - self._heard_at >= ASK_EVERY:
            self._heard_at = now
            await self._records.sync()
            self._registry.refresh()

    def _read(self, bearer: str, body: str) -> tuple[JoinToken, JoinRequest]:
        try:
            token = parse_join_token(bearer)
            request = read_join(body)
        except SignatureRefusedError as error:
            raise JoinRefusedError(401, "Not Signed", _sentence(error)) from error
        except ValueError as error:
            raise JoinRefusedError(401, "No Join Token", _sentence(error)) from error
        if request.digest != token.digest or request.member != token.member:
            raise JoinRefusedError(401, "Not Signed", "The request was not made with this join token.")
        self._check_time(request.sent_at)
        return token, request

    def _offer(self, token: JoinToken) -> Offer:
        record = self._records.book.of(JOIN_TOKEN).get(token.digest)
        try:
            offer = read_offer(record.value or {}) if record else None
        except ValueError as error:
            logger.warning("a join token's record is not understood: %s", error)
            offer = None
        if offer is None or offer.member != token.member:
            raise JoinRefusedError(403, "Not A Join Token", "This join token is not known here, or was revoked.")
        if self._wall() > offer.expires_at:
            raise JoinRefusedError(
                403, "Expired", "This join token has expired; ask the federation's operator for one."
            )
        return offer

    async def _check_addresses(self, request: JoinRequest, offer: Offer) -> None:
        try:
            hub = origin(request.hub_origin)
        except ValueError as error:
            raise JoinRefusedError(422, "Not Allowed There", f"hub_origin: {error}.") from error
        for name, url in (("url", request.url), ("hub_origin", hub)):
            problem = host_problem(url, offer.terms.hosts) or await self._guard.problem(url)
            if problem is not None:
                raise JoinRefusedError(422, "Not Allowed There", f"{name}: {problem}.")

    def _check_free(self, request: JoinRequest, name: str) -> None:
        taken = [view.name for view in self._fleet.snapshot.members if view.member.url == _base(request.url)]
        if taken and taken != [name]:
            raise JoinRefusedError(409, "Address Taken", f"{taken[0]} is at {request.url} already.")

    async def _use(self, token: JoinToken, key: str, offer: Offer, address: str) -> None:
        """Use a token up: of all keys that try at the same time, one succeeds, and may try again."""
        lasts = max(1.0, offer.expires_at - self._wall()) + REMEMBERED
        try:
            full = await self._state.claim(key, [Quota(f"join:{token.digest}", 1)], lasts)
        except StateUnavailableError as error:
            detail = "The replicas of this gateway cannot ask each other just now. Please try again in a moment."
            raise JoinRefusedError(503, "Not Now", detail) from error
        if full is not None:
            await self._reused(token, address)

    async def _register(self, token: JoinToken, request: JoinRequest, offer: Offer, address: str) -> None:
        name, now = token.member, self._wall()
        before, url = self._registry.joined.get(name), _base(request.url)
        if name in self._registry.configured or (before is not None and not offer.replaces):
            raise JoinRefusedError(409, "A Member Already", f"A member of the name {name} belongs here already.")
        registration = Registration(
            name=name,
            url=url,
            hub_origin=origin(request.hub_origin),
            keys=(public_pem(request.key),),
            terms=offer.terms,
            stage=Stage.PENDING,
            joined_at=now,
        )
        used = replace(offer, used_by=fingerprint(request.key), used_at=now)
        await self._write(
            name,
            "POST join",
            Change(MEMBER, name, registration_value(registration)),
            Change(CHECK, name, check_value(Check(now))),
            Change(JOIN_TOKEN, token.digest, offer_value(used)),
            *(_revoked(before.keys, name) if before else []),
            address=address,
            value={"url": registration.url, "hub_origin": registration.hub_origin, "key": used.used_by[:16]},
        )

    async def _reused(self, token: JoinToken, address: str) -> None:
        """Somebody has a token that was used: raises :class:`JoinRefusedError`, and lets operators know."""
        # From where, the log tells those who may know: the alert is for everybody who reads.
        said = f"The join token for {token.member} was used before, and has been used again."
        if not self._alerts.has(AlertName.JOIN_TOKEN_REUSED, token.member):
            act = _act(token.member, "POST join", "refused", address=address, detail=said)
            try:
                await self._records.write(act)
            except RecordsAwayError as error:
                logger.error("what follows cannot be written down (%s): %s", error, said)  # noqa: TRY400 - says all
        self._alerts.begin(AlertName.JOIN_TOKEN_REUSED, token.member, said)
        detail = "This join token was used before. If that was not you, tell the federation's operator at once."
        raise JoinRefusedError(403, "Used Before", detail)

    def _welcome(self, token: JoinToken) -> str:
        # By the key that the token names, so that a token outlives a change of keys.
        key = next((key for key in self._keys.all if fingerprint(key.public_key()) == token.gateway), None)
        if key is None:
            detail = "This join token was made under a key that this gateway has no more; ask for a new one."
            raise JoinRefusedError(403, "Another Key", detail)
        report_url = f"{self._issuer}api/v1/reports"
        return sign_welcome(Welcome(token.member, self._issuer, report_url, self._keys.public, self._wall()), key)

    def _signer(self, body: str) -> Registration:
        try:
            name = claimed_member(body)
        except SignatureRefusedError as error:
            raise JoinRefusedError(401, "Not Signed", _sentence(error)) from error
        registration = self._registry.joined.get(name)
        if registration is None:
            raise JoinRefusedError(401, "Unknown Member", "No member of this name has joined here.")
        return registration

    def _forged(self, registration: Registration, error: SignatureRefusedError) -> JoinRefusedError:
        logger.warning("a request in the name of %s was refused: %s", registration.name, error)
        return JoinRefusedError(401, "Not Signed", _sentence(error))

    def _check_addressed(self, issuer: str, sent_at: float) -> None:
        if issuer != self._issuer:
            raise JoinRefusedError(401, "Not For Us", f"This is for {issuer[:200]}, and here is {self._issuer}.")
        self._check_time(sent_at)

    def _check_time(self, sent_at: float) -> None:
        skew = sent_at - self._wall()
        # Not longer than it takes to come here; what is replayed within that changes nothing.
        if abs(skew) > self._fleet.settings.probes.clock_leeway:
            detail = f"The request's time is {skew:+.0f} s from ours: set the member's clock (or the gateway's)."
            raise JoinRefusedError(409, "Clock Skew", detail)

    def _check_idle(self, name: str) -> None:
        view = self._fleet.snapshot.get(name)
        if view is None:
            return
        now, settings = self._fleet.now(), self._fleet.snapshot.settings
        policy = view.effective_policy(now, settings)
        if policy is Policy.ACTIVE:
            raise JoinRefusedError(409, "Not Drained", f"{name} takes launches: drain it first.")
        sessions = view.sessions(now, settings)
        if sessions is None and policy is not Policy.PENDING:
            detail = (
                f"{name} does not report, so nobody knows what it holds: let it run, or have the federation's operator "
                "remove it."
            )
            raise JoinRefusedError(409, "Not Empty", detail)
        held = len(view.reservations) + (sessions.running + sessions.pending if sessions else 0)
        if held:
            raise JoinRefusedError(409, "Not Empty", f"{name} holds {held} sessions or launches: wait for their end.")

    async def _write(self, name: str, call: str, *changes: Change, value: object, address: str = "") -> None:
        try:
            await self._records.write(*changes, _act(name, call, "done", address=address, value=value))
        except RecordsAwayError as error:
            detail = f"This cannot be kept on the gateway's disk, and was not done: {error}"
            raise JoinRefusedError(503, "Not Kept", detail) from error
        self._registry.refresh()


def _base(url: str) -> str:
    return f"{origin(url)}{urlsplit(url).path.rstrip('/')}/"


def _revoked(pems: Sequence[str], name: str) -> list[Change]:
    return [Change(REVOKED_KEY, fingerprint(load_public_key(pem)), {"member": name}) for pem in pems]


def _act(name: str, call: str, outcome: str, **fields: Any) -> Change:
    act = {
        "operator": name,
        "role": "member",
        "by": "key",
        "call": call,
        "outcome": outcome,
        "kind": MEMBER,
        "key": name,
        "member": name,
    }
    return Change(AUDIT, secrets.token_hex(8), {**act, **fields})


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
