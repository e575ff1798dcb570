"""``manybinder member check``: what is in the way of a BinderHub, from the command line."""

import asyncio
import json
import sys
from pathlib import Path

from tests.fakes.binderhub import SECRET, FakeBinderHub


async def check(*arguments: str | Path) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error of a check."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "manybinder",
        "member",
        "check",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, errors = await process.communicate()
    assert b"Traceback" not in errors
    return process.returncode, out.decode(), errors.decode()


async def test_a_binderhub_that_can_be_a_member(tmp_path: Path) -> None:
    hub = await FakeBinderHub().start()
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    hub.knobs.badge_base_url = "https://binder.example/"
    code, out, _ = await check(hub.url, "--secret-file", tmp_path / "secret", "--public-url", "https://binder.example/")
    await hub.stop()
    assert (code, out) == (0, "Nothing stands in the way.\n")
    assert hub.builds == []


async def test_what_is_in_the_way_is_told_with_what_to_do(tmp_path: Path) -> None:
    hub = await FakeBinderHub().start()
    hub.knobs.ban = "the gateway"
    code, out, _ = await check(hub.url)
    assert code == 1
    assert "refuses requests from this gateway's address" in out
    assert "ban_networks" in out
    code, out, _ = await check(hub.url, "--json")
    await hub.stop()
    findings = [json.loads(line) for line in out.splitlines()]
    assert {"what", "serious", "advice"} == set(findings[0])
    code, out, _ = await check(hub.url)
    assert code == 1
    assert "could not be reached" in out


async def test_wrong_arguments(tmp_path: Path) -> None:
    for arguments in (["ftp://x"], ["http://x/", "--public-url", "x"], ["http://x/", "--secret-file", tmp_path / "no"]):
        code, out, errors = await check(*arguments)
        assert (code, out) == (2, "")
        assert errors
