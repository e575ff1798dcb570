"""Sessions as containers, seen from outside of the Hub: what is left of them, and those that take too much disk."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract.units import format_size
from member.builders.container.client import EngineClient
from member.confine.limits import disk_usage
from member.settings import MemberSettings

logger = logging.getLogger(__name__)

#: On each session's container: the member that it is of.
LABEL_SESSION = "org.manybinder.session-of"


def label(settings: MemberSettings) -> str:
    """The label of this member's sessions."""
    return f"{LABEL_SESSION}={settings.name}"


def network(settings: MemberSettings) -> str:
    """The network of this member's sessions."""
    return f"manybinder-{settings.name}"


class Sessions:
    """The sessions of one member."""

    def __init__(self, client: EngineClient, settings: MemberSettings) -> None:
        self._client, self._settings = client, settings

    async def clean(self) -> None:
        """Remove what has ended, and end what has written more than it may; raises ``EngineError``."""
        for container in await self._client.containers(label(self._settings), sizes=True):
            if why := await self._doomed(container):
                logger.info("removing the session %s: %s", _name(container), why)
                await self._client.remove_container(str(container["Id"]))

    async def remove_all(self) -> None:
        """End every session; raises ``EngineError``."""
        for container in await self._client.containers(label(self._settings)):
            await self._client.remove_container(str(container["Id"]))

    async def _doomed(self, container: Mapping[str, Any]) -> str:
        # One that is just created has not ended.
        if str(container.get("State", "")).lower() in ("exited", "dead"):
            return "it has ended"
        # Of an image's volumes the engine makes directories beside the container, and counts them nowhere.
        volumes = [Path(mount["Source"]) for mount in container.get("Mounts") or () if mount.get("Source")]
        written = int(container.get("SizeRw") or 0) + await disk_usage(volumes)
        limit = self._settings.sessions.disk
        return f"it wrote {format_size(written)}, more than {format_size(limit)}" if written > limit else ""


def _name(container: Mapping[str, Any]) -> str:
    return str((container.get("Names") or ["?"])[0]).lstrip("/")
