"""What a supervisor needs to know of a process that it runs: pure data, so that services can describe themselves."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of a service.

    ``name`` is for logs and people (``member-1/hub``).  ``ready_url`` answers below 500 once the process is ready;
    ``None`` = ready as soon as it runs.  ``after`` names processes that must be ready first.  ``log`` says where its
    output goes.  ``stop`` is the signal that ends it when all end.  A program of ours inherits the lifeline and watches
    it; a ``foreign`` one cannot, so it is started with a parent-death signal instead.
    """

    name: str
    argv: tuple[str, ...]
    log: str
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str | None = None
    after: tuple[str, ...] = ()
    stop: signal.Signals = signal.SIGTERM
    foreign: bool = False
