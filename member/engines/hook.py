"""The operator's own word on each launch, before its server is started: a command, or a function of theirs."""

import asyncio
import contextlib
import importlib
import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

from member.core.launching import LaunchOrder
from member.settings import HookSettings

logger = logging.getLogger(__name__)

#: Characters of a refusal that are shown.
_MOST_SHOWN = 1000

#: The exit status by which a command refuses; any other but 0 says that the command itself has failed.
REFUSES = 1


class HookRefusedError(Exception):
    """The operator does not want this launch; the text is for its visitor."""


class HookFailedError(Exception):
    """The hook did not come to a word; the text is for the operator."""


class Hook:
    """Asks before each launch.

    Raises ``ValueError`` with the setting at fault if there is no such function.
    """

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        self._function = _load(settings.python) if settings.python else None

    async def ask(self, order: LaunchOrder, user: str, launch_id: str, server: str = "") -> None:
        """Raises :class:`HookRefusedError` or :class:`HookFailedError`; ``launch_id`` is its short form."""
        told = {
            "launch_id": launch_id,
            "spec": order.spec,
            "persistent_spec": order.persistent_spec,
            "repo_url": order.repo_url,
            "resolved_ref": order.commit,
            "image": order.image,
            "user": user,
            "server": server,
            "client_ip": order.client_ip,
            "launch_host": order.launch_host,
        }
        try:
            async with asyncio.timeout(self._settings.timeout):
                if self._settings.command:
                    await self._run(json.dumps(told).encode())
                if self._function is not None:
                    await self._call(self._function, told)
        except TimeoutError as error:
            raise HookFailedError(f"it took longer than {self._settings.timeout:g} s") from error

    async def _run(self, told: bytes) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._settings.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise HookFailedError(f"it cannot be run: {error}") from error
        try:
            out, err = await process.communicate(told)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode == REFUSES:
            raise HookRefusedError(_shown(out.decode(errors="replace")))
        if process.returncode:
            raise HookFailedError(f"exit status {process.returncode}: {_shown(err.decode(errors='replace'))}")

    async def _call(self, function: Callable[[dict[str, Any]], Any], told: dict[str, Any]) -> None:
        try:
            if inspect.iscoroutinefunction(function):
                answer = await function(told)
            else:
                answer = await asyncio.to_thread(function, told)
        except Exception as error:
            logger.exception("the hook failed")
            raise HookFailedError(f"{type(error).__name__}: {error}") from error
        if answer:
            raise HookRefusedError(_shown(str(answer)))


def _load(name: str) -> Callable[[dict[str, Any]], Any]:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:
        said = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"launch.hook.python: {name} cannot be imported: {said}") from error
    if not callable(found):
        raise ValueError(f"launch.hook.python: {name} is no function")
    return found  # type: ignore[no-any-return]


def _shown(text: str) -> str:
    return text.strip()[:_MOST_SHOWN] or "This launch is not wanted here."
