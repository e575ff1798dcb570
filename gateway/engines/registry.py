"""Who belongs to the federation: the members that the configuration names, and those that have joined."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from contract.signatures import fingerprint, load_public_key
from gateway.core.fleet import Member
from gateway.core.records import Book, Record
from gateway.core.registration import MEMBER, REVOKED_KEY, Registration, read_registration
from gateway.core.settings import FederationSettings
from gateway.engines.fleet import Fleet
from gateway.engines.policies import Policies
from gateway.engines.prober import Prober
from gateway.engines.reports import Reports

logger = logging.getLogger(__name__)


def joined(book: Book, configured: Sequence[str]) -> dict[str, Registration]:
    """The members that have joined, by name, without those whose names the configuration gives to others.

    A key that was revoked counts no more, and without one nobody is a member: a replica that has not heard of it may
    have written the registration since.
    """
    found, void = {}, book.of(REVOKED_KEY)
    for name, record in book.of(MEMBER).items():
        if name in configured:
            continue
        try:
            registration = read_registration(name, record.value or {})
            keys = tuple(pem for pem in registration.keys if fingerprint(load_public_key(pem)) not in void)
        except ValueError as error:
            logger.warning("the registration of %s is not understood: %s", name, error)
            continue
        if keys:
            found[name] = replace(registration, keys=keys)
    return found


class Registry:
    """Brings fleet, probes and reports up to date with the configuration and the records."""

    def __init__(
        self,
        book: Book,
        members: Sequence[Member],
        report_keys: Mapping[str, Sequence[Ed25519PublicKey]],
        *,
        fleet: Fleet,
        prober: Prober,
        reports: Reports,
        policies: Policies,
    ) -> None:
        self._book, self._members, self._report_keys = book, tuple(members), report_keys
        self._fleet, self._prober, self._reports, self._policies = fleet, prober, reports, policies
        self._applied: list[Record] | None = None

    @property
    def configured(self) -> list[str]:
        """The names of the members that the configuration names."""
        return [member.name for member in self._members]

    @property
    def joined(self) -> dict[str, Registration]:
        """The members that have joined, by name."""
        return joined(self._book, self.configured)

    def keys(self, name: str) -> Sequence[Ed25519PublicKey]:
        """The keys of a member's reports, as of now."""
        return self._reports.keys.get(name, ())

    def configure(
        self,
        members: Sequence[Member],
        report_keys: Mapping[str, Sequence[Ed25519PublicKey]],
        settings: FederationSettings,
    ) -> None:
        """Go by another configuration from now on."""
        self._members, self._report_keys = tuple(members), report_keys
        self._renew(settings)

    def refresh(self) -> None:
        """Go by what the records say now."""
        if self._registrations() != self._applied:
            self._renew(self._fleet.settings)

    def _registrations(self) -> list[Record]:
        members, void = (self._book.of(kind, with_tombstones=True) for kind in (MEMBER, REVOKED_KEY))
        return [*members.values(), *void.values()]

    def _renew(self, settings: FederationSettings) -> None:
        self._applied = self._registrations()
        registered = self.joined
        keys = {name: [load_public_key(pem) for pem in item.keys] for name, item in registered.items()}
        known = [view.member for view in self._fleet.snapshot.members]
        members = [*self._members, *(item.member() for item in registered.values())]
        # Keys first: who has none is not heard, and who is not in the fleet takes nothing.
        self._reports.keys = {**keys, **self._report_keys}
        self._reports.revoked = self._book.of(MEMBER, with_tombstones=True).keys() - registered.keys()
        if settings is not self._fleet.settings or sorted(known, key=_name) != sorted(members, key=_name):
            self._fleet.configure(members, settings)
            self._policies.refresh()
            self._prober.start()
        for member in members:
            if member not in known and member.guarded:
                logger.info("%s is registered at %s", member.name, member.url)


def _name(member: Member) -> str:
    return member.name
