"""Starts sessions as processes of this machine, each by a command of the member's that confines it.

As with BinderHub, image and token come as the server's user options.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable
from typing import Any

from jupyterhub.spawner import SimpleLocalProcessSpawner
from traitlets import Bool, Integer, List, Unicode, default

from member.hub.binder import SessionEndedError, base_url, check_options, session_environ, singleuser_environ

#: Seconds between two looks at a session that starts.
_LOOK_EVERY_S = 0.2


class SessionSpawner(SimpleLocalProcessSpawner):  # type: ignore[misc]  # JupyterHub ships no types
    """One session, one process; what the process does is the business of ``session_command``."""

    session_command = List(
        Unicode(),
        config=True,
        help="Starts a session; gets --image, --name, --port and --base-url, and the token as JUPYTER_TOKEN.",
    )

    auth_enabled = Bool(
        False, config=True, help="Whether people log in, and sessions are theirs: the command gets --singleuser then."
    )

    lifeline_fd = Integer(
        config=True, help="A pipe whose end tells a session that the member's supervisor is gone; -1 = none."
    )

    @default("lifeline_fd")
    def _lifeline_fd(self) -> int:
        return int(os.environ.get("MANYBINDER_LIFELINE_FD", "-1"))

    def get_args(self) -> list[str]:
        """What the session command needs to know; nothing secret, since every process can read an argv."""
        return [
            *("--image", str(self.user_options["image"])),
            *("--name", f"{self.user.name}-{self.name}" if self.name else str(self.user.name)),
            *("--port", str(self.port)),
            *("--base-url", base_url(self)),
            *(("--singleuser",) if self.auth_enabled else ()),
        ]

    def get_env(self) -> dict[str, str]:
        """The Hub's environment without the Hub's own secrets, and what the session is to know."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTERHUB_")}
        if self.auth_enabled:
            return environ | singleuser_environ(self.user_options, super().get_env())
        return environ | session_environ(self.user_options)

    def make_preexec_fn(self, name: str) -> Callable[[], None] | None:  # noqa: ARG002 - the base class's signature
        """Nothing: the session command makes the home, and not in a place that all users share."""
        return None

    async def start(self) -> Any:
        """Start the session; raises a 400 where image or token is missing."""
        check_options(self.user_options)
        self.cmd = list(self.session_command)
        self.popen_kwargs = {"pass_fds": (self.lifeline_fd,)} if self.lifeline_fd >= 0 else {}
        address = await super().start()
        await self._until_it_listens()
        return address

    async def _until_it_listens(self) -> None:
        """Wait for the session's port; raises if the session ends first, for which the Hub itself would wait long."""
        while True:
            status = await self.poll()
            if status is not None:
                raise SessionEndedError(status)
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def stop(self, now: bool = False) -> None:
        """End the session: TERM, then KILL.  Jupyter would ask back on the INT that others begin with."""
        if not now and await self.poll() is None:
            await self._signal(signal.SIGTERM)
            await self.wait_for_death(self.term_timeout)
        if await self.poll() is None:
            await self._signal(signal.SIGKILL)
            await self.wait_for_death(self.kill_timeout)

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """What a visitor is told while the server starts."""
        yield {"progress": 50, "message": "Starting the notebook server..."}
