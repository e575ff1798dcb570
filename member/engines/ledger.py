"""Whose a launch is, where a member has several replicas: what engines ask, and the answers of one that is alone."""

from collections.abc import Sequence
from typing import Protocol

from member.builders.kubernetes.kind import own_settings
from member.builders.kubernetes.rules import own_namespace
from member.clients.kubernetes import Kubernetes
from member.core.launching import Launch, LaunchOrder
from member.core.leases import LaunchState, ReplicaState
from member.core.ports import LedgerPort
from member.engines.builds import Builds
from member.engines.cluster_ledger import ClusterLedger
from member.engines.health import Health
from member.engines.replicas import CHECK, Replicas
from member.joined import is_draining
from member.settings import MemberSettings
from servicekit.tasks import Tasks


class Ledger(LedgerPort, Protocol):
    """The launches of all replicas of a member."""

    async def claim(self, launch: Launch) -> Sequence[LaunchState]:
        """Take one of the member's sessions for a launch; the launches of other replicas that have taken one.

        Raises :class:`LedgerError`.
        """

    async def holds(self, launch: Launch) -> bool:
        """Whether a launch is still this replica's; not where nobody knows."""

    def ended(self, launch: Launch) -> None:
        """A launch has ended: the session that it took, the Hub counts, or there is none."""

    def forgotten(self, launch: Launch) -> None:
        """A launch that has ended is known here no longer."""

    async def start(self) -> None:
        """Find the others; raises :class:`member.clients.kubernetes.KubernetesError`."""

    async def close(self) -> None:
        """Say good-bye to them."""

    @property
    def others(self) -> Sequence[ReplicaState]:
        """The other replicas that are alive."""

    @property
    def launches(self) -> Sequence[LaunchState]:
        """The launches of the other replicas: under way, or ended not long ago."""

    @property
    def boot_id(self) -> str:
        """What the replicas that are alive call their common start; "" for one that is alone by its settings."""

    @property
    def is_quiet(self) -> bool:
        """Whether reports are left to the others, which are well while this one is not."""


class Alone:
    """The ledger of a member that is one process."""

    others: Sequence[ReplicaState] = ()
    launches: Sequence[LaunchState] = ()
    boot_id = ""
    is_quiet = False

    async def take(self, order: LaunchOrder) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See :class:`Ledger`, as all here."""
        return None

    async def find(self, launch_id: str) -> str | None:  # noqa: ARG002
        """Nowhere else."""
        return None

    async def claim(self, launch: Launch) -> Sequence[LaunchState]:  # noqa: ARG002
        """Nobody else's."""
        return ()

    async def holds(self, launch: Launch) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def ended(self, launch: Launch) -> None:
        """Nothing to do."""

    def forgotten(self, launch: Launch) -> None:
        """Nothing to do."""

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


async def make_ledger(settings: MemberSettings, health: Health, builds: Builds, tasks: Tasks) -> Ledger:
    """The ledger that the settings ask for; raises :class:`member.clients.kubernetes.KubernetesError`."""
    given = settings.replicas
    if given is None:
        return Alone()
    builder = own_settings(settings)

    async def state() -> ReplicaState:
        return ReplicaState(
            address=f"http://{f'[{given.host}]' if ':' in given.host else given.host}:{settings.listen.port}",
            ok=all(check.ok or check.service == CHECK for check in await health.checks()),
            builds_running=builds.running,
            builds_queued=builds.queued,
            builds_limit=settings.builder.slots,
            draining=is_draining(settings.data_dir),
        )

    client = await Kubernetes.connect(builder.kubeconfig)
    namespace = builder.namespace or own_namespace()
    replicas = Replicas(client, namespace, settings.name, given.name, state=state, tasks=tasks)
    health.add(CHECK, replicas.checks)
    return ClusterLedger(client, namespace, settings.name, replicas, tasks)
