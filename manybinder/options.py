"""Options that several commands have."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from contract.units import parse_duration
from manybinder.addresses import DEFAULT_GATEWAY, base_url


def _gateway(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return base_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


#: Which gateway a command asks.
gateway_option = click.option(
    "--gateway",
    metavar="URL",
    default=DEFAULT_GATEWAY,
    envvar="MANYBINDER_GATEWAY",
    show_default=True,
    show_envvar=True,
    callback=_gateway,
    help="The gateway to ask.",
)


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def duration_option(name: str, *, default: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: A002 - as click calls it
    """An option that is a duration such as 30m, and a number of seconds in the command."""
    return click.option(name, default=default, show_default=True, callback=_seconds, help=help)


def json_everywhere(group: click.Group) -> None:
    """Let every command of a group take ``--json`` itself as well; the group's ``obj`` has a field ``as_json``."""

    def turn_on(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            context.obj = replace(context.obj, as_json=True)

    for command in group.commands.values():
        if isinstance(command, click.Group):
            json_everywhere(command)
        text = "Print each thing as one line of JSON."
        command.params.append(click.Option(["--json"], is_flag=True, expose_value=False, callback=turn_on, help=text))
