"""The supervisor, over real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from manybinder.supervise import check_order
from servicekit.processes import ProcessSpec
from tests.federation import free_port
from tests.manybinder import noting_process, supervised

PROGRAM = noting_process.__file__


@dataclass
class Run:
    """A supervisor that runs."""

    directory: Path
    specs: list[ProcessSpec] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def add(self, name: str, *options: str, **fields: object) -> None:
        argv = (sys.executable, PROGRAM, str(self.directory / "journal"), name, *options)
        log = str(self.directory / "logs" / f"{name}.log")
        self.specs.append(ProcessSpec(name=name, argv=argv, log=log, **fields))  # type: ignore[arg-type]

    def add_shell(self, name: str, script: str) -> None:
        """A child that takes no time to start."""
        argv = ("/bin/sh", "-c", f"echo {name} began $$ >> {self.directory / 'journal'}; {script}")
        self.specs.append(ProcessSpec(name=name, argv=argv, log=str(self.directory / f"{name}.log")))

    def start(self, grace: float = supervised.PACE.grace) -> None:
        argv = [supervised.__file__, supervised.as_json(self.specs), str(self.directory / "changes"), str(grace)]
        self.process = subprocess.Popen([sys.executable, *argv])

    def set_clock(self, now: float) -> None:
        """Set the clock by which the supervisor measures lives."""
        new = self.directory / "clock.new"
        new.write_text(str(now))
        new.replace(self.directory / "clock")

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def pids(self, name: str) -> list[int]:
        """The process ids of a child's lives."""
        return [int(line.split()[2]) for line in self.lines("journal") if line.startswith(f"{name} began ")]

    def end(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = 90) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(deadline_s)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    if run.process is not None and run.process.poll() is None:
        run.process.kill()
        run.process.wait()
    for line in run.lines("journal"):
        if " began " in line:
            _kill(int(line.split()[2]))


def _kill(pid: int) -> None:
    try:
        if PROGRAM in psutil.Process(pid).cmdline():
            os.kill(pid, signal.SIGKILL)
    except (psutil.Error, ProcessLookupError):
        pass


def until(condition: Callable[[], object], deadline_s: float = 60) -> None:
    """Wait for a condition."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended; who reaps it is another matter."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def test_processes_start_in_order_each_once_the_one_before_is_ready(run: Run, tmp_path: Path) -> None:
    port, gate = free_port(), tmp_path / "gate"
    run.add("third", after=("second",))
    run.add("second", after=("first",))
    run.add("first", f"serves={port}", f"needs={gate}", ready_url=f"http://127.0.0.1:{port}/")
    run.start()
    until(lambda: run.pids("first"))
    time.sleep(0.3)  # long enough to show that nobody jumps the queue
    assert not run.pids("second")
    gate.touch()
    until(lambda: run.pids("second") and run.pids("third"))
    until(lambda: any("third READY" in line for line in run.lines("changes")))
    changes = [" ".join(line.split()[:2]) for line in run.lines("changes")]
    assert changes == [f"{name} {state}" for name in ("first", "second", "third") for state in ("STARTING", "READY")]
    run.end()
    told = [line.split()[0] for line in run.lines("journal") if line.endswith("told")]
    assert told == ["third", "second", "first"]
    assert run.lines("changes")[-1] == "supervisor DONE"


def test_what_dies_is_restarted_and_what_keeps_dying_ever_more_slowly(run: Run) -> None:
    run.add("steady")
    run.add_shell("broken", "exit 3")
    run.start()
    until(lambda: run.pids("steady"))
    os.kill(run.pids("steady")[0], signal.SIGKILL)
    until(lambda: len(run.pids("steady")) == 2)
    assert "steady ENDED by SIGKILL; it is restarted in 0.05 s" in run.lines("changes")
    until(lambda: len(run.pids("broken")) >= 6)
    ends = [line for line in run.lines("changes") if line.startswith("broken ENDED")]
    assert [line.rpartition(" in ")[2] for line in ends[:5]] == ["0.05 s", "0.1 s", "0.2 s", "0.4 s", "0.4 s"]
    assert "exit code 3" in ends[0]
    run.end()


def test_a_long_life_is_rewarded_with_a_quick_restart(run: Run) -> None:
    run.add_shell("steady", "exec sleep 600")
    run.start()
    for lives in (1, 2):
        until(lambda lives=lives: len(run.pids("steady")) == lives)
        os.kill(run.pids("steady")[-1], signal.SIGKILL)
    until(lambda: len(run.pids("steady")) == 3)
    run.set_clock(supervised.PACE.healthy_after)  # the healthy life
    os.kill(run.pids("steady")[-1], signal.SIGKILL)
    until(lambda: len(run.pids("steady")) == 4)
    delays = [line.rpartition(" in ")[2] for line in run.lines("changes") if "ENDED" in line]
    assert delays == ["0.05 s", "0.1 s", "0.05 s"]
    run.end()


def test_a_program_that_is_not_there_is_said_so_and_tried_again(run: Run, tmp_path: Path) -> None:
    run.specs.append(ProcessSpec(name="absent", argv=(str(tmp_path / "absent"),), log=str(tmp_path / "log")))
    run.start()
    until(lambda: len([line for line in run.lines("changes") if "ENDED" in line]) >= 2)
    assert "absent ENDED it cannot be started: No such file or directory" in run.lines("changes")[1]
    run.end()
    assert run.lines("changes")[-1] == "supervisor DONE"


def test_who_does_not_listen_is_killed(run: Run) -> None:
    run.add("deaf", "deaf")
    run.start(grace=1.5)
    until(lambda: run.pids("deaf"))
    begun = time.monotonic()
    run.end()
    assert time.monotonic() - begun >= 1.5
    assert "deaf STOPPED by SIGKILL" in run.lines("changes")


def test_a_second_signal_leaves_no_grace(run: Run) -> None:
    run.add("deaf", "deaf")
    run.start()
    until(lambda: run.pids("deaf"))
    assert run.process is not None
    run.process.send_signal(signal.SIGINT)
    until(lambda: any("STOPPING" in line for line in run.lines("changes")))
    run.end(signal.SIGINT, deadline_s=supervised.PACE.grace / 2)
    assert gone(run.pids("deaf")[0])


def test_orphans_outlive_their_parent_and_end_with_the_supervisor(run: Run) -> None:
    run.add("hub", "orphan=notebook", foreign=True)
    run.start()
    until(lambda: run.pids("notebook"))
    os.kill(run.pids("hub")[0], signal.SIGKILL)
    until(lambda: len(run.pids("hub")) == 2)
    assert not gone(run.pids("notebook")[0])
    assert run.process is not None
    assert psutil.Process(run.pids("notebook")[0]).ppid() == run.process.pid
    run.end()
    assert all(gone(pid) for pid in run.pids("notebook"))
    assert "notebook told" in run.lines("journal")


def test_helpers_of_a_process_that_crashed_do_not_disturb_its_next_life(run: Run) -> None:
    run.add("api", "helper=build")
    run.start()
    until(lambda: run.pids("build"))
    os.kill(run.pids("api")[0], signal.SIGKILL)
    until(lambda: gone(run.pids("build")[0]))
    run.end()


def test_adopted_processes_leave_no_zombies(run: Run) -> None:
    run.add("hub", "orphan=notebook")
    run.start()
    until(lambda: run.pids("notebook"))
    os.kill(run.pids("hub")[0], signal.SIGKILL)
    until(lambda: len(run.pids("hub")) == 2)
    os.kill(run.pids("notebook")[0], signal.SIGKILL)
    until(lambda: not psutil.pid_exists(run.pids("notebook")[0]))
    run.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_however_the_supervisor_ends_nothing_is_left(run: Run, number: signal.Signals) -> None:
    run.add("ours", "watches")
    run.add("foreign", foreign=True)
    run.add("hub", "orphan=notebook", "watching", foreign=True)
    run.start()
    until(lambda: all(run.pids(name) for name in ("ours", "foreign", "hub", "notebook")))
    pids = [pid for name in ("ours", "foreign", "hub", "notebook") for pid in run.pids(name)]
    run.end(number)
    until(lambda: all(gone(pid) for pid in pids))


def test_logs_are_private_and_go_on_over_restarts(run: Run, tmp_path: Path) -> None:
    run.specs.append(
        ProcessSpec(name="talker", argv=("/bin/sh", "-c", "echo out; echo err >&2"), log=str(tmp_path / "new" / "log"))
    )
    run.start()
    until(lambda: len([line for line in run.lines("changes") if "ENDED" in line]) >= 2)
    run.end()
    log = tmp_path / "new" / "log"
    assert log.read_text().startswith("out\nerr\nout\nerr\n")
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("after", [{"a": ("b",), "b": ("a",)}, {"a": ("nobody",)}, {"a": ("a",)}])
def test_an_impossible_order_is_refused(after: dict[str, tuple[str, ...]]) -> None:
    specs = [ProcessSpec(name=name, argv=("true",), log="log", after=names) for name, names in after.items()]
    with pytest.raises(ValueError, match="wait for each other"):
        check_order(specs)
