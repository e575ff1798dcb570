"""What operators have decided, and what must outlive every process and every store: bans, quotas, policies, the audit.

Each is a record under a name.  The latest writing of a record wins, wherever it was written, and one that was taken
back leaves a tombstone, so that a replica that was away revives nothing.  Additive: a kind of record that is not known
here is kept and passed on as it is.

Source of the rule: last-writer-wins registers (Shapiro et al., "A comprehensive study of convergent and commutative
replicated data types", 2011, section 3.2.1).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from contract.json_types import dumps, loads_object

#: Kinds of records: what operators want of a member, that it is suspended, its weight, and what they have done.
#: A suspension is a record of its own, which no writing of who may not end one can win over.
POLICY, SUSPENSION, WEIGHT, AUDIT = "policy", "suspension", "weight", "audit"

#: Readers of one version understand what the next one writes.
SCHEMA = 1

#: Digits of a stamp's time in microseconds, so that stamps compare as texts; enough until the year 5138.
_DIGITS = 17


@dataclass(frozen=True, slots=True)
class Record:
    """A thing of a kind ("ban") under a key ("network:192.0.2.0/24"); ``value`` ``None`` = it was taken back.

    ``stamp`` orders the writings of one record, as a text: when, and by which replica.
    """

    kind: str
    key: str
    stamp: str
    value: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """Names it among all records."""
        return f"{self.kind}/{self.key}"

    @property
    def written_at(self) -> float:
        """When it was written (Unix time in seconds), by the clock of who wrote it."""
        return _time(self.stamp) / 1e6


class Change(NamedTuple):
    """What a record is to say from now on; ``value`` ``None`` takes it back."""

    kind: str
    key: str
    value: Mapping[str, Any] | None


def stamp_after(before: Record | None, now: float, writer: str) -> str:
    """The stamp of a writing at ``now``; later than the record's last one, whatever clock wrote that."""
    time = max(int(now * 1e6), _time(before.stamp) + 1 if before else 0)
    return f"{time:0{_DIGITS}d}-{writer}"


def dump_record(record: Record) -> bytes:
    """A record as text."""
    wire = {"schema": SCHEMA, "kind": record.kind, "key": record.key, "stamp": record.stamp, "value": record.value}
    return dumps(wire).encode()


def load_record(body: bytes) -> Record:
    """A record that :func:`dump_record` has written; raises ``ValueError``."""
    wire = loads_object(body)
    kind, key, stamp, value = (wire.get(name) for name in ("kind", "key", "stamp", "value"))
    if not isinstance(kind, str) or not isinstance(key, str) or not isinstance(stamp, str) or not kind or "/" in kind:
        raise ValueError("not a record: its kind, key and stamp must be texts")
    if value is not None and not isinstance(value, dict):
        raise ValueError("not a record: its value must be an object or null")
    _time(stamp)
    return Record(kind, key, stamp, value)


class Book:
    """The latest writing of each record."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._kinds: dict[str, dict[str, Record]] = {}
        for record in records:
            self.take(record)

    def take(self, record: Record) -> bool:
        """Take a writing in; whether it is newer than what was there."""
        known = self.get(record.kind, record.key)
        if known is not None and known.stamp >= record.stamp:
            return False
        self._kinds.setdefault(record.kind, {})[record.key] = record
        return True

    def get(self, kind: str, key: str) -> Record | None:
        """The latest writing of a record, a tombstone too."""
        return self._kinds.get(kind, {}).get(key)

    def named(self, name: str) -> Record | None:
        """The latest writing of a record by its name."""
        kind, _, key = name.partition("/")
        return self.get(kind, key)

    def of(self, kind: str, *, with_tombstones: bool = False) -> dict[str, Record]:
        """The records of a kind that hold, by key."""
        records = self._kinds.get(kind, {})
        return {key: record for key, record in records.items() if with_tombstones or record.value is not None}

    def all(self) -> list[Record]:
        """All records, tombstones too."""
        return [record for records in self._kinds.values() for record in records.values()]


def _time(stamp: str) -> int:
    digits = stamp.partition("-")[0]
    if len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
        raise ValueError("not a record: its stamp bears no time")
    return int(digits)
