"""Why repo2docker failed, and whose failure it is; pure."""

from contract.events import Failure
from member.builders.base import BuildFailedError
from member.core.repo2docker_log import Repo2dockerLog


def why(status: int, log: Repo2dockerLog, trouble: str) -> BuildFailedError:
    """The error for a repo2docker that ended with a status above zero.

    ``trouble`` is what the member itself has found to be wrong here, a sentence without its full stop, or empty.
    """
    if trouble:
        return BuildFailedError(Failure.MEMBER, f"The build failed: {trouble}.")
    if "Signals.SIGXFSZ" in log.reason:
        return BuildFailedError(log.failure, "The build was ended: it wrote more than it may into one file.")
    if log.killed:
        return BuildFailedError(Failure.USER, "The build was ended: a step of it took more memory than a build may.")
    return BuildFailedError(
        log.failure, f"The build failed: {log.reason or f'repo2docker ended with status {status}'}."
    )
