"""Sends capacity reports to the gateway, signed with this member's key."""

import asyncio
import logging
import random

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signatures import sign_report
from member.core.ports import CapacityPort
from member.metrics import Metrics

logger = logging.getLogger(__name__)

#: Seconds for one report.
TIMEOUT_S = 5.0

#: Of what a gateway says of a report that it does not take.
_SHOWN_BYTES = 300

#: While reports do not arrive, the pause grows up to this many intervals.
_MOST_INTERVALS = 4


class Reporter:
    """Reports every ``interval_s``, varied by a tenth, for as long as :meth:`run` runs."""

    def __init__(
        self,
        capacity: CapacityPort,
        http: aiohttp.ClientSession,
        *,
        url: str,
        key: Ed25519PrivateKey,
        interval_s: float,
        metrics: Metrics,
    ) -> None:
        self._capacity, self._http, self._metrics = capacity, http, metrics
        self._url, self._key, self._interval_s = url, key, interval_s
        self._problem = ""
        self._failures = 0

    async def run(self) -> None:
        """Report for ever; nothing that goes wrong ends it."""
        while True:
            await self.send()
            intervals = min(_MOST_INTERVALS, max(1, self._failures))
            await asyncio.sleep(self._interval_s * intervals * random.uniform(0.9, 1.1))  # noqa: S311 - no secret

    async def send(self) -> None:
        """Send one report; a failure is logged when it is new, and counted."""
        problem = await self._attempt()
        if problem:
            self._failures += 1
            self._metrics.report_failures.inc()
        else:
            self._failures = 0
        if problem != self._problem:
            if problem:
                logger.warning("the gateway at %s does not get our reports: %s", self._url, problem)
            else:
                logger.info("the gateway at %s gets our reports", self._url)
            self._problem = problem

    async def _attempt(self) -> str:
        """What went wrong; "" = nothing."""
        try:
            token = sign_report((await self._capacity.report()).to_wire(), self._key)
            async with self._http.post(
                self._url,
                data=token,
                headers={"Content-Type": "application/jwt"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                if response.status == 204:
                    return ""
                said = await response.content.read(_SHOWN_BYTES)
                return f"HTTP {response.status}: {said.decode(errors='replace')}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        except Exception:
            logger.exception("a capacity report could not be made")
            return "it could not be made"
