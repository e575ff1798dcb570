"""How soon a member that is gone is noticed, and one that is back, and how it comes into rotation, in virtual time."""

import asyncio

import pytest

from gateway.core.fleet import Health, Member
from gateway.core.settings import FederationSettings
from gateway.core.transitions import ProbeResult
from gateway.engines.fleet import Fleet
from gateway.engines.prober import Prober
from servicekit.tasks import Tasks

REFUSED = ProbeResult(False, False, "It could not be reached: connection refused.")


class Client:
    """Probes a member that answers at once until it is killed."""

    killed = False

    async def probe(self, *_: object, **__: object) -> ProbeResult:
        return REFUSED if self.killed else ProbeResult(True, True)


@pytest.mark.looptime
@pytest.mark.parametrize("draw", [0.0, 1.0])
@pytest.mark.parametrize("lived_s", [10.0, 10.3, 10.9])
async def test_a_killed_member_is_noticed_within_the_promised_five_seconds(draw: float, lived_s: float) -> None:
    clock = asyncio.get_running_loop().time
    client, tasks = Client(), Tasks()
    fleet = Fleet([Member("m", "http://m/")], FederationSettings(), clock)
    Prober(fleet, client, tasks, lambda: draw).start()  # type: ignore[arg-type]  # nothing else is asked
    await asyncio.sleep(lived_s)
    for killed, health in ((True, Health.UNREACHABLE), (False, Health.HEALTHY)):
        client.killed, begun = killed, clock()
        while fleet.snapshot.members[0].health(clock()) != health:
            await asyncio.sleep(0.01)
            assert clock() - begun < 5
    await tasks.close()


@pytest.mark.looptime
@pytest.mark.parametrize(("up_after_s", "slowly"), [(5.0, False), (100.0, True)])
async def test_a_member_that_comes_up_with_its_gateway_is_in_rotation_whole(up_after_s: float, slowly: bool) -> None:
    clock = asyncio.get_running_loop().time
    client, tasks = Client(), Tasks()
    client.killed = True
    fleet = Fleet([Member("m", "http://m/")], FederationSettings(), clock)
    Prober(fleet, client, tasks).start()  # type: ignore[arg-type]  # nothing else is asked
    await asyncio.sleep(up_after_s)
    client.killed = False
    await asyncio.sleep(5)
    status = fleet.snapshot.status(fleet.snapshot.members[0], clock())
    assert status.health == Health.HEALTHY
    assert (status.slow_start < 1) == slowly
    await tasks.close()
