"""Puts in force what operators want of members: active, draining, suspended, and their weights."""

import math

from gateway.core.fleet import Policy
from gateway.core.records import WEIGHT, Record
from gateway.core.registration import MEMBER, Stage
from gateway.core.wanted import wanted_policy
from gateway.engines.fleet import Fleet
from gateway.engines.records import Records


class Policies:
    """Brings the fleet up to date with the records."""

    def __init__(self, records: Records, fleet: Fleet) -> None:
        self._records, self._fleet = records, fleet

    def refresh(self) -> None:
        """Go by what the records say now.

        A member without a record, or with one that is not understood, is active and has its registered weight.
        """
        weights = self._records.book.of(WEIGHT)
        joined = self._records.book.of(MEMBER)
        for view in self._fleet.snapshot.members:
            policy, weight = wanted_policy(self._records.book, view.name), _weight(weights.get(view.name))
            # Whoever the configuration names has not joined, whatever a record of its name says.
            if view.member.guarded and policy is not Policy.SUSPENDED and _is_pending(joined.get(view.name)):
                policy = Policy.PENDING
            if (policy, weight) != (view.policy, view.weight_set):
                self._fleet.wanted(view.name, policy, weight)


def _is_pending(record: Record | None) -> bool:
    return record is None or (record.value or {}).get("stage") != Stage.ACCEPTED


def _weight(record: Record | None) -> float | None:
    weight = (record.value or {}).get("weight") if record else None
    good = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight) and weight >= 0
    return float(weight) if weight is not None and good else None
