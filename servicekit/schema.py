"""The JSON Schema of a service's settings, for editors and for checks before a rollout.

Made from the same models that read the settings, so it says what they say: the YAML file is an instance of it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from contract.units import format_duration, format_exact_size
from servicekit.config import SCHEMA

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: How a default is written whose field has a unit, by the format that :class:`contract.units.Parsed` gives it.
_WRITTEN: Mapping[str, Callable[[float], str]] = {
    "duration": format_duration,
    "size": lambda value: format_exact_size(int(value)),
}


def settings_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The schema (draft 2020-12) of a service's YAML file."""
    schema = _with_units(model.model_json_schema(mode="validation"))
    properties = {"schema": {"const": SCHEMA, "description": "The form of this file."}, **schema["properties"]}
    required = ["schema", *schema.get("required", [])]
    return {**schema, "$schema": _DIALECT, "title": title, "properties": properties, "required": required}


def _with_units(node: Any) -> Any:
    """The same with each default as it is written in the file."""
    if isinstance(node, list):
        return [_with_units(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {name: _with_units(value) for name, value in node.items()}
    default = found.get("default")
    write = next((_WRITTEN[item] for item in _formats(found) if item in _WRITTEN), None)
    if write is not None and isinstance(default, int | float):
        found["default"] = write(default)
    if isinstance(default, dict):
        # A whole section, whose own fields tell their defaults already, with their units.
        del found["default"]
    return found


def _formats(node: Mapping[str, Any]) -> list[Any]:
    options = [node, *node.get("anyOf", [])]
    return [item.get("x-unit") for item in options if isinstance(item, dict)]
