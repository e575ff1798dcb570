"""One build pod, from its creation to its end: what happens to it, and its log."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from contract.events import Failure, Phase, event
from member.builders.base import BuildFailedError
from member.builders.kubernetes.pods import Pods
from member.builders.relay import Tell
from member.clients.kubernetes import KubernetesError
from member.core.pod_log import LogPosition
from member.core.pod_status import PodStatus, Stage, read_status
from member.core.pods import CONTAINER
from member.core.repo2docker_log import Repo2dockerLog

logger = logging.getLogger(__name__)

#: Seconds without news of a pod after which the API is asked: an event may have been lost.
_ASK_AFTER_S = 15.0

#: Seconds that the rest of a log gets after its pod has ended.
_LOG_PATIENCE_S = 40.0

#: Seconds before a log is asked for again, at first and at most.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0


class Following:
    """Follows one pod and tells what it hears; ``start_timeout_s`` bounds the time until the pod runs."""

    def __init__(self, pods: Pods, pod: Mapping[str, Any], tell: Tell, start_timeout_s: float) -> None:
        self._pods, self._pod, self._tell, self._start_timeout_s = pods, pod, tell, start_timeout_s
        self._log = Repo2dockerLog()
        self._ended = asyncio.Event()

    async def to_the_end(self) -> BuildFailedError | None:
        """Tell all that happens, and return what went wrong; ``None`` if the pod has succeeded."""
        log: asyncio.Task[None] | None = None
        status = PodStatus(Stage.UNPLACED)
        try:
            async with contextlib.aclosing(self._statuses()) as statuses:
                async for status in statuses:
                    if status.started and log is None:
                        log = asyncio.create_task(self._read_log(), name=f"log of {self._pods.name(self._pod)}")
                    if status.stage.ended:
                        break
            if log is not None:
                self._ended.set()
                _, late = await asyncio.wait({log}, timeout=_LOG_PATIENCE_S)
                if late:
                    logger.info("the rest of the log of %s cannot be had", self._pods.name(self._pod))
                else:
                    log.result()
        finally:
            if log is not None:
                log.cancel()
                await asyncio.gather(log, return_exceptions=True)
        return self._verdict(status)

    def _verdict(self, status: PodStatus) -> BuildFailedError | None:
        if status.stage is Stage.SUCCEEDED:
            return None
        failure = self._log.failure if status.by_exit_code else status.failure or Failure.MEMBER
        return BuildFailedError(failure, status.words)

    async def _statuses(self) -> AsyncGenerator[PodStatus, None]:
        """What the pod's status is, whenever it changes; ends with one that has ended, or with none left."""
        loop = asyncio.get_running_loop()
        begun = since = loop.time()
        pod: Mapping[str, Any] | None = self._pod
        told = ""
        last = PodStatus(Stage.UNPLACED)
        while True:
            status = _GONE if pod is None else read_status(pod)
            if (status.stage, status.patience_s) != (last.stage, last.patience_s):
                since = loop.time()
            last = status
            yield status
            if status.stage.ended or pod is None:
                return
            limit = None
            if not status.started:
                patience_s = self._start_timeout_s if status.patience_s is None else status.patience_s
                limit = min(begun + self._start_timeout_s, since + patience_s)
                if loop.time() >= limit:
                    yield await self._never_started(pod, status)
                    return
                if status.words != told:
                    told = status.words
                    await self._tell(event(Phase.WAITING, f"{told[:1].upper()}{told[1:]}.\n"))
            wait = _ASK_AFTER_S if limit is None else max(0.0, min(_ASK_AFTER_S, limit - loop.time()))
            pod = await self._pods.next_state(pod, wait)

    async def _never_started(self, pod: Mapping[str, Any], status: PodStatus) -> PodStatus:
        words = status.words
        if warning := await self._pods.last_warning(pod):
            words += f"; the cluster says: {warning}"
        return PodStatus(Stage.FAILED, f"This member could not build: {words}.", status.failure)

    async def _read_log(self) -> None:
        """Tell each line once, from the first to the last, over as many streams as it takes."""
        position = LogPosition()
        pause = _FIRST_PAUSE_S
        while True:
            # A stream that was opened after the end gives all that is left.
            last_stream = self._ended.is_set()
            position.reopen()
            try:
                async with contextlib.aclosing(self._pods.log(self._pod, CONTAINER, position.since)) as lines:
                    async for line in lines:
                        if (text := position.take(line)) is not None:
                            pause = _FIRST_PAUSE_S
                            await self._say(text)
                if last_stream:
                    return
            except KubernetesError as error:
                if error.status == 404 or (error.status == 400 and last_stream):
                    # The pod is gone, or its container never ran.
                    return
                log = logger.info if error.is_passing or error.status == 400 else logger.warning
                log("the log of %s broke off: %s", self._pods.name(self._pod), error)
            try:
                async with asyncio.timeout(pause):
                    await self._ended.wait()
                    if last_stream:
                        await asyncio.sleep(pause)
            except TimeoutError:
                pass
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _say(self, text: str) -> None:
        await self._tell(self._log.read(text))


_GONE = PodStatus(Stage.FAILED, "This member could not build: the build's pod was deleted.", Failure.MEMBER)
