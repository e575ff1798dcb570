"""How commands end: the exit codes, and the error that bears one."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    #: The launch or the check failed.
    FAILED = 1
    #: Wrong usage or configuration.
    USAGE = 2
    UNREACHABLE = 3
    #: Banned, limited or full.
    REFUSED = 4
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command: the text goes to standard error ("" = all has been said), ``code`` is its exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


def error_line(error: object) -> str:
    """How standard error is told of an error: by its program's name, for those who read several programs there."""
    return f"manybinder: {error}"
