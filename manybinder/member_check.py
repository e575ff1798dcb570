"""``manybinder member check``: what stands in the way of a BinderHub becoming a member."""

from dataclasses import asdict
from pathlib import Path

import aiohttp
import click

from contract import json_types
from gateway.clients.binderhub import BinderHubClient
from gateway.core.fleet import Member
from gateway.core.origins import origin
from gateway.core.settings import LaunchSettings
from manybinder.errors import CommandError, Exit
from manybinder.terminal import plain

#: Seconds for all questions.
TIMEOUT_S = 30.0

_NAME = "member"


async def check(url: str, *, secret_file: Path | None, public_url: str, as_json: bool) -> Exit:
    """Print what was found; raises :class:`CommandError` for wrong arguments."""
    try:
        origin(url)
        if public_url:
            origin(public_url)
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    secrets = {_NAME: _read(secret_file)} if secret_file else {}
    member = Member(_NAME, url.rstrip("/") + "/", kind="binderhub", origins=(origin(url),))
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        client = BinderHubClient(http, LaunchSettings, secrets, public_url=public_url)
        findings = await client.conformance(member, TIMEOUT_S)
    for finding in findings:
        if as_json:
            click.echo(json_types.dumps(asdict(finding)))
        else:
            click.echo(plain(f"{'✗' if finding.serious else '!'} {finding.what}\n  {finding.advice}"))
    if not findings and not as_json:
        click.echo("Nothing stands in the way.")
    return Exit.FAILED if any(finding.serious for finding in findings) else Exit.DONE


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {getattr(error, 'strerror', error)}", Exit.USAGE) from error
