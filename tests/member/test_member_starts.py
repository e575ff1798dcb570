"""How a member starts: the whole application with its settings, what stops it, and the example of its settings."""

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract import sse
from contract.events import Failure, parse_event
from contract.signatures import private_pem, public_pem
from member import joined
from member.admission_settings import RateLimitSettings
from member.app import CannotStartError, make_app
from member.builder_settings import ProcessBuilderSettings
from member.settings import (
    BuildsSettings,
    HookSettings,
    LaunchSettings,
    MemberSettings,
    SessionSettings,
)
from member.web.parts import PARTS
from tests.member.web_harness import SPEC, example, member_settings


def federation(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    key = tmp_path / "gateway.pub.pem"
    key.write_text(public_pem(Ed25519PrivateKey.generate().public_key()))
    tree: dict[str, Any] = {
        "report_url": "http://127.0.0.1:9/api/v1/reports",
        "launch_keys_files": [str(key)],
        "report_key": private_pem(Ed25519PrivateKey.generate()),
        "require_launch_token": True,
    }
    return {"federation": {**tree, **changes}}


async def test_the_whole_application_starts_without_its_hub_and_says_so(tmp_path: Path) -> None:
    app = await make_app(member_settings(tmp_path / "data", **federation(tmp_path)))
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}health") as response:
                assert response.status == 503
                checks = {check["service"]: check["ok"] for check in (await response.json())["checks"]}
                assert checks == {"JupyterHub API": False, "Builder": True}
            async with http.get(f"{url}versions") as response:
                assert response.headers["Access-Control-Allow-Origin"] == "*"
                body = await response.json()
                assert body["builder"] == "process"
                assert body["builder_info"]["repo2docker-version"]
            async with http.get(f"{url}build/{SPEC}", headers={"Accept": sse.CONTENT_TYPE}) as response:
                event = parse_event((await response.text()).partition("data: ")[2])
                assert event.failure == Failure.REFUSED
    finally:
        await runner.cleanup()


async def test_how_far_clocks_may_differ_in_federations_that_were_joined_is_a_setting(tmp_path: Path) -> None:
    url, key = "https://north.example/", Ed25519PrivateKey.generate()
    data_dir = tmp_path / "data"
    joined.keep(data_dir, joined.Joined("north-1", url, f"{url}api/v1/reports", (key.public_key(),), 0.0, key))
    app = await make_app(member_settings(data_dir, joined={"clock_leeway": "30s", "report_interval": "1s"}))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        (membership,) = app[PARTS].federations.memberships
        assert (membership.leeway, membership.interval) == (30, 1)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"launch_keys_files": ["/nowhere/key.pem"]}, r"federation\.launch_keys_files\[0\]: cannot read /nowhere/key"),
        ({"report_key": "no key"}, r"federation\.report_key: not a readable PEM private key"),
    ],
    ids=["no-file", "no-key"],
)
async def test_keys_that_cannot_be_used_are_told_with_their_setting(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(CannotStartError, match=said):
        await make_app(member_settings(tmp_path / "data", **federation(tmp_path, **change)))


async def test_a_hub_that_is_not_managed_needs_a_token(tmp_path: Path) -> None:
    hub = {"url": "http://127.0.0.1:9/", "public_url": "http://127.0.0.1:9/"}
    with pytest.raises(CannotStartError, match=r"hub\.api_token: is missing"):
        await make_app(member_settings(tmp_path, hub=hub))


async def test_sessions_that_are_not_confined_are_for_this_machine_alone(tmp_path: Path) -> None:
    settings = member_settings(tmp_path, listen={"host": "0.0.0.0", "port": 9001}, builder={"confine": "off"})  # noqa: S104
    before = asyncio.all_tasks()
    with pytest.raises(CannotStartError, match=r"listen\.host: 0\.0\.0\.0 can be reached from elsewhere"):
        await make_app(settings)
    assert asyncio.all_tasks() == before


EXAMPLE = Path(__file__).parents[2] / "config" / "member.yaml"


def test_the_example_of_settings_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    plain = example(tmp_path, text)
    assert (plain.name, plain.sessions.limit) == ("member-1", 20)
    assert plain.federation is not None
    assert plain.federation.require_launch_token
    assert plain.hub.managed is not None
    shown = re.sub(r"^(\s*)# ([a-z_]+: [^#\n]*)", r"\1\2", text, flags=re.MULTILINE)
    shown = re.sub(r"^.*access_token_file.*$", "", shown, flags=re.MULTILINE)
    uncommented = example(tmp_path, shown)
    for section in MemberSettings.model_fields.keys() - {"name", "public_url", "data_dir", "security", "federation"}:
        assert getattr(plain, section) == getattr(uncommented, section), section
    assert uncommented.federation is not None
    assert uncommented.federation.report_interval == plain.federation.report_interval
    # Each setting that has a default is shown.
    for section in (
        ProcessBuilderSettings,
        BuildsSettings,
        SessionSettings,
        LaunchSettings,
        HookSettings,
        RateLimitSettings,
    ):
        for name in section.model_fields.keys() - {"cache_dir", "hook"}:
            assert f"{name}: " in text, name
