"""Visitors who come directly: their addresses, and how often each may launch."""

import math
import time
from collections.abc import Callable, Sequence

from aiohttp import hdrs, web

from contract.addresses import IPNetwork, client_address
from contract.events import Failure, failed
from frontend.refusals import Refused
from member.admission_settings import RateLimitSettings
from member.core.rates import Rates


class Visitors:
    """``trusted`` are the networks of the proxies in front; ``wall`` is Unix time."""

    def __init__(
        self, trusted: Sequence[IPNetwork], settings: RateLimitSettings, wall: Callable[[], float] = time.time
    ) -> None:
        self._trusted, self._settings, self._wall = trusted, settings, wall
        self._rates = Rates(settings.launches, settings.per / max(1, settings.launches))

    def address(self, request: web.Request) -> str:
        """A visitor's address; "" where it is not known."""
        return client_address(request.remote or "", request.headers.getall(hdrs.X_FORWARDED_FOR, []), self._trusted)

    def count(self, client: str) -> dict[str, str]:
        """Count a launch; returns BinderHub's headers of what is left.  Raises :class:`Refused`."""
        visitor = self._settings.visitor(client)
        if visitor is None:
            return {}
        now = self._wall()
        taken = self._rates.take(visitor, now)
        if taken.wait_s > 0:
            wait = math.ceil(taken.wait_s)
            message = f"Rate limit exceeded. Try again in {wait} seconds.\n"
            raise Refused(failed(Failure.REFUSED, message, status_code=429, retry_after_s=wait))
        values = {"Limit": self._settings.launches, "Remaining": taken.left, "Reset": round(now + taken.full_in_s)}
        return {f"X-RateLimit-{name}": str(value) for name, value in values.items()}
