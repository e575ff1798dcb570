"""Durations and sizes as people write them in a configuration (``10s``, ``2Gi``).

:data:`Duration` and :data:`Size` are types for the fields of settings, in ``core`` too: they say the unit that the
program works with, and how pydantic is to read the text, without importing it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "": 1,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(k|M|G|T|Ki|Mi|Gi|Ti|)")


def parse_duration(text: str) -> float:
    """Seconds in a duration such as ``500ms``, ``10s`` or ``1h30m``; raises ``ValueError``."""
    if not _DURATION.fullmatch(text.strip()):
        raise ValueError(f"not a duration: {text!r} (write for example 500ms, 10s, 5m, 1h30m or 7d)")
    return _finite(sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text)))


def parse_size(text: str) -> int:
    """Bytes in a size such as ``512Mi`` or ``2G``; raises ``ValueError``."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a size: {text!r} (write for example 512Mi, 2Gi or 10G)")
    return int(_finite(float(match[1]) * _BYTES[match[2]]))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("too large a number")
    return value


def format_size(size: float) -> str:
    """A size for people, in the largest binary unit that gives at least 1: ``1.5 GiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= (bound := _BYTES[unit[:2]]):
            return f"{size / bound:.1f} {unit}"
    return f"{int(size)} B"


def format_duration(seconds: float) -> str:
    """A duration as :func:`parse_duration` reads it: ``1h30m``, ``500ms``; exact to the millisecond."""
    left = round(seconds * 1000)
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, round(_SECONDS[unit] * 1000))
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def format_exact_size(size: int) -> str:
    """A size as :func:`parse_size` reads it, in the largest binary unit that leaves nothing out: ``512Mi``."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return str(size)


@dataclass(frozen=True, slots=True)
class Parsed:
    """Marks a type whose texts are parsed first; pydantic finds the method below."""

    parse: Callable[[str], float]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """A pydantic core schema: parse a text, then validate as the source type."""

        def before(value: object) -> object:
            if isinstance(value, str):
                return self.parse(value)
            if value == 0 and not isinstance(value, bool):
                return value
            raise ValueError(f"needs a unit, such as in {'10s' if self.parse is parse_duration else '2Gi'!r}")

        function = {"type": "no-info", "function": before}
        return {"type": "function-before", "function": function, "schema": handler(source)}

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """What a JSON Schema says of it: a text with a unit, or 0; the bounds of the number are not its own."""
        del core_schema, handler
        durations = self.parse is parse_duration
        pattern, unit = (_DURATION, "duration") if durations else (_SIZE, "size")
        options = [{"type": "string", "pattern": f"^\\s*(?:{pattern.pattern})\\s*$"}, {"const": 0}]
        return {"anyOf": options, "x-unit": unit, "examples": ["10s", "1h30m"] if durations else ["512Mi", "2Gi"]}


#: Seconds; written with a unit.
Duration = Annotated[float, Parsed(parse_duration)]

#: Bytes; written with a unit.
Size = Annotated[int, Parsed(parse_size)]
