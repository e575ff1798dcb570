"""A builder that keeps the builder's contract and does as it is told."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contract.events import BuildEvent, Phase, event
from contract.reports import Check
from member.builders import machine
from member.builders.base import BuildFailedError, BuildRequest, BuiltImage, Resources


@dataclass
class FakeBuilder:
    """Builds in no time, but for what is in ``gates`` (waits there) and ``failures`` (ends by it)."""

    kind: str = "process"
    confined: bool = True
    there: dict[str, BuiltImage] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    """Before the second of two steps of these images' builds."""
    failures: dict[str, Exception] = field(default_factory=dict)
    close_gate: asyncio.Event | None = None
    """Before a build that is cancelled has cleared away."""
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Builds whose generator has been left, however."""
    running: int = 0
    most_running: int = 0

    @property
    def confinement_reason(self) -> str:
        """What it is."""
        return "a fake"

    @property
    def info(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    async def start(self) -> None:
        """Nothing to check."""

    async def close(self) -> None:
        """Nothing to end."""

    async def has_image(self, image: str) -> bool:
        """Whether it was built."""
        return image in self.there

    async def build(self, request: BuildRequest) -> AsyncGenerator[BuildEvent, None]:
        """Two steps."""
        self.begun.append(request.image)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            yield event(Phase.FETCHING, "Fetching the repository\n")
            yield event(Phase.BUILDING, "Step 1\n")
            if (gate := self.gates.get(request.image)) is not None:
                await gate.wait()
            if (failure := self.failures.get(request.image)) is not None:
                raise failure
            yield event(Phase.BUILDING, "Step 2\n")
            self.there[request.image] = BuiltImage(request.image, request.repo, request.commit, 1000, 0.0)
        except (asyncio.CancelledError, GeneratorExit):
            if self.close_gate is not None:
                await self.close_gate.wait()
            raise
        finally:
            self.running -= 1
            self.ended.append(request.image)

    async def images(self) -> Sequence[BuiltImage]:
        """What was built."""
        return list(self.there.values())

    async def clean(self) -> None:
        """Nothing is ever too old."""

    async def checks(self) -> Sequence[Check]:
        """All is well."""
        return (Check("Builder", True, self.confinement_reason),)

    async def resources(self) -> Resources:
        """Whoever asks gets those of this machine."""
        return await machine.resources(Path("/"))

    def hold(self, image: str) -> asyncio.Event:
        """Have an image's build wait until the event is set."""
        return self.gates.setdefault(image, asyncio.Event())

    def fail(self, image: str, error: BuildFailedError) -> None:
        """Have an image's build fail."""
        self.failures[image] = error
