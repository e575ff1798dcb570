"""``manybinder gateway`` and ``manybinder member``: one service from its configuration file."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from pydantic import BaseModel

from manybinder.errors import CommandError, Exit
from servicekit import config

# What runs is imported once the settings are good: a check takes less time, and a gateway loads nothing of a member.

if TYPE_CHECKING:
    from member.settings import MemberSettings

M = TypeVar("M", bound=BaseModel)


def gateway(path: Path, *, check: bool) -> Exit:
    """Run a gateway; raises :class:`CommandError`."""
    from gateway.settings import GatewaySettings

    settings = load(GatewaySettings, path)
    if not check:
        from gateway import app

        _serve(lambda: app.run(settings, path.absolute()), app.CannotStartError)
    return Exit.DONE


def member(path: Path, *, check: bool, only: str | None) -> Exit:
    """Run a member with all its processes, or one of these; raises :class:`CommandError`."""
    from member.settings import MemberSettings

    settings = load(MemberSettings, path)
    if check:
        _check_here(settings, path)
        return Exit.DONE
    if only == "api":
        from member import app

        _serve(lambda: app.run(settings), app.CannotStartError)
        return Exit.DONE
    from manybinder import supervised_member

    return supervised_member.run(settings, path.absolute())


def _check_here(settings: "MemberSettings", path: Path) -> None:
    """Look at this machine for what the settings want of it, before the member does; raises :class:`CommandError`."""
    from manybinder.terminal import plain
    from member.builders.choice import kind_of
    from member.engines.hook import Hook

    problems: list[str] = []
    warnings: Sequence[str] = ()
    try:
        Hook(settings.launch.hook)
    except ValueError as error:
        problems.append(str(error))
    try:
        warnings = kind_of(settings).look(settings)
    except (RuntimeError, OSError) as error:
        problems.append(str(error))
    for warning in warnings:
        click.echo(plain(f"manybinder: {path}: warning: {warning}"), err=True)
    if problems:
        raise CommandError(str(config.ConfigError(str(path), problems)), Exit.USAGE)


def print_schema(service: str) -> Exit:
    """Print the JSON Schema of the settings of ``gateway`` or ``member``."""
    from gateway.settings import GatewaySettings
    from member.settings import MemberSettings
    from servicekit.schema import settings_schema

    model = GatewaySettings if service == "gateway" else MemberSettings
    click.echo(json.dumps(settings_schema(model, f"Settings of a manybinder {service}"), indent=2))
    return Exit.DONE


def propose_ban(path: Path, kind: str, value: str, reason: str, for_s: float | None) -> Exit:
    """Propose a ban to the federation of a member; raises :class:`CommandError`."""
    from contract.bans import BanError, make_ban
    from member.ban_proposals import propose
    from member.settings import MemberSettings

    settings = load(MemberSettings, path)
    try:
        propose(settings.data_dir, make_ban(kind, value, reason, None if for_s is None else time.time() + for_s))
    except BanError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    except OSError as error:
        raise CommandError(f"cannot write below {settings.data_dir}: {error.strerror}", Exit.FAILED) from error
    return Exit.DONE


def load(model: type[M], path: Path) -> M:
    """Read settings; raises :class:`CommandError` with all that is wrong with them."""
    try:
        return config.load(model, path)
    except config.ConfigError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def _serve(run: Callable[[], None], *refusals: type[Exception]) -> None:
    from servicekit.serving import CannotListenError

    expected: tuple[type[Exception], ...] = (CannotListenError, *refusals)
    try:
        run()
    except expected as error:
        raise CommandError(str(error), Exit.USAGE) from error
