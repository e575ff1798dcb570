"""What is measured; names are BinderHub's where it has one, labels few, so that no visitor can grow them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Seconds; builds take minutes, launches seconds.
_BUILD_BUCKETS = (5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, float("inf"))
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
            "Time from a built image to a session that answers",
            ["status"],
            buckets=_LAUNCH_BUCKETS,
            registry=self.registry,
        )
        self.build_count = Counter("binderhub_build_count", "Builds", ["status"], registry=self.registry)
        self.launch_count = Counter(
            "binderhub_launch_count", "Launches by what became of them", ["status", "provider"], registry=self.registry
        )
        self.inprogress_builds = Gauge("binderhub_inprogress_builds", "Builds that run", registry=self.registry)
        self.inprogress_launches = Gauge("binderhub_inprogress_launches", "Launches that run", registry=self.registry)
        self.queued_builds = Gauge("manybinder_member_queued_builds", "Builds that wait", registry=self.registry)
        self.queued_launches = Gauge(
            "manybinder_member_queued_launches", "Launches that wait for the Hub", registry=self.registry
        )
        self.github_quota = Gauge(
            "binderhub_github_rate_limit_remaining",
            "Requests that GitHub's API still allows; not a number until it was asked",
            registry=self.registry,
        )
        self.report_failures = Counter(
            "manybinder_member_report_failures", "Capacity reports that did not arrive", registry=self.registry
        )

    def built(self, success: bool, seconds: float) -> None:
        """A build has ended after so many seconds."""
        status = "success" if success else "failure"
        self.build_count.labels(status).inc()
        self.build_time.labels(status).observe(seconds)
