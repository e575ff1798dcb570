"""What a member is asked to launch."""

from dataclasses import dataclass
from typing import NamedTuple

from contract.events import BuildEvent


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """One attempt of a launch at one member.

    ``spec`` is the spec with its provider and the resolved commit as its ref, percent-encoded (``gh/org/repo/<sha>``),
    so that every attempt builds the same commit; ``token`` the launch token, for members that know such.  ``heard`` is
    the number of the member's last event that has arrived already, for members that can go on after it.
    ``build_only``: no session is wanted.
    """

    spec: str
    launch_id: str
    token: str = ""
    heard: int = -1
    build_only: bool = False

    @property
    def path(self) -> str:
        """The route of a member's API that it goes to, with its query."""
        return f"build/{self.spec}" + ("?build_only=true" if self.build_only else "")


class Told(NamedTuple):
    """An event of a member, and its number there (-1 = it has none)."""

    event: BuildEvent
    n: int = -1
