"""What holds for every test: skips are accounted for, and nothing that a test started outlives the run."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.chromium import browser, page, plain_page
from tests.looks import axe_core, axe_script

__all__ = ["axe_core", "axe_script", "browser", "page", "plain_page"]

# How long an example takes says how busy the machine is.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"

#: Files that take minutes, the longest first: a worker that came to one of them last would work on alone.
#: (What starts the same for long stands so that one worker is likely to get both: members and connections, containers.)
LONG = (
    "faults/test_replicas_fail.py",
    "faults/test_members_fail.py",
    "faults/test_connections_break.py",
    "e2e/test_container_sessions.py",
    "e2e/test_crowd_at_a_real_hub.py",
    "member/builder/test_session_run.py",
    "e2e/test_container_builder.py",
    "e2e/test_images.py",
    "member/kubernetes/test_kubernetes_hub.py",
    "e2e/test_authenticated_member.py",
    "e2e/test_bad_input.py",
    "faults/test_slow_consumers.py",
    "e2e/test_member_dies.py",
    "e2e/test_member_joins.py",
    "e2e/test_hostile_repository.py",
    "e2e/test_session_ends.py",
    "member/builder/test_builder_failures.py",
    "e2e/test_reverse_proxy.py",
    "e2e/test_ban_ends_sessions.py",
    "manybinder/test_up.py",
    "member/test_hub_real.py",
)


def _allowed_reasons() -> list[str]:
    lines = ALLOWED_SKIPS.read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def pytest_configure() -> None:
    """Let no plugin that asks for "the" event loop outside of a test make one, which nobody would close."""
    asyncio.set_event_loop(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first; all else stays in its order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    for path in places:
        assert path.exists(), f"{path} is no test file any more"
    items.sort(key=lambda item: places.get(item.path, len(places)))


#: What the workers of a run have left behind.
_left_by_workers: list[str] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Hear from a worker that ends what it has left behind."""
    _left_by_workers.extend(getattr(node, "workeroutput", {}).get("left_over", []))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where CI runs, a skip whose reason is not on the committed list fails the run; so does a process left over."""
    left_over = [f"left running: {process}" for process in _left_over()]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_over"] = left_over
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    problems = left_over + _left_by_workers
    if os.environ.get("CI"):
        problems += _skips_not_allowed(skipped)
    if problems and reporter is not None:
        reporter.write_sep("=", "the run as a whole", red=True)
        for problem in problems:
            reporter.write_line(problem)
    if problems and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skips_not_allowed(skipped: list[pytest.TestReport]) -> list[str]:
    allowed, problems = _allowed_reasons(), []
    for report in skipped:
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        if not any(reason.startswith(start) for start in allowed):
            problems.append(f"{report.nodeid} was skipped for a reason that is not allowed here: {reason}")
    return problems


def _left_over() -> list[psutil.Process]:
    """Children that are still there after a moment's patience."""
    deadline = time.monotonic() + 60
    while True:
        alive = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.2)
