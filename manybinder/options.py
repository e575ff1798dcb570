"""Options that several commands have."""

import click

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
