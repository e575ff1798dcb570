"""What an operator may tune of the rules; times are in seconds, and written with a unit in a configuration."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from contract.units import Duration


@dataclass(frozen=True, slots=True)
class Above:
    """Marks a number that must be more than ``bound``, and finite; pydantic finds the method below."""

    bound: float

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """A pydantic core schema: validate as the source type, then check the bound."""

        def check(value: float) -> float:
            if not value > self.bound:
                raise ValueError(f"must be more than {self.bound:g}")
            if value == math.inf:
                raise ValueError(f"must be more than {self.bound:g} and not infinite")
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

    clock_leeway: PositiveDuration = 8.0
    """How far a member's clock may be from ours: a report that is off by more is refused, and ClockSkew raised."""

    slow_start: PositiveDuration = 60.0
    """The time in which a member that is new, or was out of rotation, comes to take its full share of launches."""


@dataclass(frozen=True)
class EjectionSettings:
    """When a member leaves rotation for what becomes of launches there (Envoy: outlier detection)."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    consecutive_failures: PositiveCount = 3
    """Failed launches in a row after which a member is ejected."""

    window: PositiveDuration = 300.0
    """How far back launches count; those that failed in a row count however long ago."""

    failures: PositiveCount = 5
    """In the window, at least so many failed launches, and more of them than good ones, eject a member as well."""

    base_time: PositiveDuration = 30.0
    """How long the first ejection lasts; the n-th in a row lasts n times as long, varied by a tenth."""

    max_time: PositiveDuration = 300.0
    """The longest ejection; then trial launches decide."""

    forget_after: PositiveDuration = 600.0
    """A member that has been well for so long starts again from ``base_time``."""


@dataclass(frozen=True)
class HealthSettings:
    """What belief in a member follows from."""

    probes: ProbeSettings = ProbeSettings()
    ejection: EjectionSettings = EjectionSettings()


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

    stalled_after: PositiveDuration = 30.0
    """A stream silent for so long, of a member that probes find unreachable, has failed: the next one is tried."""

    waiting_timeout: PositiveDuration = 900.0
    """For a launch's turn in a member's queue."""

    build_timeout: PositiveDuration = 3600.0
    """For a member to fetch, build and push."""

    start_timeout: PositiveDuration = 300.0
    """For a member to start the session of a built image; after five minutes it hardly ever succeeds."""

    max_attempts: PositiveCount = 4
    """How many attempts may fail before a launch ends; refusals do not count, and failed connections a third."""

    retry_share: Annotated[float, Above(0)] = 0.2
    """Each launch begun allows so much of a retry: with the next, it keeps a fault from doubling the load."""

    retries_per_second: Annotated[float, Above(0)] = 5.0
    """Retries that are allowed in any case; one beyond both waits for its turn, and is not lost."""

    member_timeout: PositiveDuration = 300.0
    """How long a launch waits in the gateway's queue when no member can take it."""

    waiting_limit: PositiveCount = 200
    """Launches that may wait so at a time, over all replicas; one more is refused."""

    waiting_per_client: PositiveCount = 5
    """Of one client; who has asked just now also stands behind who asks for the first time."""

    waiting_per_repo: PositiveCount = 100
    """Of one repository."""

    linger: PositiveDuration = 30.0
    """How long a launch that nobody watches goes on, so that its visitor can reconnect."""

    keep_finished: PositiveDuration = 600.0
    """How long the events of a finished launch can be asked for."""

    limit: PositiveCount = 500
    """Launches at a time; one more is refused."""

    build_only: bool = False
    """Whether ``?build_only=true`` has a member build an image and launch nothing, as in BinderHub's API only mode."""


@dataclass(frozen=True)
class RuleSettings:
    """Which members take which launches, by label.

    A rule matches a launch if all that it names matches; it then speaks of the members that carry all its labels.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    """Names the rule for people: "campus only"."""

    members: Mapping[str, str]
    """Labels, each with its value; "*" as a value stands for any."""

    repos: tuple[str, ...] = ()
    """Regular expressions, any of which the start of the repository's key matches, whatever the case of letters."""

    clients: tuple[str, ...] = ()
    """Networks (``10.0.0.0/8``), any of which the visitor's address is in."""

    origins: tuple[str, ...] = ()
    """Origins (``https://docs.example.org``) of pages, from any of which the launch is asked for."""

    effect: Literal["require", "prefer", "reserve"] = "require"
    """``require``: nobody else takes these launches.  ``prefer``: the others come after.  ``reserve``: these members
    take nothing else."""


@dataclass(frozen=True)
class RoutingSettings:
    """How a member is chosen."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    policy: str = "tiered"
    """The name of a policy in :mod:`gateway.core.policies`."""

    warm_share: Annotated[float, Above(0)] = 0.85
    """``tiered``: a member that holds the image comes first until so much of its limit is taken."""

    balance: Annotated[float, Above(1)] = 1.25
    """``tiered``: a member takes images that it has to build or pull up to so many times its fair share of the load.

    Source: Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (SODA 2018).
    """

    idle_share: Annotated[float, Above(0)] = 0.3
    """``tiered``: and in any case until so much of its limit is taken, for a quiet federation needs no balance."""

    panic_below: Annotated[float, Above(0)] = 0.5
    """With fewer than this share of the active members in rotation, ejected and failing ones are asked before full ones
    are (Envoy: panic threshold)."""

    assumed_limit: Annotated[float, Above(0)] = 20.0
    """Sessions that a member is taken to have room for while its capacity is not known."""

    choose_member: bool = False
    """Whether a visitor may ask for a member (``?member=name``)."""

    rules: tuple[RuleSettings, ...] = ()
    """Which members take which launches; all that match apply."""


@dataclass(frozen=True)
class JoiningSettings:
    """How members join while the gateway runs."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    accept: Literal["automatic", "operator"] = "automatic"
    """Who lets a member in that has passed its check: nobody has to, or an operator."""

    allow_private_addresses: bool = False
    """Whether members that join may be in an internal network (10.0.0.0/8 and the like)."""

    allow_loopback: bool = False
    """Whether they may be on this machine."""

    canary: str = ""
    """The repository that a member is checked with, as a spec (``gh/org/repo/HEAD``); empty: a tiny one that the
    gateway serves itself."""

    patience: PositiveDuration = 300.0
    """How long a member may take, from its join on, to be healthy and to report."""

    check_timeout: PositiveDuration = 1800.0
    """For the whole check, with the first build."""


@dataclass(frozen=True)
class FederationSettings(HealthSettings):
    """All that can be tuned while a gateway runs."""

    launch: LaunchSettings = LaunchSettings()
    routing: RoutingSettings = RoutingSettings()
