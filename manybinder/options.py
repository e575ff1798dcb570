"""Options that several commands have."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource

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


def options_everywhere(group: click.Group) -> None:
    """Let every command of a group take the group's own options as well: each a field of the group's ``obj``."""
    _add(group, [_again(option) for option in group.params if isinstance(option, click.Option)])


def _add(group: click.Group, options: Sequence[click.Option]) -> None:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            _add(command, options)
        command.params.extend(options)


def _again(option: click.Option) -> click.Option:
    """The same option, which sets its field where it is given, and else leaves that to the group."""

    def set_field(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        name = str(parameter.name)
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            checked = option.callback(context, parameter, value) if option.callback else value
            context.obj = replace(context.obj, **{name: checked})

    again = copy(option)
    again.expose_value, again.callback = False, set_field
    return again
