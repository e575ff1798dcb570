"""What the tables consist of: a row says what becomes of one trait or one value of a chart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["equivalent", "none", "decision"]

#: Stands for the provider's name in a path.
PROVIDER = "{provider}"


class UnfitError(ValueError):
    """A value that has no form here; the text says why, for the operator, and never what the value is."""


@dataclass(frozen=True)
class PythonObject:
    """A value of a Python configuration that is no data: ``kind`` is class, function, bytes or a type's name."""

    kind: str
    name: str = ""


@dataclass(frozen=True)
class Added:
    """A value of a Python configuration that adds to the default (``c.BinderHub.repo_providers.update(…)``)."""

    value: Any


@dataclass(frozen=True)
class Several:
    """What a converter returns whose value becomes several settings, or none.

    By path in a member's settings (of a row that is a chart's alone: in values); "" is the row's own.
    """

    settings: Mapping[str, Any]


def unchanged(value: Any) -> Any:
    """The value itself, if it is data."""
    if isinstance(value, PythonObject):
        raise UnfitError(f"it is made in Python ({value.kind}), and cannot be carried over")
    return value


@dataclass(frozen=True)
class Row:
    """One row.

    ``member`` and ``gateway`` are paths in the settings of each, ``values`` is one in the values of charts/member where
    that is not ``config.<member>`` ("-": the chart sets it itself).  ``says`` is a sentence for the operator,
    ``elsewhere`` another for settings that have no place for it.  ``file`` is the name of the file that
    the value belongs into.  A value in ``silent`` is not worth a word.
    """

    kind: Kind
    says: str = ""
    member: str = ""
    gateway: str = ""
    values: str = ""
    convert: Callable[[Any], Any] = unchanged
    file: str = ""
    silent: tuple[Any, ...] = ()
    moved_to: str = ""
    elsewhere: str = ""

    @property
    def chart_only(self) -> bool:
        """Whether it is of a chart: then what it becomes is named by paths in values too."""
        return bool(self.values) and not self.member

    def path(self, target: str) -> str:
        """Where its value goes; "" = nowhere."""
        if target == "gateway":
            return self.gateway
        if target == "chart":
            return self.values or (f"config.{self.member}" if self.member else "")
        return self.member


def equivalent(
    member: str = "",
    convert: Callable[[Any], Any] = unchanged,
    *,
    gateway: str = "",
    values: str = "",
    says: str = "",
    file: str = "",
    silent: tuple[Any, ...] = (),
    elsewhere: str = "",
) -> Row:
    """There is a setting for it."""
    return Row("equivalent", says, member, gateway, values, convert, file, silent, elsewhere=elsewhere)


def moved(to: str) -> Row:
    """BinderHub itself calls it by another name now."""
    return Row("equivalent", moved_to=to)


def none(says: str, *silent: Any) -> Row:
    """There is nothing for it, and why; values in ``silent`` lose nothing."""
    return Row("none", says, silent=silent)


def decision(says: str, *silent: Any) -> Row:
    """Somebody has to decide."""
    return Row("decision", says, silent=silent)
