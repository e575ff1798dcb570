"""The retry budget: a fault may not double the load that the members bear."""

from gateway.core.settings import LaunchSettings

#: Seconds' worth of retries that may be saved up.
SAVED = 10.0


class RetryBudget:
    """Retries that this gateway may send now; one beyond it is told how long to wait, and keeps its turn.

    Each launch begun adds a share of a retry, and so does each second.  Source: the retry budget of Finagle (which
    drops what is beyond it; a launch is worth a wait).  Times are in seconds on any clock that never goes back.
    """

    def __init__(self, settings: LaunchSettings, now: float) -> None:
        self._balance, self._at = settings.retries_per_second * SAVED, now

    def launched(self, settings: LaunchSettings) -> None:
        """A launch has begun."""
        self._balance += settings.retry_share

    def spend(self, settings: LaunchSettings, now: float) -> float:
        """Take one retry; returns the seconds to wait for it."""
        rate = settings.retries_per_second
        self._balance = min(self._balance + (now - self._at) * rate, rate * SAVED) - 1
        self._at = now
        return max(0.0, -self._balance / rate)

    def give_back(self) -> None:
        """Return a retry that was waited for and not used."""
        self._balance += 1
