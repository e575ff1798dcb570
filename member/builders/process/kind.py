"""The process builder as a choice (:class:`member.builders.kind.Kind`)."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from member.builder_settings import ProcessBuilderSettings
from member.builders.base import Builder
from member.builders.kind import HubParts
from member.confine.confinement import Confinement, detect
from member.settings import MemberSettings


class ProcessKind:
    """Builds and sessions are processes of this machine."""

    def builder(self, settings: MemberSettings) -> Builder:
        """See :class:`member.builders.process.builder.ProcessBuilder`."""
        from member.builders.process.builder import ProcessBuilder

        return ProcessBuilder(settings)

    def hub(self, settings: MemberSettings, config_path: Path) -> HubParts:
        """A session is started by a command of ours, which confines it."""
        command = [sys.executable, "-m", "member.session", "--config", str(config_path)]
        traits = {"session_command": command, "auth_enabled": settings.auth_enabled}
        return HubParts("member.hub.spawner.SessionSpawner", {"SessionSpawner": traits})

    def look(self, settings: MemberSettings) -> Sequence[str]:
        """Whether bubblewrap works here, where the settings want it to."""
        if settings.auth_enabled or own_settings(settings).confine == "required":
            with tempfile.TemporaryDirectory() as place:
                find_confinement(settings, Path(place))
        return ()


def find_confinement(settings: MemberSettings, data_dir: Path) -> Confinement:
    """How commands are confined on this machine; raises ``RuntimeError`` where the settings want more."""
    wish = own_settings(settings).confine
    found = detect(data_dir, wish)
    if settings.auth_enabled and not found.confined and wish != "off":
        raise RuntimeError(
            f"auth_enabled: sessions would be {found.reason}, and what runs in one could read everybody's, and this"
            " member's secrets; make bubblewrap work, or say builder.confine: off"
        )
    return found


def own_settings(settings: MemberSettings) -> ProcessBuilderSettings:
    """The builder's section of a member that has this kind; raises ``ValueError`` for another one."""
    if not isinstance(settings.builder, ProcessBuilderSettings):
        raise ValueError(f"builder.kind: is {settings.builder.kind}, not process")
    return settings.builder
