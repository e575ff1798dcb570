"""The member's own checks: answered in time whatever hangs, and true again once it is over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from contract.reports import Check
from member.clients.hub import HubBusyError, HubClient
from member.engines.health import DEADLINE_S, FRESH_S, PATIENCE_S, STALE_S, Health
from tests.fakes.builder import FakeBuilder

#: How long a gateway waits for an answer (``probes.timeout``).
GATEWAY_WAITS_S = 2.0

pytestmark = pytest.mark.looptime


class StubHub(HubClient):
    """Answers after a while, or not, or with an error."""

    def __init__(self) -> None:
        self.after_s = 0.0
        self.error = ""
        self.asked = 0

    async def version(self) -> str:
        self.asked += 1
        await asyncio.sleep(self.after_s)
        if self.error:
            raise HubBusyError(self.error)
        return "5.4.0"


class Slow(FakeBuilder):
    """Takes its time."""

    after_s = 0.0

    async def checks(self) -> Sequence[Check]:
        await asyncio.sleep(self.after_s)
        return await super().checks()


@contextlib.asynccontextmanager
async def checked(hub: StubHub, builder: Slow | None = None) -> AsyncIterator[Health]:
    health = Health(hub, builder or Slow(), clock=asyncio.get_running_loop().time)
    yield health
    await health.close()


def now() -> float:
    return asyncio.get_running_loop().time()


async def hub_check(health: Health) -> Check:
    """What is said of the Hub, in time for a gateway."""
    begun = now()
    checks = await health.checks()
    assert now() - begun < GATEWAY_WAITS_S
    (found,) = (check for check in checks if check.service == "JupyterHub API")
    return found


async def test_a_slow_hub_is_no_reason_to_be_late_nor_to_be_called_down() -> None:
    hub = StubHub()
    async with checked(hub) as health:
        assert (await hub_check(health)).ok
        hub.after_s = 4.0
        # Slower than a gateway waits, and not hanging: each answer tells the last result meanwhile.
        for _ in range(20):
            await asyncio.sleep(1)
            assert (await hub_check(health)).ok
        assert health.hub_version == "5.4.0"


async def test_a_hub_that_hangs_is_a_failing_check_soon_and_a_passing_one_when_it_answers_again() -> None:
    hub = StubHub()
    async with checked(hub) as health:
        assert (await hub_check(health)).ok
        hub.after_s, begun = 3600.0, now()
        while (check := await hub_check(health)).ok:
            await asyncio.sleep(0.5)
        assert now() - begun < FRESH_S + DEADLINE_S + PATIENCE_S + 1
        assert check.message == f"it did not answer within {DEADLINE_S:g} s"
        hub.after_s, begun = 0.0, now()
        while not (await hub_check(health)).ok:
            await asyncio.sleep(0.5)
        assert now() - begun < FRESH_S + DEADLINE_S + PATIENCE_S + 1


async def test_before_the_first_answer_nothing_is_well() -> None:
    hub = StubHub()
    hub.after_s = 4.0
    async with checked(hub) as health:
        check = await hub_check(health)
        assert (check.ok, check.message) == (False, "it has not answered yet")
        await asyncio.sleep(4)
        assert (await hub_check(health)).ok


async def test_checks_run_beside_each_other() -> None:
    hub, builder = StubHub(), Slow()
    hub.after_s = builder.after_s = 0.9
    async with checked(hub, builder) as health:
        begun = now()
        assert all(check.ok for check in await health.checks())
        assert now() - begun == pytest.approx(0.9, abs=0.05)


async def test_however_many_ask_the_hub_is_asked_once() -> None:
    hub = StubHub()
    hub.after_s = 0.5
    async with checked(hub) as health:
        for answer in await asyncio.gather(*(health.checks() for _ in range(50))):
            assert all(check.ok for check in answer)
        assert hub.asked == 1
        await health.checks()
        assert hub.asked == 1
        await asyncio.sleep(FRESH_S + 0.1)
        await health.checks()
        assert hub.asked == 2


async def test_what_was_found_long_ago_is_not_told() -> None:
    hub = StubHub()
    async with checked(hub) as health:
        assert (await hub_check(health)).ok
        await asyncio.sleep(STALE_S + 1)
        hub.after_s = 3.0
        check = await hub_check(health)
        assert (check.ok, check.message) == (False, "it has not answered for 14 s")


async def test_each_check_has_the_same_patience_as_the_first_one() -> None:
    """BinderHub's has three tries for the life of its process."""
    hub = StubHub()
    async with checked(hub) as health:
        for _ in range(6):
            hub.error = "out of order"
            await asyncio.sleep(FRESH_S + 0.1)
            check = await hub_check(health)
            assert (check.ok, check.message) == (False, "out of order")
            hub.error, hub.after_s = "", 0.9
            await asyncio.sleep(FRESH_S + 0.1)
            assert (await hub_check(health)).ok
            hub.after_s = 0.0


async def test_a_check_that_breaks_is_a_failing_one(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Slow):
        async def checks(self) -> Sequence[Check]:
            raise ZeroDivisionError("inner workings")

    async with checked(StubHub(), Broken()) as health:
        answer = await health.checks()
        assert [(check.service, check.ok) for check in answer] == [("JupyterHub API", True), ("Builder", False)]
        assert "inner workings" not in answer[1].message
    assert "inner workings" in caplog.text
