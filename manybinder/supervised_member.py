"""``manybinder member`` without ``--only``: a member's processes under a supervisor of their own."""

import asyncio
import signal
from pathlib import Path

from manybinder.datadir import DataDir
from manybinder.errors import CommandError, Exit
from manybinder.progress import Progress
from manybinder.signals import stop_signals
from manybinder.supervise import Supervisor
from manybinder.terminal import for_people
from member import processes
from member.settings import MemberSettings
from servicekit import lifeline
from servicekit.processes import ProcessSpec


def run(settings: MemberSettings, path: Path) -> Exit:
    """Run until told to end; raises :class:`CommandError`."""
    data_dir = DataDir.open(settings.data_dir)
    try:
        return asyncio.run(_supervise(specs(settings, path), data_dir))
    finally:
        data_dir.close()


def specs(settings: MemberSettings, path: Path) -> list[ProcessSpec]:
    """What a member runs, its files being written; raises :class:`CommandError` if that cannot be."""
    try:
        return processes.processes(settings, path)
    except OSError as error:
        # The text of an error of the system names the file; one of ours is a sentence.
        raise CommandError(f"{settings.name}: {error}", Exit.USAGE) from error


async def _supervise(specs: list[ProcessSpec], data_dir: DataDir) -> Exit:
    progress = Progress(for_people())
    with stop_signals() as signals:
        if (fd := lifeline.inherited_fd()) is not None:
            lifeline.watch(asyncio.get_running_loop(), fd)
        async with Supervisor(specs, progress.on_change, keep_open=[data_dir.lock_fd], urgent=signals.urgent):
            await signals.told.wait()
            progress.say("ending …")
    return Exit.INTERRUPTED if signals.first == signal.SIGINT else Exit.DONE
