"""The process builder as a choice (:class:`member.builders.kind.Kind`)."""

import sys
from pathlib import Path

from member.builder_settings import ProcessBuilderSettings
from member.builders.base import Builder
from member.builders.kind import HubParts
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


def own_settings(settings: MemberSettings) -> ProcessBuilderSettings:
    """The builder's section of a member that has this kind; raises ``ValueError`` for another one."""
    if not isinstance(settings.builder, ProcessBuilderSettings):
        raise ValueError(f"builder.kind: is {settings.builder.kind}, not process")
    return settings.builder
