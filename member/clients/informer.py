"""What a cluster has of one kind of object, kept up by listing once and then watching.

The pattern is that of the API's documentation ("Efficient detection of changes"): list, watch from the list's version,
go on from the last version heard when a watch ends, list anew when that version has expired.  On top of it everything
is listed anew now and then, so that an event that never came is made up for.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from member.clients.kubernetes import Change, Kubernetes, KubernetesError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that one watch lasts, and after which everything is listed anew.
WINDOW_S = 60.0
RELIST_S = 300.0

#: Seconds of the API's silence after which nobody trusts what is known: two watches may be cut.
STALE_S = 2.5 * WINDOW_S

#: Seconds before another try; doubled each time, up to the longest.
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0


class Informer(Generic[T]):
    """Keeps ``objects`` by ``namespace/name``, each as ``keep`` makes it of the API's own."""

    def __init__(
        self,
        client: Kubernetes,
        plural: str,
        namespace: str | None,
        keep: Callable[[Mapping[str, Any]], T],
        *,
        labels: str = "",
        fields: str = "",
        window_s: float = WINDOW_S,
        relist_s: float = RELIST_S,
    ) -> None:
        self._client, self._plural, self._namespace, self._keep = client, plural, namespace, keep
        self._labels, self._fields, self._window_s, self._relist_s = labels, fields, window_s, relist_s
        self._version = ""
        self._listed_at = float("-inf")
        self._change = asyncio.Event()
        self.objects: dict[str, T] = {}
        self.error: KubernetesError | None = None
        """Why the last try to hear from the API failed; ``None`` once one succeeded."""
        self.heard_at = float("-inf")
        """When the API last said anything."""

    @property
    def synced(self) -> bool:
        """Whether everything was listed at least once."""
        return self._listed_at > float("-inf")

    @property
    def next_change(self) -> asyncio.Event:
        """Is set at the next change; take it before looking at ``objects``, and none is missed."""
        return self._change

    def age_s(self) -> float:
        """Seconds since the API last said anything; infinite before the first list."""
        return _now() - self.heard_at

    def trouble(self) -> KubernetesError | None:
        """Why the API is not heard; nothing while that may pass and what is known is not stale."""
        forgiven = self.error is not None and self.error.is_passing and self.age_s() <= STALE_S
        return None if forgiven else self.error

    async def wait_synced(self, timeout_s: float) -> None:
        """Wait for the first list; raises :class:`KubernetesError` where none has come in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.synced:
                    await self._change.wait()
        except TimeoutError:
            if self.error is not None:
                raise self.error from None
            raise KubernetesError(0, "", f"listing {self._plural} took longer than {timeout_s:g} s") from None

    async def run(self) -> None:
        """Keep it up, for ever."""
        pause = _FIRST_PAUSE_S
        while True:
            begun = _now()
            try:
                if _now() - self._listed_at >= self._relist_s or not self._version:
                    await self._list()
                await self._watch()
                pause = _FIRST_PAUSE_S
                if _now() - begun < 1:
                    # A watch that ends at once is no reason to ask without a pause.
                    await asyncio.sleep(1)
            except KubernetesError as error:
                if error.status == 410:
                    logger.info("%s are listed anew: %s", self._plural, error)
                    self._version = ""
                else:
                    self._failed(error)
                if self.heard_at >= begun and _now() - begun > _LONGEST_PAUSE_S:
                    # It went well for a while: what cuts watches now and then is no trouble that lasts.
                    pause = _FIRST_PAUSE_S
                await asyncio.sleep(max(pause, error.retry_after_s or 0))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            except Exception:
                # Of an object of a form that nobody expected; what there is is looked at anew.
                logger.exception("cannot read what the API says of %s", self._plural)
                self._version = ""
                await asyncio.sleep(_LONGEST_PAUSE_S)

    async def _list(self) -> None:
        items, version = await self._client.list_all(
            self._plural, self._namespace, labels=self._labels, fields=self._fields
        )
        # Whatever is not among them is gone, whether or not its deletion was told.
        self.objects = {_key(item): self._keep(item) for item in items}
        self._version, self._listed_at = version, _now()
        self._heard()
        self._tell()

    async def _watch(self) -> None:
        left = max(1.0, self._listed_at + self._relist_s - _now())
        changes = self._client.watch(
            self._plural,
            self._namespace,
            self._version,
            labels=self._labels,
            fields=self._fields,
            window_s=min(self._window_s, left),
            on_open=self._heard,
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                self._apply(change)
        self._heard()

    def _apply(self, change: Change) -> None:
        self._version = str(change.object["metadata"]["resourceVersion"])
        self._heard()
        if change.type == "BOOKMARK":
            return
        if change.type == "DELETED":
            self.objects.pop(_key(change.object), None)
        else:
            self.objects[_key(change.object)] = self._keep(change.object)
        self._tell()

    def _heard(self) -> None:
        self.heard_at, self.error = _now(), None

    def _failed(self, error: KubernetesError) -> None:
        log = logger.info if error.is_passing else logger.warning
        log("cannot keep up with %s: %s", self._plural, error)
        self.error = error
        self._tell()

    def _tell(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _key(item: Mapping[str, Any]) -> str:
    meta = item["metadata"]
    return f"{meta.get('namespace', '')}/{meta['name']}"
