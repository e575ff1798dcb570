"""Containers' logs, as a kubelet serves them."""

import asyncio
import datetime
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Log:
    """What a container has written: nanoseconds since the epoch, and the line without its end."""

    lines: list[tuple[int, bytes]] = field(default_factory=list)
    ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass
class Logs:
    """By the pod's uid."""

    by_uid: dict[str, Log] = field(default_factory=dict)

    # Faults.
    cut_after: list[int] = field(default_factory=list)
    """The next streams are cut after so many lines."""
    end_after: list[int] = field(default_factory=list)
    """The next streams end in order after so many lines, though the container runs on."""
    slow_s: float = 0.0
    """Before each line."""

    def of(self, uid: str) -> Log:
        """A pod's log."""
        return self.by_uid.setdefault(uid, Log())

    def write(self, uid: str, *lines: str, at_ns: int | None = None) -> None:
        """Add lines; they have one time if it is given, as lines of one moment have."""
        log = self.of(uid)
        for line in lines:
            moment = at_ns if at_ns is not None else int(datetime.datetime.now(datetime.UTC).timestamp() * 1e9)
            log.lines.append((moment, line.encode(errors="surrogateescape")))
        log._tell()

    def end(self, uid: str) -> None:
        """The container has ended."""
        self.of(uid).ended = True
        self.of(uid)._tell()

    async def serve(self, request: web.Request, uid: str) -> web.StreamResponse:
        """Answer a request for a log."""
        query = request.query
        follow, stamped = query.get("follow") == "true", query.get("timestamps") == "true"
        log = self.of(uid)
        at = _since(log, query.get("sinceTime", ""))
        if tail := query.get("tailLines"):
            at = max(at, len(log.lines) - int(tail))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        cut = self.cut_after.pop(0) if self.cut_after else None
        end = self.end_after.pop(0) if self.end_after and cut is None else None
        sent = 0
        while True:
            changed = log.changed
            while at < len(log.lines):
                if cut is not None and sent >= cut:
                    # In the middle of a line, as connections break.
                    await response.write(b"2026-")
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                if end is not None and sent >= end:
                    return response
                moment, line = log.lines[at]
                await response.write((f"{_stamp(moment)} ".encode() if stamped else b"") + line + b"\n")
                at, sent = at + 1, sent + 1
                if self.slow_s:
                    await asyncio.sleep(self.slow_s)
            if not follow or log.ended:
                return response
            await changed.wait()


def _since(log: Log, since: str) -> int:
    """The first line to be sent; the apiserver hands the time on in whole seconds."""
    if not since:
        return 0
    second = int(datetime.datetime.fromisoformat(since).timestamp()) * 10**9
    return next((n for n, (moment, _) in enumerate(log.lines) if moment >= second), len(log.lines))


def _stamp(moment_ns: int) -> str:
    second = datetime.datetime.fromtimestamp(moment_ns // 10**9, datetime.UTC)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{moment_ns % 10**9:09d}Z"
