"""What a kind of builder is to the member: how it builds, and how the Hub starts sessions from what it has built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from member.builders.base import Builder
from member.settings import MemberSettings
from servicekit.processes import ProcessSpec


@dataclass(frozen=True, slots=True)
class HubParts:
    """What a Hub that the member runs needs to start sessions; all of it can be written as JSON."""

    spawner: str
    """The class, as ``JupyterHub.spawner_class`` takes it: of ``member.hub``, or of a package that the Hub has."""

    traits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings by class name and trait, as in a ``jupyterhub_config.py``; nothing secret."""

    processes: tuple[ProcessSpec, ...] = ()
    """What must run before the Hub does."""


class Kind(Protocol):
    """One kind; it imports what it needs only when it is asked, for a member uses one kind of several."""

    def builder(self, settings: MemberSettings) -> Builder:
        """A builder, not yet started."""

    def hub(self, settings: MemberSettings, config_path: Path) -> HubParts:
        """How the Hub starts sessions; ``config_path`` is the member's configuration file.

        Writes the files that these parts need; raises ``OSError`` with a sentence.
        """

    def look(self, settings: MemberSettings) -> Sequence[str]:
        """What an operator should know of this machine before a member starts here, in sentences; keeps nothing.

        Raises ``RuntimeError`` with a sentence where the settings want of it what it has not.
        """
