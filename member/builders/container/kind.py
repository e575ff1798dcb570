"""The container builder as a choice (:class:`member.builders.kind.Kind`)."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from member.builder_settings import ContainerBuilderSettings
from member.builders.base import Builder
from member.builders.container import endpoint as endpoints
from member.builders.container import sessions
from member.builders.kind import HubParts
from member.builders.lab_extension import extension_files
from member.settings import MemberSettings
from servicekit.processes import ProcessSpec


class ContainerKind:
    """Builds and sessions are an engine's containers."""

    def builder(self, settings: MemberSettings) -> Builder:
        """See :class:`member.builders.container.builder.ContainerBuilder`."""
        from member.builders.container.builder import ContainerBuilder

        return ContainerBuilder(settings)

    def hub(self, settings: MemberSettings, config_path: Path) -> HubParts:
        """DockerSpawner at the engine, and a process that ends the sessions when the member ends."""
        own, shared = own_settings(settings), settings.sessions
        found = endpoints.find(own, settings.data_dir)
        endpoints.write(found, settings.data_dir)
        keeper = ProcessSpec(
            name=f"{settings.name}/engine",
            argv=(sys.executable, "-m", "member.builders.container.keeper", "--config", str(config_path)),
            log=str(settings.data_dir / "logs" / "engine.log"),
        )
        traits = {
            "client_kwargs": {"base_url": found.url},
            "mem_limit": shared.memory,
            "cpu_limit": own.session_cpu,
            "pids_limit": shared.processes,
            "network_name": sessions.network(settings),
            "use_internal_ip": False,
            "host_ip": "127.0.0.1",
            "pull_policy": "never",
            "prefix": f"manybinder-{settings.name}",
            "session_label": sessions.label(settings),
            "session_user": own.session_user,
            "idle_timeout": shared.idle_timeout,
            "allow_origin": settings.security.cors_allow_origin,
            "max_age": shared.max_age,
            "lab_extension": extension_files(),
        }
        return HubParts("member.hub.container.ContainerSpawner", {"ContainerSpawner": traits}, (keeper,))

    def look(self, settings: MemberSettings) -> Sequence[str]:
        """Whether there is an engine here, and what it cannot limit."""
        from member.builders.container import client

        try:
            found = endpoints.find(own_settings(settings), settings.data_dir)
            lacking = client.podman_lacks() if found.own else asyncio.run(client.EngineClient(found).about()).unlimited
        except (endpoints.NoEngineError, client.EngineError) as error:
            return (str(error),)
        return (client.cannot_limit(lacking),) if lacking else ()


def own_settings(settings: MemberSettings) -> ContainerBuilderSettings:
    """The builder's section of a member that has this kind; raises ``ValueError`` for another one."""
    if not isinstance(settings.builder, ContainerBuilderSettings):
        raise ValueError(f"builder.kind: is {settings.builder.kind}, not container")
    return settings.builder
