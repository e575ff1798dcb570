"""Where one build happens: its directories, its sandbox, its limits, and the visitor who is told its lines."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contract.events import Failure, Phase
from member.builders.base import BuildFailedError
from member.builders.process.tools import program_environ, uv_environ, view
from member.confine import warden
from member.confine.confinement import Confinement
from member.confine.limits import LimitExceededError, Limits
from member.confine.sandbox import CACHE_PATH, ENV_PATH, HOME_PATH, Layer
from member.core.pythons import Python

#: Tells the visitor a line.
Say = Callable[[Phase, str], Awaitable[None]]

#: Lines that are remembered of a command, to say why it failed.
REMEMBERED = 60


@dataclass
class Site:
    """Where one build happens, and how far it got."""

    confinement: Confinement
    place: Path
    shared_cache: Path
    bytecode: Path
    limits: Limits
    timeout_s: float
    say: Say
    begun: float = field(default_factory=time.monotonic)
    env: Layer | None = None
    python: Python | None = None

    def __post_init__(self) -> None:
        self.home, self.tmp = self.place / "home", self.place / "tmp"
        for directory in (self.home, self.tmp):
            directory.mkdir()

    async def run(self, argv: Sequence[str], phase: Phase, **options: Any) -> tuple[int, list[str]]:
        """Run a command with its lines told to the visitor; its exit status and last lines."""
        remembered: list[str] = []

        async def told(line: str) -> None:
            remembered.append(line)
            del remembered[:-REMEMBERED]
            await self.say(phase, line + "\n")

        return await self.command(argv, told, **options), remembered

    async def command(
        self,
        argv: Sequence[str],
        on_line: warden.OnLine,
        *,
        cache: Layer | None = None,
        environ: dict[str, str] | None = None,
        read_only: Sequence[Path] = (),
        placed: dict[Path, str] | None = None,
        folder: str = "",
        deadline_s: float | None = None,
    ) -> int:
        """Run a command in this build's sandbox; raises :class:`BuildFailedError` if it breaks a limit."""
        left = max(0.1, self.begun + self.timeout_s - time.monotonic())
        limits = replace(self.limits, deadline_s=left if deadline_s is None else min(left, deadline_s))
        env = self.env.upper if self.env else self.place / "env"
        variables = program_environ(self.confinement, env, self.home, self.tmp, trusted=True) | (environ or {})
        mounted = {HOME_PATH: Layer(self.home)}
        watched = [self.home, self.tmp]
        if self.env is not None:
            mounted[ENV_PATH] = self.env
            watched.append(self.env.upper)
        if cache is not None:
            mounted[CACHE_PATH] = cache
            variables |= uv_environ(self.confinement, cache.upper)
            watched += [cache.upper] if cache.upper.is_relative_to(self.place) else []
        seen = view(
            mounted,
            self.tmp,
            python_prefix=self.python.prefix if self.python else "",
            read_only=read_only,
            placed=placed,
            work_dir=f"{HOME_PATH}/{folder}".rstrip("/"),
        )
        cwd = "/" if self.confinement.confined else str(self.home / folder)
        command = warden.Command(self.confinement.invocation(argv, seen, limits), variables, limits, watched, cwd=cwd)
        try:
            return await warden.run(command, on_line)
        except LimitExceededError as error:
            why = str(error)
            if time.monotonic() >= self.begun + self.timeout_s:
                why = f"it took longer than {self.timeout_s:g} seconds"
            raise BuildFailedError(Failure.USER, f"The build was ended: {why}.") from error
