"""Puts in force what operators want of members: active, draining, suspended."""

from gateway.core.fleet import Policy
from gateway.core.records import POLICY
from gateway.engines.fleet import Fleet
from gateway.engines.records import Records

#: Seconds between two looks at them.
APPLY_EVERY = 0.5


class Policies:
    """Brings the fleet up to date with the records."""

    def __init__(self, records: Records, fleet: Fleet) -> None:
        self._records, self._fleet = records, fleet

    async def apply(self) -> None:
        """A member without a record, or with one that is not understood, is active."""
        wanted = self._records.book.of(POLICY)
        for view in self._fleet.snapshot.members:
            record = wanted.get(view.name)
            try:
                policy = Policy(str((record.value or {}).get("policy"))) if record else Policy.ACTIVE
            except ValueError:
                policy = Policy.ACTIVE
            if policy is not view.policy:
                self._fleet.wanted(view.name, policy)
