"""How a member can fail a launch, as a type: the kind says whether another member may be tried."""

from enum import StrEnum


class Fault(StrEnum):
    """What went wrong between gateway and member."""

    #: No connection: nothing was begun.
    CONNECT = "connect"
    #: An HTTP error instead of a stream.
    STATUS = "status"
    #: Something else than a stream.
    ANSWER = "answer"
    #: Connected, and then nothing until the deadline.
    HANG = "hang"
    #: The stream ended or broke without a final event.
    CUT = "cut"
    #: The stream fell silent, without even a comment.
    SILENCE = "silence"
    #: It took longer than a phase of a launch may take.
    SLOW = "slow"
    #: Probes find the member unreachable, and its stream says nothing any more.
    LOST = "lost"
    #: The member itself says that it has failed the launch.
    FAILED = "failed"
    #: It sends the visitor to an address that is not its own.
    SESSION_URL = "session_url"
    #: The member takes no such launch, or none now: nobody has failed.
    REFUSED = "refused"


class MemberFault(Exception):  # noqa: N818 - whose it is, not what it is
    """A member failed a launch; the text is a clause that follows the member's name.

    ``retry_after_s`` comes with a refusal for want of room: when to ask again.
    """

    def __init__(self, fault: Fault, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.fault, self.retry_after_s = fault, retry_after_s

    @property
    def blames(self) -> bool:
        """Whether it counts against the member's launches; one that cannot be reached is judged by its probes."""
        return self.fault not in (Fault.CONNECT, Fault.REFUSED)

    @property
    def in_public(self) -> str:
        """The clause without what the member has said of one visitor's launch."""
        return "failed the launch" if self.fault == Fault.FAILED else str(self)

    @property
    def sure(self) -> bool:
        """Whether it is the member's own without doubt; that a session does not start may be the repository's."""
        return self.fault not in (Fault.FAILED, Fault.SLOW)

    @property
    def begun(self) -> bool:
        """Whether the member may be at work on the launch, for nobody."""
        return self.fault not in (Fault.CONNECT, Fault.REFUSED)

    @property
    def unreached(self) -> bool:
        """Whether the member could not be reached: as good as a failed probe.

        What went wrong after that may be one launch's trouble, or this gateway's own; a probe will tell.
        """
        return self.fault == Fault.CONNECT
