"""The Kubernetes builder as a choice (:class:`member.builders.kind.Kind`)."""

from collections.abc import Sequence
from pathlib import Path

from member.builder_settings import KubernetesBuilderSettings
from member.builders.base import Builder
from member.builders.kind import HubParts
from member.settings import MemberSettings


class KubernetesKind:
    """Builds are pods; sessions are those of a JupyterHub in the cluster (zero-to-jupyterhub)."""

    def builder(self, settings: MemberSettings) -> Builder:
        """See :class:`member.builders.kubernetes.builder.KubernetesBuilder`."""
        from member.builders.kubernetes.builder import KubernetesBuilder

        return KubernetesBuilder(settings)

    def hub(self, settings: MemberSettings, config_path: Path) -> HubParts:  # noqa: ARG002 - the protocol's signature
        """There is none of the member's own: raises ``OSError``."""
        raise OSError(
            "hub.managed: a member whose builder is kubernetes uses the cluster's JupyterHub; leave it out, and give"
            " hub.api_token_file"
        )

    def look(self, settings: MemberSettings) -> Sequence[str]:  # noqa: ARG002 - the protocol's signature
        """Nothing: what runs, runs elsewhere."""
        return ()


def own_settings(settings: MemberSettings) -> KubernetesBuilderSettings:
    """The builder's section of a member that has this kind; raises ``ValueError`` for another one."""
    if not isinstance(settings.builder, KubernetesBuilderSettings):
        raise ValueError(f"builder.kind: is {settings.builder.kind}, not kubernetes")
    return settings.builder
