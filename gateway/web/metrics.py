"""Metrics, computed from the snapshot and the tallies when they are asked for: a gauge always tells the present."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.core.fleet import CapacityState
from gateway.core.tallies import Tallies
from gateway.core.versions import skew
from gateway.web.parts import Parts


class GatewayCollector(Collector):
    """Reads what there is; stores nothing."""

    def __init__(self, parts: Parts) -> None:
        self._fleet, self._launches, self._archive = parts.fleet, parts.launches, parts.archive
        self._version, self._alerts, self._replicas = parts.site.version, parts.alerts, parts.replicas
        self._providers = parts.providers

    def collect(self) -> Iterator[Metric]:
        """All metrics of the gateway."""
        yield from self._members()
        yield from self._counters(self._launches.tallies)
        alerts = GaugeMetricFamily(
            "manybinder_gateway_alert", "Whether an alert stands; absent where it does not", labels=["alert", "member"]
        )
        for alert in self._alerts.standing:
            alerts.add_metric([alert.name.value, alert.member], 1)
        yield alerts
        yield GaugeMetricFamily(
            "manybinder_gateway_shared_state_away",
            "Whether the state that replicas share does not answer",
            value=float(self._replicas.away_since is not None),
        )
        if self._archive is not None:
            events = CounterMetricFamily(
                "manybinder_gateway_launch_events", "Launch events for the archive", labels=["outcome"]
            )
            events.add_metric(["written"], self._archive.written)
            events.add_metric(["lost"], self._archive.lost)
            yield events
        if (quota := self._providers.github_quota) is not None:
            yield GaugeMetricFamily(
                "binderhub_github_rate_limit_remaining", "Requests that GitHub's API still allows", value=quota
            )
        yield GaugeMetricFamily(
            "manybinder_gateway_launches_running", "Launches that are not finished", value=self._launches.running
        )
        yield GaugeMetricFamily(
            "manybinder_gateway_launches_waiting",
            "Launches that wait for a member that can take them",
            value=self._launches.waiting,
        )
        yield GaugeMetricFamily(
            "manybinder_gateway_event_streams", "Open event streams of visitors", value=self._launches.streams
        )

    def _members(self) -> Iterator[Metric]:
        snapshot, now = self._fleet.snapshot, self._fleet.now()
        health = GaugeMetricFamily(
            "federation_health", "Whether a member is in rotation, and the state it is in", labels=["member", "reason"]
        )
        check = GaugeMetricFamily(
            "federation_health_check", "Whether a check of a member passes", labels=["member", "check"]
        )
        free = GaugeMetricFamily(
            "manybinder_member_sessions_free", "Sessions believed free; absent where unknown", labels=["member"]
        )
        full = GaugeMetricFamily("manybinder_member_full", "Whether a member is full", labels=["member"])
        age = GaugeMetricFamily(
            "manybinder_member_report_age_seconds", "Age of a member's last capacity report", labels=["member"]
        )
        skewed = GaugeMetricFamily(
            "federation_version_skew", "Whether a member runs another version than this gateway", labels=["member"]
        )
        for view in snapshot.members:
            skewed.add_metric([view.name], float(skew(view.versions, self._version) is not None))
            status = snapshot.status(view, now)
            health.add_metric([view.name, status.state], float(status.available))
            check.add_metric([view.name, "reachable"], float(view.reachable.ok is True))
            check.add_metric([view.name, "passing"], float(view.reachable.ok is True and view.passing.ok is True))
            check.add_metric([view.name, "launching"], float(view.outcomes.ejection is None))
            full.add_metric([view.name], float(status.capacity == CapacityState.FULL))
            if status.free is not None:
                free.add_metric([view.name], status.free)
            if view.received is not None:
                age.add_metric([view.name], now - view.received.at)
        yield from (health, check, free, full, age, skewed)

    def _counters(self, tallies: Tallies) -> Iterator[Metric]:
        reloads = CounterMetricFamily(
            "manybinder_gateway_config_reloads", "Times the settings were read again", labels=["outcome"]
        )
        for outcome in ("accepted", "refused"):
            reloads.add_metric([outcome], tallies.reloads[outcome])
        yield reloads
        for name, text, second, counts in (
            ("federation_redirect_count", "Launches sent to a member", "reason", tallies.attempts),
            (
                "manybinder_gateway_faults",
                "Attempts that failed between gateway and member",
                "fault",
                tallies.failovers,
            ),
            ("manybinder_gateway_launches", "Finished launches", "outcome", tallies.outcomes),
            ("manybinder_gateway_builds", "Finished builds without a launch", "outcome", tallies.builds),
            ("manybinder_gateway_reports", "Capacity reports received", "outcome", tallies.reports),
        ):
            family = CounterMetricFamily(name, text, labels=["member", second])
            for labels, count in sorted(counts.items()):
                family.add_metric(list(labels), count)
            yield family


def make_registry(parts: Parts) -> CollectorRegistry:
    """A registry of its own, so that two gateways in one process do not meet."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(parts))
    return registry
