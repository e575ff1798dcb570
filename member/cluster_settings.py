"""What an operator may set of a cluster: sections of the Kubernetes builder's."""

from typing import Literal

from pydantic import Field

from contract.units import Size
from servicekit.config import Section

#: A namespace, or nothing for the one that the member is in.
NAMESPACE_OR_NONE = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"


class SecretKeySettings(Section):
    """One entry of a Secret in the build pods' namespace."""

    name: str = Field(min_length=1)
    """The Secret's name."""

    key: str = Field(min_length=1)
    """The entry's."""


class TolerationSettings(Section):
    """A toleration, as in a pod's manifest."""

    key: str = ""
    """The taint's key; empty for all, with ``Exists``."""

    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the taint's value counts."""

    value: str = ""
    """The taint's value."""

    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """The taint's effect; empty for all."""


class ClusterSessionSettings(Section):
    """Sessions as the cluster's scheduler sees them; the values are those of the JupyterHub's own configuration."""

    namespace: str = Field(default="", pattern=NAMESPACE_OR_NONE)
    """Where the Hub's session pods run; by default where the member does."""

    memory: Size = Field(default=1 * 2**30, ge=0)
    """``singleuser.memory.guarantee``."""

    cpu: float = Field(default=0.0, ge=0)
    """``singleuser.cpu.guarantee``."""

    memory_limit: Size | None = Field(default=None, gt=0)
    """``singleuser.memory.limit``, if a ResourceQuota counts limits."""

    cpu_limit: float | None = Field(default=None, gt=0)
    """``singleuser.cpu.limit``, likewise."""

    node_selector: dict[str, str] = Field(default={})
    """``singleuser.nodeSelector``."""

    tolerations: tuple[TolerationSettings, ...] = ()
    """``singleuser.extraTolerations``; those for nodes that are dedicated to users come by themselves."""

    image_pull_secrets: tuple[str, ...] = ()
    """``singleuser.image.pullSecrets``: with which ``manybinder member check`` has nodes pull."""

    priority_class: str = ""
    """The PriorityClass of session pods, by which a ResourceQuota may count them: the one that they name, or the
    cluster's default one (zero-to-jupyterhub's, with ``scheduling.podPriority``)."""

    placeholders_are_free: bool = True
    """Whether user placeholders give way to sessions (``scheduling.podPriority.enabled``)."""

    autoscaler_max_nodes: int = Field(default=0, ge=0)
    """Up to how many nodes for sessions a cluster autoscaler would go; 0 without one."""

    autoscaler_sessions_per_node: int = Field(default=0, ge=0)
    """Sessions for which each of those has room."""
