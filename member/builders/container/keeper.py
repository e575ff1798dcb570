"""Keeps the engine for a member's Hub: serves a Podman that nobody else serves, and ends the sessions at the end.

A process of its own, so that the member's API can die and return without a session noticing.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from member.builders.container import endpoint as endpoints
from member.builders.container import sessions
from member.builders.container.client import EngineClient, EngineError
from member.builders.container.endpoint import Endpoint
from member.settings import MemberSettings
from servicekit import config, lifeline, logs

logger = logging.getLogger("member.builders.container.keeper")

#: Seconds for the engine to answer after its start, and to end.
_START_S, _END_S = 60.0, 10.0


async def keep(settings: MemberSettings, endpoint: Endpoint) -> None:
    """Run until told to end, or until a Podman of our own ends; raises ``RuntimeError`` with a sentence."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    if (fd := lifeline.inherited_fd()) is not None:
        lifeline.watch(loop, fd)
    service = await _serve(endpoint) if endpoint.own else None
    client = EngineClient(endpoint)
    own = sessions.Sessions(client, settings)
    try:
        await _until_it_answers(client, service)
        await client.ensure_network(sessions.network(settings), sessions.LABEL_SESSION)
        # What an earlier run has left, its Hub has forgotten or will look for in vain.
        await own.remove_all()
        logger.info("the engine is %s at %s", await client.version(), endpoint.url)
        await _first(told.wait(), service.wait() if service else None)
        if service is not None and service.returncode is not None and not told.is_set():
            raise RuntimeError(f"podman system service ended with status {service.returncode}")
    except EngineError as error:
        raise RuntimeError(str(error)) from error
    finally:
        try:
            await own.remove_all()
        except EngineError as error:
            logger.warning("sessions may be left: %s", error)
        if service is not None:
            await _end(service)


async def _serve(endpoint: Endpoint) -> asyncio.subprocess.Process:
    endpoint.path.parent.mkdir(parents=True, exist_ok=True)
    endpoint.path.unlink(missing_ok=True)
    environ = {name: value for name, value in os.environ.items() if name not in endpoint.environ}
    return await asyncio.create_subprocess_exec(
        *("podman", "system", "service", "--time=0", endpoint.url),
        env=environ,
        # Where its helpers leave files, one for each session that ran out of memory.
        cwd=endpoint.path.parent,
        stdin=asyncio.subprocess.DEVNULL,
        # Ctrl-C in a terminal goes to all: the sessions are removed first.
        start_new_session=True,
    )


async def _until_it_answers(client: EngineClient, service: asyncio.subprocess.Process | None) -> None:
    deadline = asyncio.get_running_loop().time() + _START_S
    while True:
        try:
            await client.version()
        except EngineError:
            if service is not None and service.returncode is not None:
                raise RuntimeError(f"podman system service ended with status {service.returncode}") from None
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
        else:
            return


async def _first(*waits: object) -> None:
    tasks = {asyncio.ensure_future(wait) for wait in waits if wait is not None}  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end(service: asyncio.subprocess.Process) -> None:
    if service.returncode is None:
        service.terminate()
        try:
            await asyncio.wait_for(service.wait(), _END_S)
        except TimeoutError:
            service.kill()
            await service.wait()


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m member.builders.container.keeper", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the member's settings")
    arguments = parser.parse_args(argv)
    try:
        settings = config.load(MemberSettings, arguments.config)
    except config.ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    logs.configure(settings.log_level)
    endpoint = endpoints.read(settings.data_dir)
    if endpoint is None:
        logger.error("nobody has chosen an engine; start the member as a whole")
        return 2
    try:
        asyncio.run(keep(settings, endpoint))
    except RuntimeError as error:
        logger.error("%s", error)  # noqa: TRY400 - the sentence says all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
