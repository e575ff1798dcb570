"""Names for JSON values, and a strict way to read them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
JsonObject = Mapping[str, JsonValue]

#: Objects and lists within each other; far below what would exhaust the stack of whoever writes the value again.
MAX_DEPTH = 100

_TOO_DEEP = "JSON is nested too deeply"


def dumps(value: Any) -> str:
    """Serialise to one line of JSON; NaN and infinities, which JSON does not have, raise ``ValueError``."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def loads_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object; anything else raises ``ValueError`` with a sentence.

    So does a number that is too large for a float: read as infinity, it could not be written again.
    A lone surrogate, which JSON can escape and no stream can carry, becomes ``?``.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    if "\\ud" in text.lower():
        return dict(json.loads(dumps(value).encode(errors="replace")))
    return value


def _depth(value: Any) -> int:
    depth, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, dict | list)]:
        depth += 1
        layer = [child for item in layer for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
