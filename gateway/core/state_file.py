"""All that operators have decided, as one file: exported, checked, and merged into what there is.

Records keep their stamps, and tombstones are among them: of two writings of one thing the later one holds, whichever
side it is on, so that nothing comes back that was taken back later.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature

from contract.json_types import dumps
from contract.signatures import fingerprint
from gateway.core.history import HISTORY
from gateway.core.incidents import INCIDENT
from gateway.core.operators import LOGIN, TOKEN_USE
from gateway.core.records import AUDIT, Book, Record, load_record
from gateway.core.signing import SigningKeys

FORMAT, SCHEMA = "manybinder-state", 1

#: Seconds by which a record's clock may be ahead of ours.
CLOCK_SKEW = 86400.0

#: Kinds of records that tell what has happened, which nobody has decided: of two, none is right.
_SEEN = frozenset({AUDIT, TOKEN_USE, HISTORY, INCIDENT})

_PURPOSE = b"manybinder state\n"


class StateFileError(ValueError):
    """A file that cannot be imported; the text begins with the field at fault."""


@dataclass(frozen=True, slots=True)
class StateFile:
    """What a file holds; ``ours``: a key of this federation has signed it."""

    records: tuple[Record, ...]
    made_at: float
    ours: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """A thing of which here and the file say different things; ``kept`` is the later one: ``here`` or ``file``."""

    name: str
    kept: str
    here: Mapping[str, Any] | None
    file: Mapping[str, Any] | None


@dataclass
class Merging:
    """What an import would do: ``taken`` are the records that are newer than what there is, or new."""

    taken: list[Record] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    new: int = 0
    same: int = 0


def state_wire(book: Book, keys: SigningKeys, made_at: float, public_url: str, version: str) -> dict[str, Any]:
    """All records, signed by the key that signs for the federation now.

    Without logins, which hold what a provider says of people, and last for hours: nobody has decided those.
    """
    records = [
        {"kind": record.kind, "key": record.key, "stamp": record.stamp, "value": record.value}
        for record in sorted(book.all(), key=lambda record: record.name)
        if record.kind != LOGIN or record.value is None
    ]
    wire = {
        "format": FORMAT,
        "schema": SCHEMA,
        "made_at": made_at,
        "public_url": public_url,
        "version": version,
        "records": records,
    }
    digest = _digest(wire)
    signature = keys.current.sign(_PURPOSE + digest).hex()
    return {**wire, "sha256": digest.hex(), "key": fingerprint(keys.current.public_key()), "signature": signature}


def read_state(wire: Mapping[str, Any], keys: SigningKeys, now: float) -> StateFile:
    """Check a file; raises :class:`StateFileError`."""
    if wire.get("format") != FORMAT:
        raise StateFileError(f"format: must be {FORMAT!r}: is this the file of `manybinder admin export`?")
    if wire.get("schema") != SCHEMA:
        raise StateFileError(f"schema: must be {SCHEMA}; this file is of another version of manybinder")
    unsigned = {key: value for key, value in wire.items() if key not in ("sha256", "key", "signature")}
    digest = _digest(unsigned)
    if wire.get("sha256") != digest.hex():
        raise StateFileError("sha256: does not fit what the file holds: it was changed, or has arrived damaged")
    made_at, found = wire.get("made_at"), wire.get("records")
    if isinstance(made_at, bool) or not isinstance(made_at, int | float) or not isinstance(found, list):
        raise StateFileError("records: must be a list, and made_at a Unix time")
    records = tuple(_record(n, item, now) for n, item in enumerate(found))
    return StateFile(records, float(made_at), _is_ours(wire.get("signature"), digest, keys))


def merging(book: Book, records: Iterable[Record]) -> Merging:
    """What becomes of what there is with these records."""
    result = Merging()
    # In one file the later writing of a thing counts as well.
    for record in Book(records).all():
        known = book.get(record.kind, record.key)
        if known is None:
            result.new += 1
            result.taken.append(record)
            continue
        if known.stamp == record.stamp or known.value == record.value:
            result.same += 1
        elif record.kind not in _SEEN:
            kept = "file" if record.stamp > known.stamp else "here"
            result.conflicts.append(Conflict(record.name, kept, known.value, record.value))
        if record.stamp > known.stamp:
            result.taken.append(record)
    return result


def _record(n: int, item: object, now: float) -> Record:
    try:
        record = load_record(dumps(item).encode())
    except ValueError as error:
        raise StateFileError(f"records[{n}]: {error}") from error
    if record.written_at > now + CLOCK_SKEW:
        raise StateFileError(f"records[{n}].stamp: is from the future: nothing could take it back until then")
    return record


def _is_ours(signature: object, digest: bytes, keys: SigningKeys) -> bool:
    try:
        signed = bytes.fromhex(signature) if isinstance(signature, str) else b""
    except ValueError:
        return False
    for key in keys.public:
        try:
            key.verify(signed, _PURPOSE + digest)
        except InvalidSignature:
            continue
        return True
    return False


def _digest(wire: Mapping[str, Any]) -> bytes:
    """Of the object in one form: keys in order, no spaces."""
    return hashlib.sha256(dumps(_ordered(wire)).encode(errors="replace")).digest()


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list | tuple) else value
