"""The archive of launches, in real files: whatever happens to it, lines are whole and the index is right."""

import asyncio
import contextlib
import fcntl
import json
import logging
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Phase
from contract.repos import repo_key
from gateway.core.launch import Outcome
from gateway.core.launch_events import ArchiveSettings, FinishedLaunch
from gateway.engines import archive_files
from gateway.engines.archive import Archive, archive_directory
from gateway.engines.archive_files import ArchiveFiles, Line, day_of, file_name
from gateway.web import archive as routes
from providers.base import RepoSpec
from servicekit.problems import problem_middleware
from servicekit.tasks import Tasks

#: Where one day ends and the next begins.
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
DAY_1, DAY_2 = "events-2026-11-23.jsonl", "events-2026-11-24.jsonl"
TODAY = date(2026, 11, 24)


def launch(at: float, raw: str = "gh/org/repo/main", outcome: Outcome = Outcome.READY) -> FinishedLaunch:
    """A launch that ended then."""
    url = "https://github.com/org/repo"
    spec = RepoSpec(raw.partition("/")[0], raw, url, "main", repo_key(url))
    return FinishedLaunch(spec, outcome, at, "https://member.example/", "c" * 40, "member", 1, Phase.LAUNCHING)


def lines(path: Path) -> list[dict[str, Any]]:
    """A file of the archive, whose every line must be whole."""
    if not path.exists():
        return []
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def check_index(directory: Path) -> dict[str, int]:
    """The counts of the index, which must be those of the files, in the order of the days."""
    index = lines(directory / "index.jsonl")
    for entry in index:
        assert entry == {"name": f"events-{entry['date']}.jsonl", "date": entry["date"], "count": entry["count"]}
    assert [entry["date"] for entry in index] == sorted(entry["date"] for entry in index)
    counts = {entry["name"]: entry["count"] for entry in index}
    assert len(counts) == len(index)
    there = {path.name: len(lines(path)) for path in directory.glob("events-*.jsonl")}
    assert counts == {name: count for name, count in there.items() if count}
    return counts


@contextlib.asynccontextmanager
async def running(directory: Path, keep_days: int | None = None, **options: Any) -> AsyncIterator[Archive]:
    """An archive that runs, and has written all at the end."""
    tasks = Tasks()
    archive = Archive(directory, keep_days, **{"wall": lambda: MIDNIGHT + 60, **options})
    archive.start(tasks)
    try:
        yield archive
        await archive.close()
    finally:
        await tasks.close()
    assert tasks.crashes == {}


async def written(archive: Archive) -> None:
    """Wait until nothing waits."""
    async with asyncio.timeout(30):
        while archive.waiting:
            await asyncio.sleep(0.01)


async def test_a_line_a_launch_and_an_index(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "archive"
    async with running(directory) as archive:
        archive.record(launch(MIDNIGHT - 0.001))
        archive.record(launch(MIDNIGHT - 3599, outcome=Outcome.USER))
        archive.record(launch(MIDNIGHT))
        archive.record(launch(MIDNIGHT + 61.5, f"git/{quote('https://u:p@h/o/r', safe='')}/main"))
    first, second = lines(directory / DAY_1), lines(directory / DAY_2)
    assert [item["timestamp"] for item in first] == ["2026-11-23T23:59:00+00:00", "2026-11-23T23:00:00+00:00"]
    assert [item["schema"] for item in first] == ["binderhub.jupyter.org/launch", "manybinder/launch-failure"]
    assert [item["timestamp"] for item in second] == ["2026-11-24T00:00:00+00:00", "2026-11-24T00:01:00+00:00"]
    assert [item["spec"] for item in second] == ["org/repo/main", "redacted"]
    assert (directory / "index.jsonl").read_text() == (
        '{"name": "events-2026-11-23.jsonl", "date": "2026-11-23", "count": 2}\n'
        '{"name": "events-2026-11-24.jsonl", "date": "2026-11-24", "count": 2}\n'
    )
    assert (archive.written, archive.lost, archive.redacted, archive.torn) == (4, 0, 1, 0)


async def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    for n in range(3):
        async with running(tmp_path) as archive:
            archive.record(launch(MIDNIGHT + n))
            await written(archive)
            archive.record(launch(MIDNIGHT - 100))
    assert check_index(tmp_path) == {DAY_1: 3, DAY_2: 3}


async def test_what_cannot_be_told_is_lost_and_fails_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path) as archive:
        archive.record(launch(MIDNIGHT, "none/revision"))
        archive.record(launch(float("nan")))
        archive.record(launch(float("inf")))
        archive.record(launch(1e18))
        archive.record(launch(MIDNIGHT))
        await written(archive)
    archive.record(launch(MIDNIGHT))
    assert (archive.written, archive.lost) == (1, 5)
    assert check_index(tmp_path) == {DAY_2: 1}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@given(st.data())
def test_a_torn_line_is_dropped_wherever_it_was_cut(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ArchiveFiles(directory).write([Line(TODAY, b'{"n": "\xc3\xa4"}\n') for _ in range(3)], TODAY)
        path = directory / file_name(TODAY)
        size = path.stat().st_size
        cut = data.draw(st.integers(0, size))
        with path.open("r+b") as file:
            file.truncate(cut)
        whole = cut // (size // 3)
        if data.draw(st.booleans()):
            (directory / "index.jsonl").unlink()
        files = ArchiveFiles(directory)
        # Mended at start, not only by the next event of that day.
        assert files.write([], TODAY + timedelta(days=data.draw(st.integers(0, 3)))).error is None
        assert check_index(directory) == ({file_name(TODAY): whole} if whole else {})
        assert files.torn == (cut % (size // 3) != 0)
        files.write([Line(TODAY, b"{}\n")], TODAY)
        assert check_index(directory) == {file_name(TODAY): whole + 1}


#: Writes events until it is killed, and says so after each batch.
WRITER = """
import sys
from datetime import date
from pathlib import Path
from gateway.engines.archive_files import ArchiveFiles, Line
files, n, name = ArchiveFiles(Path(sys.argv[1])), 0, sys.argv[2]
while n < int(sys.argv[3]):
    text = b'{"by": "%s", "n": %d, "x": "%s"}\\n'
    batch = [Line(date(2026, 11, 23 + i % 2), text % (name.encode(), n + i, b"x" * 3000)) for i in range(10)]
    written = files.write(batch, date(2026, 11, 24))
    assert (written.written, written.error) == (10, None), written
    n += 10
    print(n, flush=True)
"""


def writer(directory: Path, name: str, count: int) -> subprocess.Popen[str]:
    """Another process that writes to the archive."""
    argv = [sys.executable, "-c", WRITER, str(directory), name, str(count)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_killed_amid_writing(tmp_path: Path) -> None:
    told = 0
    for n in range(5):
        with writer(tmp_path, str(n), 10**9) as process:
            assert process.stdout is not None
            for _ in range(10 + 7 * n):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().split()
        told += int(said[-1]) if said else 10 * (10 + 7 * n)
    files = ArchiveFiles(tmp_path)
    assert files.write([], TODAY).error is None
    # All that was said to be written is there; of what was under way, at most the batch of each.
    assert told <= sum(check_index(tmp_path).values()) <= told + 5 * 10


def test_processes_that_share_a_directory(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(writer(tmp_path, str(n), 300)) for n in range(3)]
        for process in processes:
            process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(check_index(tmp_path).values()) == 900
    for name in "012":
        found = [item["n"] for path in tmp_path.glob("events-*") for item in lines(path) if item["by"] == name]
        assert sorted(found) == list(range(300))


async def test_many_at_a_time(tmp_path: Path) -> None:
    async def record(archive: Archive, n: int) -> None:
        for i in range(50):
            archive.record(launch(MIDNIGHT - 1 + i % 2, f"gh/org/repo-{n}-{i}/main"))
            if i % 7 == 0:
                await asyncio.sleep(0)

    async with running(tmp_path) as one, running(tmp_path) as other:
        await asyncio.gather(*(record((one, other)[n % 2], n) for n in range(40)))
    assert (one.written + other.written, one.lost + other.lost) == (2000, 0)
    assert check_index(tmp_path) == {DAY_1: 1000, DAY_2: 1000}
    specs = Counter(item["spec"] for name in (DAY_1, DAY_2) for item in lines(tmp_path / name))
    assert len(specs) == 2000
    # One launch after the other, in the order in which they ended.
    order = [item["spec"] for item in lines(tmp_path / DAY_1) if item["spec"].startswith("org/repo-4-")]
    assert order == [f"org/repo-4-{i}/main" for i in range(0, 50, 2)]


async def test_a_directory_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "archive"
    directory.write_text("a file")
    now = 0.0
    async with running(directory, clock=lambda: now) as archive:
        for n in range(10):
            archive.record(launch(MIDNIGHT))
            await written(archive)
            assert archive.lost == n + 1
        assert len(caplog.records) == 1
        now = 59.9
        archive.record(launch(MIDNIGHT))
        await written(archive)
        assert len(caplog.records) == 1
        now = 60.1
        archive.record(launch(MIDNIGHT))
        await written(archive)
        assert len(caplog.records) == 2
        assert str(directory) in caplog.messages[1]
        assert "12 lost so far" in caplog.messages[1]
        directory.unlink()
        archive.record(launch(MIDNIGHT))
        await written(archive)
    assert (archive.written, archive.lost) == (1, 12)
    assert check_index(directory) == {DAY_2: 1}


@contextlib.contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes; a write that would is cut short, as by a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    async with running(tmp_path) as archive:
        archive.record(launch(MIDNIGHT))
        await written(archive)
        with limited_files(1000):
            for _ in range(10):
                archive.record(launch(MIDNIGHT))
                await written(archive)
        kept = len(lines(tmp_path / DAY_2))
        assert 1 < kept < 11
        assert (archive.written, archive.lost) == (kept, 11 - kept)
        check_index(tmp_path)
        archive.record(launch(MIDNIGHT))
    assert check_index(tmp_path) == {DAY_2: kept + 1}
    assert (archive.lost, archive.torn) == (11 - kept, 0)


def test_a_disk_too_full_for_the_first_line(tmp_path: Path) -> None:
    files = ArchiveFiles(tmp_path)
    with limited_files(5):
        result = files.write([Line(TODAY, b"0123456789\n")], TODAY)
    assert (result.written, result.lost) == (0, 1)
    assert isinstance(result.error, OSError)
    assert list(tmp_path.glob("events-*")) == []
    # The events fit and the index does not: it follows later.
    with limited_files(15):
        result = files.write([Line(TODAY, b"{}\n")], TODAY)
    assert (result.written, result.lost) == (1, 0)
    assert isinstance(result.error, OSError)
    assert files.write([], TODAY).error is None
    assert check_index(tmp_path) == {file_name(TODAY): 1}
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "index.jsonl", file_name(TODAY)}


async def test_a_slow_disk_holds_nothing_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".lock").touch()
    tasks = Tasks()
    archive = Archive(tmp_path, queue_limit=100)
    with (tmp_path / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        archive.record(launch(MIDNIGHT))
        archive.start(tasks)
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        for _ in range(300):
            archive.record(launch(MIDNIGHT))
        assert time.monotonic() - begun < 1
        # One is being written.
        assert (archive.waiting, archive.lost) == (101, 200)
        begun = time.monotonic()
        await archive.close()
        assert 1.9 < time.monotonic() - begun < 4
    assert (archive.waiting, archive.lost, archive.written) == (0, 301, 0)
    assert len(caplog.records) == 1
    await tasks.close()
    assert tasks.crashes == {}


async def test_the_end_writes_what_waits(tmp_path: Path) -> None:
    async with running(tmp_path) as archive:
        for _ in range(5000):
            archive.record(launch(MIDNIGHT))
    assert (archive.written, archive.lost) == (5000, 0)
    assert check_index(tmp_path) == {DAY_2: 5000}
    await archive.close()


async def test_one_that_never_began_ends(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.record(launch(MIDNIGHT))
    await archive.close()
    assert (archive.written, archive.lost) == (0, 1)


async def test_days_that_are_kept(tmp_path: Path) -> None:
    now = MIDNIGHT + 60
    (tmp_path / "notes.jsonl").write_text("{}\n")
    async with running(tmp_path, 2, wall=lambda: now) as archive:
        for days in range(5):
            archive.record(launch(MIDNIGHT + days * 86400))
        await written(archive)
        assert len(check_index(tmp_path)) == 5
        now += 3 * 86400
        archive.record(launch(now))
        await written(archive)
        assert check_index(tmp_path) == {
            "events-2026-11-26.jsonl": 1,
            "events-2026-11-27.jsonl": 2,
            "events-2026-11-28.jsonl": 1,
        }
        now += 86400
    async with running(tmp_path, 1, wall=lambda: now):
        pass
    assert check_index(tmp_path) == {"events-2026-11-28.jsonl": 1}
    assert (tmp_path / "notes.jsonl").exists()
    async with running(tmp_path, 10**9, wall=lambda: now):
        pass
    assert check_index(tmp_path) == {"events-2026-11-28.jsonl": 1}


days = st.integers(0, 4).map(lambda n: TODAY + timedelta(days=n))
steps: st.SearchStrategy[tuple[str, list[date]]] = st.one_of(
    st.tuples(st.just("write"), st.lists(days, max_size=5)),
    st.tuples(st.just("restart"), st.just([])),
    st.tuples(st.sampled_from(["tear", "remove", "write outside"]), days.map(lambda day: [day])),
    st.tuples(st.sampled_from(["lose index", "spoil index"]), st.just([])),
)


@given(st.lists(steps, max_size=20))
def test_the_index_is_right_after_every_start_and_write(sequence: list[tuple[str, list[date]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        files = ArchiveFiles(directory)
        other = ArchiveFiles(directory)
        files.write([], TODAY)
        n = 0
        for step, of in sequence:
            path = directory / file_name(of[0]) if of else directory / "index.jsonl"
            if step == "write":
                n += len(of)
                assert files.write([Line(day, b'{"n": 1}\n') for day in of], TODAY).error is None
                check_index(directory)
            elif step == "write outside":
                assert other.write([Line(of[0], b"{}\n")], TODAY).error is None
                check_index(directory)
            elif step == "tear" and path.exists():
                with path.open("ab") as file:
                    file.write(b'{"n": ')
                # A process that is killed leaves it so, and another one begins.
                files = ArchiveFiles(directory)
            elif step in ("remove", "lose index"):
                path.unlink(missing_ok=True)
                files = ArchiveFiles(directory)
            elif step == "spoil index":
                path.write_bytes(b'\xff{"name": "events-2026-11-24.jsonl"}\n{"name": 1, "count": true}\n[]\n')
                files = ArchiveFiles(directory)
            assert files.write([], TODAY).error is None
            check_index(directory)


def test_names() -> None:
    assert day_of(file_name(TODAY)) == TODAY
    for name in (
        "events-2026-13-01.jsonl",
        "events-2026-11-24.jsonl.gz",
        "events-\u0662026-11-24.jsonl",
        "index.jsonl",
    ):
        assert day_of(name) is None
    assert archive_directory(ArchiveSettings(), Path("/data")) == Path("/data/archive")
    assert archive_directory(ArchiveSettings(directory="/elsewhere"), Path("/data")) == Path("/elsewhere")
    assert archive_directory(ArchiveSettings(enabled=False), Path("/data")) is None
    assert archive_files.INDEX == "index.jsonl"


@contextlib.asynccontextmanager
async def served(directory: Path | None) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """The archive over HTTP."""
    app = web.Application(middlewares=[problem_middleware])
    app[routes.DIRECTORY] = directory
    app.router.add_get("/api/v1/archive/index.jsonl", routes.index)
    app.router.add_get("/api/v1/archive/{name}", routes.day)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_over_http(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    old = date(2026, 1, 1)
    directory = tmp_path / "archive"
    ArchiveFiles(directory).write([Line(today, b'{"n": 1}\n'), Line(old, b'{"n": 2}\n')], today)
    async with served(directory) as client:
        answer = await client.get("/api/v1/archive/index.jsonl")
        assert answer.status == 200
        assert answer.content_type == "application/x-ndjson"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        names = [json.loads(line)["name"] for line in (await answer.text()).splitlines()]
        assert names == [file_name(old), file_name(today)]
        for day, content, age in ((today, b'{"n": 1}\n', 60), (old, b'{"n": 2}\n', 86400)):
            answer = await client.get(f"/api/v1/archive/{file_name(day)}")
            assert await answer.read() == content
            assert answer.headers["Cache-Control"] == f"public, max-age={age}"
            again = await client.get(
                f"/api/v1/archive/{file_name(day)}", headers={"If-None-Match": answer.headers["ETag"]}
            )
            assert again.status == 304


async def test_nothing_else_is_served(tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    ArchiveFiles(directory).write([Line(TODAY, b"{}\n")], TODAY)
    (tmp_path / file_name(TODAY)).write_text("not of the archive")
    (directory / "secret").write_text("secret")
    async with served(directory) as client:
        for name in (
            ".lock",
            "secret",
            "events-2026-11-25.jsonl",
            "events-2026-02-30.jsonl",
            "events-2026-11-24.jsonl%0A",
            "events-2026-11-24.jsonl%00",
            "..%2Fevents-2026-11-24.jsonl",
            "..%2Farchive%2Fsecret",
            "%2Fetc%2Fpasswd",
            "events-%D9%A2026-11-24.jsonl",
            "EVENTS-2026-11-24.jsonl",
        ):
            answer = await client.get(f"/api/v1/archive/{name}")
            assert answer.status == 404, name
            assert answer.content_type == "application/problem+json"
    async with served(None) as client:
        for name in ("index.jsonl", file_name(TODAY)):
            assert (await client.get(f"/api/v1/archive/{name}")).status == 404
    async with served(tmp_path / "not yet") as client:
        assert (await client.get("/api/v1/archive/index.jsonl")).status == 404


def test_two_processes_that_take_turns_leave_a_right_count(tmp_path: Path) -> None:
    one, two = ArchiveFiles(tmp_path), ArchiveFiles(tmp_path)
    for _ in range(3):
        for files in (one, two):
            assert files.write([Line(TODAY, b"{}\n")], TODAY).error is None
    assert check_index(tmp_path) == {file_name(TODAY): 6}
