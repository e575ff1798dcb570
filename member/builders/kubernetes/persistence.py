"""Asking the Kubernetes API until it does what it is asked, or says that it will not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from member.clients.kubernetes import KubernetesError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0


async def persist(ask: Callable[[], Awaitable[T]], *, for_s: float) -> T:
    """The answer to a question that may be asked again, for as long as its failure is a passing one.

    Waits as long as the API says, else for growing times.  Raises the :class:`KubernetesError` that stays.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + for_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return await ask()
        except KubernetesError as error:
            wait = max(pause, error.retry_after_s or 0.0)
            if not error.is_passing or loop.time() + wait > deadline:
                raise
            logger.info("%s; trying again in %g s", error, wait)
        await asyncio.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
