"""What is measured; names are BinderHub's where it has one, labels few, so that no visitor can grow them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Seconds; builds take minutes, launches seconds.
_BUILD_BUCKETS = (5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, float("inf"))
_PHASE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, float("inf"))
_LAUNCH_BUCKETS = (1, 2, 3, 5, 7.5, 10, 15, 30, 60, 120, 300, 600, float("inf"))


class Metrics:
    """A registry of its own, so that two members in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.build_time = Histogram(
            "binderhub_build_time_seconds",
            "Time of a build",
            ["status"],
            buckets=_BUILD_BUCKETS,
            registry=self.registry,
        )
        self.launch_time = Histogram(
            "binderhub_launch_time_seconds",
            "Time from a built image to a session that answers, with what it took to fail",
            ["status", "retries"],
            buckets=_LAUNCH_BUCKETS,
            registry=self.registry,
        )
        self.build_count = Counter("binderhub_build_count", "Builds", ["status", "provider"], registry=self.registry)
        self.launch_count = Counter(
            "binderhub_launch_count", "Launches by what became of them", ["status", "provider"], registry=self.registry
        )
        self.inprogress_builds = Gauge("binderhub_inprogress_builds", "Builds that run", registry=self.registry)
        self.inprogress_launches = Gauge("binderhub_inprogress_launches", "Launches that run", registry=self.registry)
        self.queued_builds = Gauge("manybinder_member_queued_builds", "Builds that wait", registry=self.registry)
        self.queued_launches = Gauge(
            "manybinder_member_queued_launches", "Launches that wait for the Hub", registry=self.registry
        )
        self.held_builds = Gauge(
            "manybinder_member_held_builds", "Images whose build has failed lately", registry=self.registry
        )
        self.builds_not_begun = Counter(
            "manybinder_member_builds_not_begun",
            "Builds that were asked for and not begun: held (it has failed not long ago), queue_full, queue_timeout",
            ["reason"],
            registry=self.registry,
        )
        self.draining = Gauge(
            "manybinder_member_draining",
            "1 while the disk is nearly full: no launch is taken",
            registry=self.registry,
        )
        self.phase_time = Histogram(
            "manybinder_member_phase_seconds",
            "Time of a phase: build_queue, fetching, building, pushing, launch_queue, starting",
            ["phase"],
            buckets=_PHASE_BUCKETS,
            registry=self.registry,
        )
        self.github_quota = Gauge(
            "binderhub_github_rate_limit_remaining",
            "Requests that GitHub's API still allows; not a number until it was asked",
            registry=self.registry,
        )
        self.report_failures = Counter(
            "manybinder_member_report_failures", "Capacity reports that did not arrive", registry=self.registry
        )

    def phase(self, phase: str, seconds: float) -> None:
        """A phase of a build or a launch has taken so many seconds."""
        self.phase_time.labels(phase).observe(seconds)

    def built(self, status: str, provider: str, seconds: float) -> None:
        """A build has ended after so many seconds: ``success``, ``failure`` or ``cancelled``."""
        self.build_count.labels(status, provider).inc()
        self.build_time.labels(status).observe(seconds)
