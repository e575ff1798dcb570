"""BinderHub's documented clients at a gateway, and at a member that stands alone: they work as they are, from other
origins too.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from thebe import served
from upstreamclients import curl, event_source, install_npm_client, npm_client
from yarl import URL

from frontend.tokens import make_build_token
from tests.gateway.conftest import start
from tests.gateway.harness import SPEC, Starter
from tests.member.web_harness import DIRECT, member_of

__all__ = ["start"]

#: Text that is no hexadecimal number.
SECRET = "s" * 64
#: One launch for each visitor who brings no token, this machine's too.
RATE: dict[str, Any] = {"launches": 1, "per": "100h", "exempt": []}

READY = {"phase", "message", "image", "repo_url", "token", "url", "binder_ref_url", "binder_launch_host"}
READY |= {"binder_request", "binder_persistent_request"}


@dataclass(frozen=True)
class Service:
    """Where the clients launch: a service open to all origins, and a spec that it knows."""

    url: str
    spec: str
    fresh: list[str]
    """The phases of the first launch of the spec, but for those that come as often as the Hub has news."""
    launched: Callable[[], int]
    """How many launches have come through."""
    often: str = ""

    @property
    def build(self) -> str:
        """The address of the spec's build."""
        return f"{self.url}build/{self.spec}"

    def token(self, secret: str = SECRET) -> str:
        """What the service's launch page bears."""
        return make_build_token(secret, self.spec, URL(self.url).authority, time.time())


@pytest.fixture(params=["gateway", "member"])
async def service(request: pytest.FixtureRequest, start: Starter, tmp_path: Path) -> AsyncIterator[Service]:
    if request.param == "gateway":
        security = {"build_token_secret": SECRET, "cors_allow_origin": "*"}
        gateway = await start.gateway(2, security=security, admission={"rate_limit": RATE})
        phases = ["waiting", "waiting", "building", "building", "building", "built", "ready"]
        yield Service(gateway.url, SPEC, phases, lambda: sum(len(member.builds) for member in gateway.members))
        return
    async with member_of(tmp_path, federated=False, required=False, cors_allow_origin="*", rate=RATE) as member:
        assert member.secret == SECRET
        phases = ["waiting", "fetching", "building", "building", "built", "ready"]
        yield Service(member.url, DIRECT, phases, lambda: len(member.engines.hub.users), often="launching")


def phases(events: list[dict[str, Any]]) -> list[str]:
    return [event["phase"] for event in events]


async def test_curl_without_a_token_launches_and_is_counted(service: Service) -> None:
    events, headers = await curl(service.build)
    assert [phase for phase in phases(events) if phase != service.often] == service.fresh
    assert events[-1].keys() >= READY
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("1", "0")
    assert "x-ratelimit-reset" in headers
    (refused,), _ = await curl(service.build)
    assert (refused["phase"], refused["status_code"]) == ("failed", 429)
    assert refused["message"].startswith("Rate limit exceeded. Try again in ")
    assert service.launched() == 1


async def test_curl_with_the_token_of_a_page_is_not_counted(service: Service) -> None:
    for _ in range(3):
        events, headers = await curl(f"{service.build}?build_token={service.token()}")
        assert phases(events)[-1] == "ready"
        assert "x-ratelimit-limit" not in headers
    (refused,), _ = await curl(f"{service.build}?build_token={service.token('another' * 9)}")
    assert (refused["status_code"], refused["message"]) == (403, "Invalid build token\n")
    # The token was made for pages of this host.
    (refused,), _ = await curl(f"{service.build}?build_token={service.token()}", "-H", "Origin: https://other.example")
    assert refused["status_code"] == 403


async def test_a_script_of_another_origin_reads_the_answer(service: Service) -> None:
    events, headers = await curl(service.build, "-H", "Origin: https://other.example")
    assert phases(events)[-1] == "ready"
    assert headers["access-control-allow-origin"] == "*"


@pytest.mark.slow
async def test_the_npm_client_launches_with_and_without_a_token(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = install_npm_client(tmp_path_factory.mktemp("npm"))
    for given in ("", service.token()):
        events = await npm_client(directory, service.url, service.spec, given)
        assert phases(events)[-1] == "ready"
        assert "failed" not in phases(events)
        assert events[-1].keys() >= READY
    assert service.launched() == 2


async def test_a_plain_event_source_of_another_origin_launches_once(service: Service, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<!doctype html><title>A page of somebody else's</title>")
    with served(tmp_path / "site") as origin:
        events, opened = await event_source(f"{origin}/index.html", service.build)
    assert phases(events)[-1] == "ready"
    assert phases(events).count("ready") == 1
    # It asked again after the end, as each one does, and was told to stop: nothing was launched for that.
    assert opened == 1
    assert service.launched() == 1
