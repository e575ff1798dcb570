"""``manybinder member check --config``: whether a member in a cluster works, and each pool of its nodes.

What only a gateway can see of a member (its reports, its clock, orders that are signed) is checked when it joins.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from urllib.parse import quote

import aiohttp
import click

from contract import json_types
from contract.events import FEDERATION_ONLY, BuildEvent, Phase
from gateway.clients.notebooks import Notebook, NotebookError
from gateway.core import canary
from manybinder import public_api
from manybinder.build_stream import BuildStream
from manybinder.errors import CommandError, Exit
from manybinder.terminal import plain
from member import joined
from member.builders.kubernetes.pool_check import Finding, PoolCheck
from member.clients.kubernetes import KubernetesError
from member.core.membership import issuer_of
from member.settings import MemberSettings
from servicekit.streams import read_up_to

#: Seconds for the member's own checks, and bytes of their answer.
_TIMEOUT_S = 15.0
_MOST_BYTES = 64 * 1024

_FEDERATION_ONLY = "only its federation launches here; `manybinder admin members check NAME` has the gateway do it"


async def check(settings: MemberSettings, *, repo: str, commit: str, label: str, as_json: bool) -> Exit:
    """Print what is found, as it is found; raises :class:`CommandError`."""
    if settings.builder.kind != "kubernetes":
        raise CommandError(
            "--config: is for members with builder.kind kubernetes; give a URL for any other", Exit.USAGE
        )
    repo = repo or _canary(settings)
    commit = commit or (canary.repository()[0] if repo.endswith(f"/{canary.PATH}") else "")
    if not commit:
        raise CommandError("give the commit of --repo that is to be built (--commit)", Exit.USAGE)
    good = True
    try:
        async for finding in _findings(settings, repo, commit, label):
            good &= finding.ok
            if as_json:
                click.echo(json_types.dumps(asdict(finding)))
            else:
                click.echo(plain(f"{'✓' if finding.ok else '✗'} {finding.what}: {finding.words}"))
    except KubernetesError as error:
        raise CommandError(str(error), Exit.UNREACHABLE) from error
    return Exit.DONE if good else Exit.FAILED


def _canary(settings: MemberSettings) -> str:
    """The repository that a gateway of this member's has for checks."""
    issuers = [issuer_of(item.report_url) for _, item in settings.all_federations]
    issuers += [item.issuer for item in joined.read_all(settings.data_dir)]
    if not issuers:
        raise CommandError(
            "this member belongs to no federation, whose gateway would have a repository for checks: give one (--repo)",
            Exit.USAGE,
        )
    return f"{issuers[0]}{canary.PATH}"


async def _findings(settings: MemberSettings, repo: str, commit: str, label: str) -> AsyncIterator[Finding]:
    async for finding in _own_checks(settings.public_url):
        yield finding
    async for finding in PoolCheck(settings, label=label, repo_url=repo, commit=commit).run():
        yield finding
    async for finding in _launched(settings, repo, commit):
        yield finding


async def _launched(settings: MemberSettings, repo: str, commit: str) -> AsyncIterator[Finding]:
    """A launch as a visitor's, through the Hub, up to a kernel: what a gateway's check does, without the gateway."""
    if settings.auth_enabled:
        yield Finding("launch", True, "not tried: visitors log in, and nobody does for a check")
        return
    async with public_api.client() as http:
        try:
            ready = await _ready(BuildStream(http, settings.public_url, f"git/{quote(repo, safe='')}/{commit}"))
        except CommandError as error:
            yield Finding("launch", False, str(error))
            return
        if ready.fields.get("reason") == FEDERATION_ONLY:
            yield Finding("launch", True, f"not tried: {_FEDERATION_ONLY}")
            return
        url = str(ready.fields.get("url") or "")
        if ready.phase is not Phase.READY or not url:
            yield Finding("launch", False, ready.message.strip() or "it ended, and nobody said why")
            return
        yield Finding("launch", True, f"{repo} became a session at {url}")
        notebook = Notebook(http, f"{url.rstrip('/')}/", str(ready.fields.get("token") or ""))
        try:
            yield Finding("session", True, f"it can be used by {await notebook.open()}")
            await notebook.compute()
            yield Finding("websocket", True, "a kernel computes, through its websocket")
        except NotebookError as error:
            yield Finding("session", False, f"it {error}")
        finally:
            await notebook.end()


async def _ready(stream: BuildStream) -> BuildEvent:
    """The last event of a launch."""
    async with aclosing(stream.events()) as events:
        async for item in events:
            if item.is_final:
                return item
    raise CommandError("it ended without saying how it did")


async def _own_checks(url: str) -> AsyncIterator[Finding]:
    """What the member says of itself, at its public address."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as http,
            http.get(f"{url}health") as response,
        ):
            checks = json_types.loads_object(await read_up_to(response.content, _MOST_BYTES))["checks"]
            found = [(str(item["service"]), bool(item["ok"]), str(item["message"])) for item in checks]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
        yield Finding("health", False, f"{url}health cannot be asked from here: {error or 'no answer in time'}")
        return
    for service, ok, message in found:
        yield Finding(service, ok, message or "works")
