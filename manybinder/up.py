"""``manybinder up``: a gateway and its members on loopback, under one supervisor."""

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
import yaml

from gateway import processes as gateway_processes
from gateway.settings import GatewaySettings
from manybinder import supervised_member
from manybinder.datadir import DataDir
from manybinder.errors import CommandError, Exit
from manybinder.plan import PORTS, MemberPlan, Plan, RedisPlan, merged
from manybinder.ports import check_port, free_ports
from manybinder.progress import Progress
from manybinder.redis_program import redis_program
from manybinder.services import load
from manybinder.signals import StoppedError, stop_signals, until_told
from manybinder.supervise import Supervisor
from manybinder.terminal import for_people
from member.settings import MemberSettings
from servicekit.processes import ProcessSpec

#: Seconds after which `up` no longer waits for a member that is not healthy.
READY_DEADLINE_S = 120.0

#: Seconds that members are given to say whether they confine.
_REPORT_DEADLINE_S = 10.0

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    port: int
    members: int
    gateways: int
    data_dir: Path
    member_config: Path | None = None
    gateway_config: Path | None = None
    builder: str | None = None
    """What ``builder.kind`` of each member is to be, where its configuration does not say it."""


def up(options: Options) -> Exit:
    """Run until told to end; raises :class:`CommandError`."""
    _check_machine()
    member_changes = _read_changes(options.member_config) if options.member_config else {}
    if options.builder is not None:
        member_changes = merged({"builder": {"kind": options.builder}}, member_changes)
    gateway_changes = _read_changes(options.gateway_config) if options.gateway_config else {}
    data_dir = DataDir.open(options.data_dir)
    try:
        check_port(options.port)
        plan = _plan(options, data_dir, own_redis=options.gateways > 1 and "redis" not in gateway_changes)
        specs = _write_and_load(plan, data_dir, member_changes, gateway_changes)
        return asyncio.run(_run(specs, plan, data_dir))
    finally:
        data_dir.close()


def _check_machine() -> None:
    if sys.platform != "linux":
        raise CommandError("`manybinder up` needs Linux", Exit.USAGE)
    if shutil.which("git") is None:
        raise CommandError("git is missing: install it (on Debian: apt install git)", Exit.USAGE)


def _read_changes(path: Path) -> Mapping[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {getattr(error, 'strerror', error)}", Exit.USAGE) from error
    except (yaml.YAMLError, ValueError) as error:
        raise CommandError(f"{path}: not readable as YAML: {' '.join(str(error).split())}", Exit.USAGE) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise CommandError(f"{path}: expected a mapping of settings, got {type(tree).__name__}", Exit.USAGE)
    return tree


def _plan(options: Options, data_dir: DataDir, *, own_redis: bool) -> Plan:
    ports = free_ports(PORTS * options.members)
    signing_key, launch_key = data_dir.key_pair("gateway")
    members = []
    for number in range(options.members):
        name = f"member-{number + 1}"
        private, public = data_dir.key_pair(name)
        api, proxy, hub, proxy_api = ports[PORTS * number : PORTS * (number + 1)]
        members.append(MemberPlan(name, (api, proxy, hub, proxy_api), private, public))
    secret = data_dir.secret("build-token")
    redis = _redis(data_dir) if own_redis else None
    return Plan(data_dir.path, options.port, signing_key, launch_key, secret, members, options.gateways, redis)


def _redis(data_dir: DataDir) -> RedisPlan:
    place = data_dir.path / "redis"
    place.mkdir(mode=0o700, exist_ok=True)
    (port,) = free_ports(1)
    return RedisPlan(redis_program(), port, data_dir.secret("redis"), place)


def _write_and_load(
    plan: Plan, data_dir: DataDir, member_changes: Mapping[str, Any], gateway_changes: Mapping[str, Any]
) -> list[ProcessSpec]:
    """Write all settings, read them back as the services will, and say what to run."""
    specs = []
    if plan.redis is not None:
        specs.append(plan.redis.process(data_dir.write("redis.conf", plan.redis.settings())))
    before = tuple(spec.name for spec in specs)
    for name in plan.gateways:
        path = data_dir.write(f"{name}.yaml", _yaml(plan.gateway(gateway_changes, name)))
        with _hint("--gateway-config", gateway_changes):
            specs += gateway_processes.processes(load(GatewaySettings, path), path, name, before)
    loaded = []
    for member in plan.members:
        path = data_dir.write(f"{member.name}.yaml", _yaml(plan.member(member, member_changes)))
        with _hint("--member-config", member_changes):
            loaded.append((load(MemberSettings, path), path))
    for settings, path in loaded:
        specs += supervised_member.specs(settings, path)
    return specs


@contextlib.contextmanager
def _hint(option: str, changes: Mapping[str, Any]) -> Iterator[None]:
    """Says of errors in settings that the user's own changes are among these."""
    try:
        yield
    except CommandError as error:
        hint = f"\n(these settings include what {option} says)" if changes else ""
        raise CommandError(f"{error}{hint}", error.code) from error


def _yaml(tree: Mapping[str, Any]) -> str:
    return "# Written by `manybinder up` at each start.\n" + yaml.safe_dump(dict(tree), sort_keys=False)


async def _run(specs: list[ProcessSpec], plan: Plan, data_dir: DataDir) -> Exit:
    progress = Progress(for_people())
    with stop_signals() as signals:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
            Supervisor(specs, progress.on_change, keep_open=[data_dir.lock_fd], urgent=signals.urgent),
        ):
            with contextlib.suppress(StoppedError):
                with progress.starting():
                    await until_told(signals, _until_ready(http, plan, progress))
                # Whoever reads standard output may have gone.
                with contextlib.suppress(OSError):
                    click.echo(f"manybinder is ready at {plan.url}")
                await until_told(signals, _tell_confinement(http, plan, progress))
                await signals.told.wait()
            progress.say("ending …")
    return Exit.INTERRUPTED if signals.first == signal.SIGINT else Exit.DONE


async def _until_ready(http: aiohttp.ClientSession, plan: Plan, progress: Progress) -> None:
    """Wait for the health of all members; after a while, for that of one."""
    deadline = time.monotonic() + READY_DEADLINE_S
    while True:
        members = await _members(http, plan)
        healthy = [member for member in members if member["health"] == "healthy"]
        if len(healthy) == len(plan.members):
            return
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(_POLL_S)
    for member in members:
        if member not in healthy:
            progress.say(f"{member['name']} is {member['health']}: {' '.join(member['reasons'])}")
    if not healthy:
        where = plan.data_dir if members else plan.data_dir / "gateway"
        whose = "no member became healthy" if members else "the gateway does not answer"
        raise CommandError(f"{whose} within {READY_DEADLINE_S:.0f} s; the logs are below {where}")


async def _tell_confinement(http: aiohttp.ClientSession, plan: Plan, progress: Progress) -> None:
    """Say whether what runs of a repository is kept from this machine's files."""
    deadline = time.monotonic() + _REPORT_DEADLINE_S
    while True:
        members = await _members(http, plan)
        if all(member.get("confined") is not None for member in members) or time.monotonic() > deadline:
            break
        await asyncio.sleep(_POLL_S)
    if open_ones := [member["name"] for member in members if member.get("confined") is False]:
        progress.say(
            f"WARNING: {', '.join(open_ones)}: what runs of a repository is NOT confined, and can read your files; "
            "launch only what you trust"
        )
    elif members and all(member.get("confined") for member in members):
        progress.say("What runs of a repository is confined.")
    progress.say("Ctrl-C ends everything.")


async def _members(http: aiohttp.ClientSession, plan: Plan) -> list[dict[str, Any]]:
    try:
        async with http.get(f"{plan.url}/api/v1/federation", raise_for_status=True) as response:
            members = (await response.json())["members"]
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
        return []
    return list(members)
