"""Launches on their way through a simulated federation.

What happens to a launch between decisions follows :class:`gateway.engines.journey.Journey`: refusals send it on,
faults do within the retry budget and up to ``max_attempts``, and where nobody can take it, it waits a while.  Simpler
here: each fault counts as an attempt, a refusal holds for as long as was told, and who waits has no place in a queue.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core import transitions
from gateway.core.decision import Decision, LaunchRequest, Standing, decide
from gateway.core.fleet import Member, Reservation
from gateway.core.outcomes import Attempt
from gateway.core.retries import RetryBudget
from gateway.simulator.belief import Believed, snapshot
from gateway.simulator.model import End, MemberModel, Order
from gateway.simulator.results import Ending, Results
from gateway.simulator.setup import ImageKey, Outage, Setup, Trouble
from gateway.simulator.timeline import Timeline
from gateway.simulator.trace import MINUTE, Arrival

# As in gateway.engines.journey, which the simulator does not import: seconds between two looks for a member, and before
# a member that has failed a launch is asked again.
_LOOK_EVERY, _AGAIN_AFTER, _AGAIN_AT_MOST = 1.0, 1.0, 8.0

#: The share of the interval that is waited before a failed probe is repeated, as in gateway.engines.prober.
_RETRY_SHARE = 0.25


def replay(setup: Setup, arrivals: Sequence[Arrival]) -> Results:
    """Send all launches through the federation; ``arrivals`` are in order of time.  Deterministic in its arguments."""
    return _Replay(setup, arrivals).run()


@dataclass(slots=True, eq=False)
class _Launch:
    id: str
    arrival: Arrival
    session_s: float
    tried: tuple[str, ...] = ()
    doubtful: list[tuple[str, Attempt]] = field(default_factory=list)
    """Failures that may be the repository's: at which members, at which attempts."""
    refused: dict[str, float] = field(default_factory=dict)
    rested: int = 0
    waits: bool = False
    waited: float = 0.0


class _Replay:
    def __init__(self, setup: Setup, arrivals: Sequence[Arrival]) -> None:
        self._setup, self._health, self._arrivals = setup, setup.health, arrivals
        self._timeline, self._results = Timeline(), Results(setup.routing.policy)
        self._chance = random.Random(f"gateway {setup.seed}")  # noqa: S311 - a simulation
        # Apart, so that a launch has the same session under every policy.
        self._sessions = random.Random(f"sessions {setup.seed}")  # noqa: S311
        self._budget = RetryBudget(setup.launches, 0.0)
        self._waiting = 0
        self._troubles: dict[str, list[Trouble]] = {name: [] for name in setup.names}
        registry: set[ImageKey] | None = set() if setup.shared_registry else None
        self._models: dict[str, MemberModel] = {}
        self._believed: dict[str, Believed] = {}
        every = setup.assumptions.report_every
        for number, (name, limit) in enumerate(zip(setup.names, setup.limits, strict=True)):
            believed = Believed(
                Member(name, f"https://{name}.example/"), self._health, every, every * number / len(setup.limits)
            )
            model = MemberModel(name, limit, setup, self._timeline, registry, believed.make_report)
            believed.of(model)
            self._models[name], self._believed[name] = model, believed
        self._all_believed = list(self._believed.values())

    def run(self) -> Results:
        until = self._arrivals[-1].at if self._arrivals else 0.0
        if self._setup.outages is not None:
            for outage in self._setup.outages.schedule(len(self._models), until, self._setup.seed):
                self._timeline.schedule(outage.begin, self._trouble_begins, outage)
        if self._arrivals:
            self._timeline.schedule(self._arrivals[0].at, self._arrive, 0)
        self._timeline.schedule(MINUTE, self._each_minute, until)
        self._timeline.run()
        results, models = self._results, self._models.values()
        results.builds, results.pulls = sum(model.builds for model in models), sum(model.pulls for model in models)
        results.lost_sessions = sum(model.lost_sessions for model in models)
        results.most = {model.name: model.most for model in models}
        return results

    def _arrive(self, now: float, number: int) -> None:
        if number + 1 < len(self._arrivals):
            self._timeline.schedule(self._arrivals[number + 1].at, self._arrive, number + 1)
        assumed = self._setup.assumptions
        session_s = assumed.session_least + self._sessions.expovariate(1 / assumed.session_more)
        self._budget.launched(self._setup.launches)
        self._go_on(now, _Launch(f"launch-{number}", self._arrivals[number], session_s))

    def _go_on(self, now: float, launch: _Launch) -> None:
        """One round of the journey's loop: decide, then attempt, wait, rest or end."""
        decision = self._decide(now, launch)
        chosen = decision.chosen
        if chosen is None and self._may_wait(launch, decision):
            self._wait(now, launch)
            return
        self._waits_no_more(launch)
        if chosen is None:
            self._end(now, launch, Ending.REFUSED)
        elif chosen.standing == Standing.AGAIN and launch.rested < len(launch.tried):
            launch.rested = len(launch.tried)
            rest = min(_AGAIN_AFTER * 2 ** (len(launch.tried) - 1), _AGAIN_AT_MOST)
            self._timeline.schedule(now + rest, self._go_on, launch)
        else:
            self._attempt(now, launch, chosen.member)

    def _decide(self, now: float, launch: _Launch) -> Decision:
        refused = frozenset(name for name, until in launch.refused.items() if now < until)
        request = LaunchRequest(launch.arrival.repo, launch.arrival.commit, tried=launch.tried, refused=refused)
        seen = snapshot(self._all_believed, self._health, now)
        return decide(seen, request, self._setup.routing, now, self._chance.random())

    def _may_wait(self, launch: _Launch, decision: Decision) -> bool:
        settings = self._setup.launches
        if not launch.waits and self._waiting >= settings.waiting_limit:
            return False
        return launch.waited < settings.member_timeout and any(item.for_now for item in decision.rejected)

    def _wait(self, now: float, launch: _Launch) -> None:
        self._waiting += not launch.waits
        launch.waits = True
        step = min(_LOOK_EVERY, self._setup.launches.member_timeout - launch.waited)
        launch.waited += step
        self._timeline.schedule(now + step, self._go_on, launch)

    def _waits_no_more(self, launch: _Launch) -> None:
        self._waiting -= launch.waits
        launch.waits = False

    def _attempt(self, now: float, launch: _Launch, name: str) -> None:
        arrival, model, results = launch.arrival, self._models[name], self._results
        results.attempts += 1
        results.into_grey += model.grey and not model.down
        attempt = Attempt(now, arrival.repo, launch.id)
        reservation = Reservation(launch.id, arrival.repo, arrival.commit, made_at=now)
        self._believed[name].change(now, lambda view: transitions.reserved(view, reservation, now, self._health))
        order = Order(
            launch.id,
            (arrival.repo, arrival.commit),
            launch.session_s,
            lambda at, end: self._ended(at, launch, name, attempt, end),
        )
        model.begin(now, order, self._setup.launches)

    def _ended(self, now: float, launch: _Launch, name: str, attempt: Attempt, end: End) -> None:
        """What follows of the end of an attempt, for belief and for the launch."""
        believed, health, ready = self._believed[name], self._health, end == End.READY
        if ready:
            believed.change(now, lambda view: transitions.succeeded(view, attempt, now, health))
            for other, earlier in launch.doubtful:
                if other != name:
                    self._failed(now, other, earlier, sure=True)
        elif end in (End.FAILED, End.CUT, End.LOST):
            # That a session does not start may be the repository's failure, until it does start elsewhere.
            sure = end != End.FAILED
            self._failed(now, name, attempt, sure=sure)
            launch.doubtful += [] if sure else [(name, attempt)]
        believed.change(now, lambda view: transitions.released(view, launch.id, ready, now, health))
        if ready:
            self._end(now, launch, Ending.READY)
        elif end == End.REFUSED:
            self._results.refusals += 1
            believed.change(now, lambda view: transitions.refused(view, now, health))
            launch.refused[name] = now + self._setup.assumptions.full_retry_after
            self._go_on(now, launch)
        else:
            if end == End.CONNECT:
                believed.change(now, lambda view: transitions.unreached(view, "It cannot be reached.", now, health))
            self._fail_over(now, launch, name)

    def _failed(self, now: float, name: str, attempt: Attempt, *, sure: bool) -> None:
        draw, health = self._chance.random(), self._health
        self._believed[name].change(
            now, lambda view: transitions.failed(view, "It failed a launch.", attempt, now, draw, health, sure=sure)
        )

    def _fail_over(self, now: float, launch: _Launch, name: str) -> None:
        settings = self._setup.launches
        launch.tried += (name,)
        if len(launch.tried) >= settings.max_attempts:
            self._end(now, launch, Ending.FAILED)
            return
        self._results.failovers += 1
        self._timeline.schedule(now + self._budget.spend(settings, now), self._go_on, launch)

    def _end(self, now: float, launch: _Launch, ending: Ending) -> None:
        results = self._results
        results.endings[ending] += 1
        if ending == Ending.READY:
            results.times_to_ready.append(now - launch.arrival.at)
        elif ending == Ending.REFUSED:
            results.avoidable += any(model.has_room for model in self._models.values())

    def _trouble_begins(self, now: float, outage: Outage) -> None:
        name = self._setup.names[outage.member]
        model, probes = self._models[name], self._health.probes
        self._troubles[name].append(outage.trouble)
        self._timeline.schedule(outage.end, self._trouble_ends, outage)
        if outage.trouble == Trouble.GREY:
            model.grey = True
            return
        lose = outage.trouble == Trouble.LOST
        model.go_away(now, lose=lose, stalled_after=self._setup.launches.stalled_after)
        first = now + self._chance.random() * probes.interval
        for number in range(probes.unhealthy_after):
            self._timeline.schedule(first + number * probes.interval * _RETRY_SHARE, self._probe, name)

    def _trouble_ends(self, now: float, outage: Outage) -> None:
        name = self._setup.names[outage.member]
        model, troubles, probes = self._models[name], self._troubles[name], self._health.probes
        troubles.remove(outage.trouble)
        model.grey = Trouble.GREY in troubles
        if outage.trouble != Trouble.GREY:
            model.come_back(now)
            first = now + self._chance.random() * probes.interval
            for number in range(probes.healthy_after):
                self._timeline.schedule(first + number * probes.interval, self._probe, name)

    def _probe(self, now: float, name: str) -> None:
        self._believed[name].probe(now)

    def _each_minute(self, now: float, until: float) -> None:
        shares = [model.used / model.limit for model in self._models.values() if not model.down]
        if any(shares):
            self._results.spreads.append(max(shares) * len(shares) / math.fsum(shares))
        if now < until:
            self._timeline.schedule(now + MINUTE, self._each_minute, until)
