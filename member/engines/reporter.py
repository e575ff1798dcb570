"""Sends capacity reports to the gateway, signed with this member's key."""

import asyncio
import logging
import random
from collections.abc import Callable

import aiohttp

from contract.joining import NOTICE_HEADER
from contract.signatures import sign_report
from member.core.membership import Membership
from member.core.ports import CapacityPort
from member.engines.ledger import Alone, Ledger
from member.metrics import Metrics

logger = logging.getLogger(__name__)

#: Seconds for one report.
TIMEOUT_S = 5.0

#: Of what a gateway says of a report that it does not take.
_SHOWN_BYTES = 300

#: While reports do not arrive, the pause grows up to this many intervals.
_MOST_INTERVALS = 4


class Reporter:
    """Reports at the membership's interval, varied by a tenth, for as long as :meth:`run` runs.

    ``membership`` gives the federation as of now, ``None`` once it was left.
    """

    def __init__(
        self,
        capacity: CapacityPort,
        http: aiohttp.ClientSession,
        *,
        membership: Callable[[], Membership | None],
        metrics: Metrics,
        heard: Callable[[str], None] = lambda _: None,
        refused: Callable[[], None] = lambda: None,
        ledger: Ledger | None = None,
    ) -> None:
        self._refused = refused
        self._ledger: Ledger = ledger or Alone()
        self._capacity, self._http, self._metrics = capacity, http, metrics
        self._membership, self._heard = membership, heard
        self._problem = ""
        self._failures = 0

    async def run(self) -> None:
        """Report until the federation is left; nothing that goes wrong ends it."""
        while (membership := self._membership()) is not None:
            await self.send()
            intervals = min(_MOST_INTERVALS, max(1, self._failures))
            await asyncio.sleep(membership.interval * intervals * random.uniform(0.9, 1.1))  # noqa: S311 - no secret

    async def send(self) -> None:
        """Send one report; a failure is logged when it is new, and counted."""
        membership = self._membership()
        if membership is None or self._ledger.is_quiet:
            return
        problem = await self._attempt(membership)
        if problem:
            self._failures += 1
            self._metrics.report_failures.inc()
        else:
            self._failures = 0
        if problem != self._problem:
            if problem:
                logger.warning("the gateway at %s does not get our reports: %s", membership.report_url, problem)
            else:
                logger.info("the gateway at %s gets our reports", membership.report_url)
            self._problem = problem

    async def _attempt(self, membership: Membership) -> str:
        """What went wrong; "" = nothing."""
        try:
            report = await self._capacity.report_to(membership)
            token = sign_report(report.to_wire(), membership.report_key)
            async with self._http.post(
                membership.report_url,
                data=token,
                headers={"Content-Type": "application/jwt"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                if response.status == 204:
                    if notice := response.headers.get(NOTICE_HEADER):
                        self._heard(notice)
                    return ""
                said = await response.content.read(_SHOWN_BYTES)
                if response.status == 401:
                    self._refused()
                if response.status == 409 and b'"Not New"' in said and self._ledger.others:
                    # Another replica's came first, and says the same.
                    return ""
                return f"HTTP {response.status}: {said.decode(errors='replace')}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        except Exception:
            logger.exception("a capacity report could not be made")
            return "it could not be made"
