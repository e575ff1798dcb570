"""What an operator may tune of the rules; times are in seconds, and written with a unit in a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from contract.units import Duration


@dataclass(frozen=True, slots=True)
class Above:
    """Marks a number that must be more than ``bound``; pydantic finds the method below."""

    bound: float

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """A pydantic core schema: validate as the source type, then check the bound."""

        def check(value: float) -> float:
            if not value > self.bound:
                raise ValueError(f"must be more than {self.bound:g}")
            return value

        function = {"type": "no-info", "function": check}
        return {"type": "function-after", "function": function, "schema": handler(source)}


PositiveDuration = Annotated[Duration, Above(0)]
PositiveCount = Annotated[int, Above(0)]

_STRICT: Mapping[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class ProbeSettings:
    """When a member counts as healthy."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    interval: PositiveDuration = 1.0
    """Between two probes of a member; each wait is varied by a tenth, so that gateways do not probe in step."""

    timeout: PositiveDuration = 2.0
    """For one probe in all; a member that hangs counts as unreachable after it."""

    unhealthy_after: PositiveCount = 2
    """Failed observations in a row after which a member leaves rotation."""

    healthy_after: PositiveCount = 1
    """Good observations in a row after which it returns."""

    report_max_age: PositiveDuration = 15.0
    """A capacity report older than this is not believed: the member's capacity is unknown from then on."""


@dataclass(frozen=True)
class LaunchSettings:
    """How long a launch waits for a member and for its visitor."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    connect_timeout: PositiveDuration = 3.0
    """For the connection to a member; then the next one is tried."""

    first_event_timeout: PositiveDuration = 15.0
    """For a member's first event; then the next one is tried."""

    silence_timeout: PositiveDuration = 90.0
    """For anything at all on a stream that has begun (a member sends a comment every 25 s)."""

    linger: PositiveDuration = 30.0
    """How long a launch that nobody watches goes on, so that its visitor can reconnect."""

    keep_finished: PositiveDuration = 600.0
    """How long the events of a finished launch can be asked for."""

    limit: PositiveCount = 500
    """Launches at a time; one more is refused."""


@dataclass(frozen=True)
class RoutingSettings:
    """How a member is chosen."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    policy: str = "rendezvous"
    """The name of a policy in :mod:`gateway.core.policies`."""

    warm_factor: Annotated[float, Above(0)] = 4.0
    """A member that holds or builds what is asked for counts as this many times as large.

    It keeps a repository where its image is while free capacity moves a little, and still lets a crowd spread.
    """

    assumed_free: Annotated[float, Above(0)] = 10.0
    """Free sessions that a member of weight 1 is taken to have while its capacity is not known."""
