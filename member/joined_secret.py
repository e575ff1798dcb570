"""What a member keeps of the federations that it has joined, in a Secret of its namespace: for all of its replicas.

Each of them works with files of its own, as a member anywhere does (:mod:`member.joined`), which are brought in line
here: what has changed here since then goes into the Secret, and what the Secret has besides comes here.  A key that is
made is the first one's: who makes another of that name meanwhile takes that, so that replicas that join at one time
join as one member.
"""

import base64
import binascii
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from member.builders.kubernetes.kind import own_settings
from member.builders.kubernetes.persistence import persist
from member.builders.kubernetes.rules import own_namespace
from member.clients.kubernetes import Kubernetes, KubernetesError
from member.joined import DRAINING, KEY_SUFFIX, JoinedError, directory, write
from member.settings import MemberSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two looks of a member that runs.
SETTLE_EVERY_S = 3.0

#: Seconds for which the API may be in trouble.
_PATIENCE_S = 20.0

#: Tries to write what others write at the same time.
_TRIES = 8

#: A Secret's keys have fewer signs than names of files; the rest of them is written as its bytes.
_OTHER, _WRITTEN = re.compile(r"[^-.a-zA-Z0-9]"), re.compile(r"_([0-9a-f]{2})")


class Keeping(Protocol):
    """Where those files are, besides the data directory."""

    async def settle(self) -> None:
        """Bring them in line; raises :class:`member.joined.JoinedError`."""

    async def close(self) -> None:
        """To be called at the end."""


class Nowhere:
    """Nowhere: the data directory outlives its process."""

    async def settle(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


async def keeping(settings: MemberSettings) -> Keeping:
    """As the settings say; what the Secret has is here then.  Raises :class:`member.joined.JoinedError`."""
    name = settings.joined.secret
    if not name:
        return Nowhere()
    try:
        client = await Kubernetes.connect(own_settings(settings).kubeconfig)
    except KubernetesError as error:
        raise JoinedError(f"cannot reach the Secret {name}: {error}") from error
    made = JoinedSecret(client, own_namespace(), name, settings.data_dir)
    try:
        await made.settle()
    except BaseException:
        await made.close()
        raise
    return made


class JoinedSecret:
    """Brings the files in ``data_dir`` in line with a Secret, which is made when there is something to keep."""

    def __init__(self, client: Kubernetes, namespace: str, name: str, data_dir: Path) -> None:
        self._client, self._namespace, self._name, self._data_dir = client, namespace, name, data_dir
        self._base: dict[str, str] | None = None
        """What was in both at last."""

    async def settle(self) -> None:
        """See :class:`Keeping`."""
        try:
            for _ in range(_TRIES):
                if await self._try():
                    return
        except KubernetesError as error:
            raise JoinedError(f"cannot use the Secret {self._name}: {error}") from error
        except OSError as error:
            raise JoinedError(f"cannot use {directory(self._data_dir)}: {error}") from error
        raise JoinedError(f"the Secret {self._name} is written by others again and again")

    async def close(self) -> None:
        """See :class:`Keeping`."""
        await self._client.close()

    async def _try(self) -> bool:
        there = await self._read()
        told, here = _texts(there), self._here()
        # At the beginning the Secret is right, if there is one: what is here may be of long ago.
        # One that is not there (any more) takes nothing with it: keys that a gateway knows cannot be had again.
        base = {} if there is None else here if self._base is None else self._base
        wanted = _merged(base, here, told)
        if wanted != told and not await self._put(there, told, wanted):
            return False
        for name in here.keys() - wanted.keys():
            self._path(name).unlink(missing_ok=True)
        for name, text in wanted.items():
            if here.get(name) != text:
                write(self._path(name), text)
        self._base = wanted
        return True

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._persist(lambda: self._client.get("secrets", self._namespace, self._name))
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise

    async def _put(self, there: dict[str, Any] | None, told: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
        """Write what is wanted; false where somebody else has written meanwhile."""
        changed: dict[str, str | None] = {_key(name): _coded(text) for name, text in wanted.items()}
        changed |= {_key(name): None for name in told.keys() - wanted.keys()}
        try:
            if there is None:
                metadata = {"name": self._name, "labels": {"app.kubernetes.io/managed-by": "manybinder"}}
                body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": changed}
                await self._persist(lambda: self._client.create("secrets", self._namespace, body))
            else:
                version = there["metadata"]["resourceVersion"]
                body = {"metadata": {"resourceVersion": version}, "data": changed}
                await self._persist(lambda: self._client.patch("secrets", self._namespace, self._name, body))
        except KubernetesError as error:
            # It may have been this one, by a try whose answer was lost: what is there then tells.
            if error.status in (404, 409) and not error.is_passing:
                return False
            raise
        return True

    @staticmethod
    async def _persist(ask: Callable[[], Awaitable[T]]) -> T:
        return await persist(ask, for_s=_PATIENCE_S)

    def _here(self) -> dict[str, str]:
        paths = [*directory(self._data_dir).glob("*.json"), *directory(self._data_dir).glob(f"*{KEY_SUFFIX}")]
        found = {path.name: path.read_text() for path in paths}
        if (self._data_dir / DRAINING).exists():
            found[DRAINING] = ""
        return found

    def _path(self, name: str) -> Path:
        return self._data_dir / DRAINING if name == DRAINING else directory(self._data_dir) / name


def _merged(base: Mapping[str, str], here: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """What is told, with what was changed here since ``base``; a key that both have made is the one that is told."""
    removed = base.keys() - here.keys()
    changed = {
        name: text
        for name, text in here.items()
        if base.get(name) != text and not (name.endswith(KEY_SUFFIX) and name in told)
    }
    return {name: text for name, text in told.items() if name not in removed} | changed


def _texts(there: Mapping[str, Any] | None) -> dict[str, str]:
    """What a Secret holds, by names of files; entries that are none are somebody else's, and are passed over."""
    found = {}
    for key, coded in ((there or {}).get("data") or {}).items():
        name = _WRITTEN.sub(lambda match: chr(int(match[1], 16)), str(key))
        if "/" in name or (name != DRAINING and not name.endswith((".json", KEY_SUFFIX))):
            continue
        try:
            found[name] = base64.b64decode(str(coded), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            logger.warning("the entry %s of the Secret is no text", key)
    return found


def _key(name: str) -> str:
    return _OTHER.sub(lambda match: "".join(f"_{byte:02x}" for byte in match[0].encode()), name)


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
