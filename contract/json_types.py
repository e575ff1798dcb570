"""Names for JSON values, and a strict way to read them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
JsonObject = Mapping[str, JsonValue]


def dumps(value: Any) -> str:
    """Serialise to one line of JSON; NaN and infinities, which JSON does not have, raise ``ValueError``."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def loads_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object; anything else raises ``ValueError`` with a sentence."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
