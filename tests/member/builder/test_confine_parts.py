"""Lines, words, directories and locks: the parts that confinement is made of."""

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path

import psutil
import pytest
from builderkit import own, running, until_gone
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Failure
from member.builders.process.log import BoundedLog
from member.builders.process.store import ImageMeta, Partial, Store
from member.builders.process.words import git_failure, uv_failure
from member.confine import layers, warden
from member.confine.confinement import Confinement, Mode, detect
from member.confine.environ import network_environ
from member.confine.files import Lock, copy_tree, remove_tree
from member.confine.limits import LimitExceededError, Limits
from member.confine.lines import LineSplitter
from member.confine.sandbox import HOME_PATH, Layer, View

LIMITS = Limits(memory=2**30, processes=200, disk=2**30, deadline_s=30)
PLAIN = {"PATH": "/usr/bin:/bin"}


@given(
    st.lists(st.text(st.characters(blacklist_characters="\r\n", codec="utf-8"), max_size=50), max_size=20), st.data()
)
def test_lines_are_the_same_however_the_output_is_cut(lines: list[str], data: st.DataObject) -> None:
    output = "".join(line + data.draw(st.sampled_from(["\n", "\r\n"])) for line in lines).encode()
    splitter = LineSplitter()
    seen: list[str] = []
    while output:
        size = data.draw(st.integers(1, len(output)))
        seen += splitter.feed(output[:size])
        output = output[size:]
    assert seen + splitter.flush() == lines


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_no_output_makes_a_line_longer_than_its_bound(chunks: list[bytes]) -> None:
    splitter = LineSplitter(100)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.flush()
    assert all(len(line) < 100 + 70 for line in lines)
    assert len(splitter._kept) == 0


def test_of_a_progress_display_only_the_last_state_is_told() -> None:
    assert LineSplitter().feed(b"10%\r20%\r100%\rdone\n") == ["100%", "done"]
    assert LineSplitter().feed(b"10%\r100%\r\nnext\n") == ["10%", "100%", "next"]


def test_words_of_git_and_uv() -> None:
    assert git_failure(["fatal: repository 'http://x/' not found"], "http://x", "0" * 40)[0] is Failure.USER
    assert git_failure(["fatal: unable to access 'x': returned error: 500"], "x", "0" * 40)[0] is Failure.MEMBER
    lines = [
        "Using Python",
        "  \u00d7 No solution found when resolving dependencies:",
        "  \u2570\u2500\u25b6 Because so.",
    ]
    failure, message = uv_failure([*lines, "      hint: try it"], "requirements.txt")
    assert failure is Failure.USER
    assert message == (
        "requirements.txt could not be installed: No solution found when resolving dependencies: Because so."
    )
    unreachable = ["error: Failed to fetch: `https://index.example/six/`", "  cause: dns error"]
    assert uv_failure(unreachable, "requirements.txt")[0] is Failure.MEMBER


def test_passwords_for_the_index_reach_builds_alone() -> None:
    environ = {"UV_INDEX_URL": "https://me:secret@index.example/simple", "HTTPS_PROXY": "http://proxy:1", "SECRET": "x"}
    assert "secret" in network_environ(environ, trusted=True)["UV_INDEX_URL"]
    assert network_environ(environ, trusted=False) == {"HTTPS_PROXY": "http://proxy:1"}


def test_a_log_is_bounded(tmp_path: Path) -> None:
    with BoundedLog(tmp_path / "log", 100) as log:
        for _ in range(1000):
            log.write("twenty characters..\n")
    assert len((tmp_path / "log").read_text()) < 200
    with BoundedLog(tmp_path / "log", 300) as log:
        for _ in range(1000):
            log.write("\u20ac\u20ac\u20ac\u20ac\n")
    assert (tmp_path / "log").stat().st_size < 400


def test_a_tree_is_removed_whatever_is_in_it(tmp_path: Path) -> None:
    deep = tmp_path / "tree"
    deep.mkdir()
    start = Path.cwd()
    os.chdir(deep)
    try:
        for _ in range(1500):
            Path("d" * 20).mkdir()
            os.chdir("d" * 20)
    finally:
        os.chdir(start)
    (deep / "locked" / "inner").mkdir(parents=True)
    (deep / "locked").chmod(0)
    outside = tmp_path / "outside"
    outside.write_text("stays")
    (deep / "link").symlink_to(outside)
    remove_tree(deep)
    assert not deep.exists()
    assert outside.read_text() == "stays"
    remove_tree(deep)


def test_a_lock_is_one_holders_and_never_of_a_removed_file(tmp_path: Path) -> None:
    first = Lock.take(tmp_path / "lock")
    assert first
    assert Lock.take(tmp_path / "lock") is None
    assert Lock.take(tmp_path / "lock", shared=True) is None
    first.release()
    shared = [Lock.take(tmp_path / "lock", shared=True) for _ in range(2)]
    assert all(shared)
    assert Lock.take(tmp_path / "lock") is None
    assert Lock.take(tmp_path / "absent" / "lock") is None
    for lock in shared:
        assert lock
        lock.release()


def _meta(image: str, size: int = 10) -> ImageMeta:
    return ImageMeta(image, "git.example/x", "c", "none", "base", "3.10.1", "/bin/sh", "/usr", "", size)


def test_what_is_half_made_is_no_image_and_is_cleared_away_unless_it_is_being_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start()
    store.base("base").mkdir()
    partial = Partial(store.directory("an-image"))
    assert store.meta("an-image", "none") is None
    Store(tmp_path).start()
    assert partial.path.is_dir()
    assert partial.complete(_meta("an-image"))
    assert store.meta("an-image", "none") == _meta("an-image")
    assert store.meta("an-image", "overlay") is None

    late = Partial(store.directory("an-image"))
    assert not late.complete(_meta("an-image"))
    late.discard()
    crashed = Partial(store.directory("other"))
    crashed._lock.release()
    Store(tmp_path).start()
    assert not crashed.path.exists()
    assert [image.image for image in store.images()] == ["an-image"]
    assert store.evict("an-image")
    assert store.images() == []


def test_a_base_environment_is_there_in_full_or_not_at_all_while_it_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start()
    base = store.base("old")
    (base / "env").mkdir(parents=True)
    for number in range(5000):
        (base / "env" / str(number)).touch()
    removal = threading.Thread(target=store.clear_unusable, args=(60.0,))
    removal.start()
    while removal.is_alive():
        with contextlib.suppress(FileNotFoundError):
            assert len(os.listdir(base / "env")) == 5000 or not base.is_dir()  # noqa: PTH208 - one look, by one call
        assert (base / "env").is_dir() or not base.is_dir()
    removal.join()
    assert list(store.bases_dir.iterdir()) == []


@pytest.fixture(params=[Mode.OVERLAY, Mode.COPY, Mode.NONE])
def confinement(request: pytest.FixtureRequest, tmp_path: Path) -> Confinement:
    """Each way to run a command on this machine."""
    if request.param is Mode.NONE:
        return detect(tmp_path, "off")
    best = detect(tmp_path, "required")
    assert best.mode is Mode.OVERLAY, best.reason
    return Confinement(request.param, best.reason, best.bwrap, best.etc, best.system)


async def _run(confinement: Confinement, place: Path, script: str, limits: Limits = LIMITS) -> tuple[int, list[str]]:
    """Run a script over a lower directory with one file."""
    lower, upper, tmp = place / "lower", place / "upper", place / "tmp"
    if not lower.exists():
        lower.mkdir()
        (lower / "old").write_text("old")
        tmp.mkdir()
        layers.make(confinement, upper, [lower])
    view = View({HOME_PATH: confinement.layer(upper, [lower])}, tmp)
    lines: list[str] = []

    async def collect(line: str) -> None:
        lines.append(line)

    invocation = confinement.invocation(["/bin/sh", "-c", script], view, limits)
    cwd = "/" if confinement.confined else str(upper)
    return await warden.run(warden.Command(invocation, PLAIN, limits, [upper, tmp], cwd), collect), lines


async def test_a_command_runs_over_layers_and_changes_its_own_alone(confinement: Confinement, tmp_path: Path) -> None:
    status, lines = await _run(confinement, tmp_path, "cat old; echo; rm old; echo new > new; exit 7")
    assert (status, lines) == (7, ["old"])
    assert (tmp_path / "lower" / "old").read_text() == "old"
    assert (tmp_path / "upper" / "new").read_text() == "new\n"
    status, lines = await _run(confinement, tmp_path, "ls; ulimit -c")
    assert (status, lines) == (0, ["new", "0"])


async def test_what_a_command_leaves_running_is_ended_with_it(confinement: Confinement, tmp_path: Path) -> None:
    assert await _run(confinement, tmp_path, own("setsid sleep 98720 & sleep 0.2; echo on")) == (0, ["on"])
    assert not running("98720")


async def test_a_command_that_takes_too_long_is_ended(confinement: Confinement, tmp_path: Path) -> None:
    limits = Limits(2**30, 200, 2**30, deadline_s=0.5)
    begun = time.monotonic()
    with pytest.raises(LimitExceededError, match=r"longer than 0\.5 seconds"):
        await _run(confinement, tmp_path, own("setsid sleep 98721 & sleep 98721"), limits)
    assert time.monotonic() - begun < 60
    await until_gone("98721")


async def test_a_cancelled_command_is_gone(confinement: Confinement, tmp_path: Path) -> None:
    task = asyncio.create_task(_run(confinement, tmp_path, own("(setsid sleep 98722 &) ; exec sleep 98722")))
    async with asyncio.timeout(60):
        while len(running("sleep 98722")) < 2:
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running("98722")


async def test_a_command_that_is_cancelled_twice_ends_after_its_reader(tmp_path: Path) -> None:
    reading, ended = asyncio.Event(), []

    async def slow(_: str) -> None:
        reading.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            ended.append(True)

    invocation = detect(tmp_path, "off").invocation(["/bin/sh", "-c", own("echo on; exec sleep 98723")], View(), LIMITS)
    task = asyncio.create_task(warden.run(warden.Command(invocation, PLAIN, LIMITS), slow))
    async with asyncio.timeout(60):
        await reading.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
    assert not running("98723")


def _waited_for() -> bool:
    """Whether a command is running."""
    return any(task.get_name().startswith("wait ") for task in asyncio.all_tasks())


async def test_a_cancellation_that_comes_with_the_end_of_a_command_is_not_lost(tmp_path: Path) -> None:
    invocation = detect(tmp_path, "off").invocation(["/bin/true"], View(), LIMITS)
    command = warden.Command(invocation, PLAIN, LIMITS)

    async def two_steps() -> None:
        await warden.run(command)
        await asyncio.sleep(60)

    for steps in range(12):
        task = asyncio.create_task(two_steps())
        async with asyncio.timeout(60):
            while not _waited_for():
                await asyncio.sleep(0)
            while _waited_for():
                await asyncio.sleep(0)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        _, late = await asyncio.wait({task}, timeout=5)
        assert not late, f"cancelled {steps} steps after the command's end, and went on"


@pytest.mark.parametrize("argv", [["/bin/sh", "-c", "exec {0}"], ["/bin/sh", "-c", "{0}; exit $?"]])
async def test_a_file_that_is_too_large_is_told_as_what_it_is(tmp_path: Path, argv: list[str]) -> None:
    limits = Limits(2**30, 200, 2**20, deadline_s=60)
    write = f"dd if=/dev/zero of={tmp_path}/large bs=64k count=64 status=none"
    command = [word.format(write) for word in argv]
    invocation = detect(tmp_path, "off").invocation(command, View(), limits)
    with pytest.raises(LimitExceededError, match=r"it wrote more than 0\.0 GiB to disk"):
        await warden.run(warden.Command(invocation, PLAIN, limits, []))


async def test_processes_are_watched_while_files_are_counted(tmp_path: Path) -> None:
    limits = Limits(2**30, 200, 2**30, deadline_s=3)
    invocation = detect(tmp_path, "off").invocation(["/bin/sleep", "98724"], View(), limits)
    task = asyncio.create_task(warden.run(warden.Command(invocation, PLAIN, limits, [tmp_path])))
    begun = time.monotonic()
    # A disk that hangs: whoever counts is stopped as soon as he begins.
    while not task.done():
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if child.name() == "du":
                    child.suspend()
        await asyncio.sleep(0)
        if time.monotonic() - begun > 20:
            task.cancel()
            break
    with pytest.raises(LimitExceededError, match="longer than 3 seconds"):
        await task


def test_copies_keep_everything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    (source / "link").symlink_to("file")
    (tmp_path / "copy").mkdir()
    copy_tree(source, tmp_path / "copy")
    assert (tmp_path / "copy" / "link").readlink() == Path("file")
    assert Layer(source).lowers == ()
