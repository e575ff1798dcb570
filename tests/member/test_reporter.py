"""Capacity reports as a gateway gets them, and what becomes of them when it does not."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.reports import CapacityReport, Image, Sessions, parse_report
from contract.signatures import SignatureRefusedError, verify_report
from member.core.membership import Membership
from member.engines import reporter as reporter_module
from member.engines.reporter import Reporter
from member.metrics import Metrics
from tests.member.member_harness import build_request, until


@dataclass
class Gateway:
    """Takes reports, or does not."""

    status: int = 204
    hang: bool = False
    bodies: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.text())
        self.types.append(request.content_type)
        if self.hang:
            await asyncio.sleep(3600)
        if self.status in (301, 302):
            return web.Response(status=self.status, headers={"Location": self.url})
        return web.Response(status=self.status, text="" if self.status == 204 else '{"detail": "no such member"}')


@dataclass
class Counted:
    """A member whose every report has the next number."""

    seq: int = 0
    broken: bool = False

    async def report_to(self, membership: Membership) -> CapacityReport:
        if self.broken:
            raise ZeroDivisionError
        self.seq += 1
        request = build_request("repo")
        return CapacityReport(
            member=membership.member,
            boot_id="boot",
            seq=self.seq,
            sent_at=1e9,
            public_url="http://member.example/",
            sessions=Sessions(running=1, limit=10, free=9),
            images=(Image(request.repo, request.commit),),
        )


@dataclass
class Sent:
    """A reporter, and what it talks to."""

    gateway: Gateway
    capacity: Counted
    reporter: Reporter
    key: Ed25519PrivateKey
    metrics: Metrics

    def report(self, n: int) -> CapacityReport:
        """The n-th report that came, its signature checked."""
        return parse_report(verify_report(self.gateway.bodies[n], [self.key.public_key()]))


@contextlib.asynccontextmanager
async def sending(interval_s: float = 0.01, url: str = "") -> AsyncIterator[Sent]:
    gateway, key, metrics, capacity = Gateway(), Ed25519PrivateKey.generate(), Metrics(), Counted()
    app = web.Application()
    app.router.add_post("/api/v1/reports", gateway.take)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/reports"
    try:
        async with aiohttp.ClientSession() as http:
            membership = Membership(
                federation="gateway.example",
                member="member-1",
                issuer="",
                report_url=url or gateway.url,
                keys=(),
                report_key=key,
                interval=interval_s,
            )
            reporter = Reporter(capacity, http, membership=lambda: membership, metrics=metrics)
            yield Sent(gateway, capacity, reporter, key, metrics)
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def running(reporter: Reporter) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(reporter.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_reports_are_signed_numbered_and_readable() -> None:
    async with sending() as sent:
        async with running(sent.reporter):
            await until(lambda: len(sent.gateway.bodies) >= 3)
        assert [sent.report(n).seq for n in range(3)] == [1, 2, 3]
        report = sent.report(0)
        assert (report.member, report.sessions.free) == ("member-1", 9)
        assert report.images == (Image(build_request("repo").repo, build_request("repo").commit),)
        assert set(sent.gateway.types) == {"application/jwt"}
        with pytest.raises(SignatureRefusedError):
            verify_report(sent.gateway.bodies[0], [Ed25519PrivateKey.generate().public_key()])


@pytest.mark.parametrize("fault", ["403", "500", "302", "silence", "nobody", "no-report"])
async def test_whatever_the_gateway_does_reports_go_on(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter_module, "TIMEOUT_S", 0.1)
    url = ""
    if fault == "nobody":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}/api/v1/reports"
    async with sending(url=url) as sent:
        sent.gateway.hang = fault == "silence"
        sent.gateway.status = int(fault) if fault.isdigit() else 204
        sent.capacity.broken = fault == "no-report"
        async with running(sent.reporter) as task:
            failures = lambda: sent.metrics.registry.get_sample_value(  # noqa: E731
                "manybinder_member_report_failures_total"
            )
            await until(lambda: (failures() or 0) >= 2)
            assert not task.done()
            if fault == "nobody":
                return
            sent.gateway.hang, sent.gateway.status, sent.capacity.broken = False, 204, False
            before = len(sent.gateway.bodies)
            await until(lambda: len(sent.gateway.bodies) >= before + 2)
        # What was under way at the end may have been cut off.
        monkeypatch.undo()
        await sent.reporter.send()
        assert sent.report(-1).seq == sent.capacity.seq


async def test_a_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "member.engines.reporter")
    async with sending() as sent:
        for status in (403, 403, 403, 500, 500, 204, 204, 403, 204):
            sent.gateway.status = status
            await sent.reporter.send()
        lines = [record.getMessage() for record in caplog.records if record.name == "member.engines.reporter"]
        assert [line.partition(": ")[2][:8] or "fine" for line in lines] == [
            "HTTP 403",
            "HTTP 500",
            "fine",
            "HTTP 403",
            "fine",
        ]
        assert "no such member" in lines[0]
        assert not any(body in caplog.text for body in sent.gateway.bodies)
