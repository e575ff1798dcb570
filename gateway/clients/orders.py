"""What a member is asked to launch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """One attempt of a launch at one member.

    ``spec`` is the spec with its provider and the resolved commit as its ref, percent-encoded (``gh/org/repo/<sha>``),
    so that every attempt builds the same commit; ``token`` the launch token, for members that know such.
    """

    spec: str
    launch_id: str
    token: str = ""
