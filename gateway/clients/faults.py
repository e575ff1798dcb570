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
    #: The member refused the launch, or sent the visitor elsewhere.
    REFUSED = "refused"
    SESSION_URL = "session_url"


class MemberFault(Exception):  # noqa: N818 - whose it is, not what it is
    """A member failed a launch; the text is a clause that follows the member's name."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault

    @property
    def unreached(self) -> bool:
        """Whether the member could not be reached: as good as a failed probe.

        What went wrong after that may be one launch's trouble, or this gateway's own; a probe will tell.
        """
        return self.fault == Fault.CONNECT
