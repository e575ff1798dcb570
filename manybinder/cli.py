"""The command line: reads arguments, hands them on, and turns what comes of it into an exit code."""

import asyncio
import math
import sys
from pathlib import Path
from typing import Any, Literal, NoReturn

import click

from manybinder import stdout
from manybinder.admin_cli import admin
from manybinder.errors import CommandError, Exit, error_line
from manybinder.member_cli import member
from manybinder.options import gateway_option

# Commands import what they run only when they are run: `launch` needs no server's libraries, nor the time to load them.

#: The name under which the program is installed.
PROGRAM = "manybinder"

_CONFIG = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="manybinder", prog_name="manybinder")
def cli() -> None:
    """Many Binders behind one URL.

    Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 cannot reach, 4 refused, 130 interrupted.
    """


cli.add_command(admin)
cli.add_command(member)


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8585, show_default=True, help="Of the gateway.")
@click.option("--members", type=click.IntRange(1, 20), default=2, show_default=True, help="How many.")
@click.option(
    "--gateways",
    type=click.IntRange(1, 10),
    default=1,
    show_default=True,
    help="How many replicas of the gateway, behind one port; several need a Redis server.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".manybinder"),
    show_default=True,
    help="Everything that is kept.",
)
@click.option(
    "--builder",
    type=click.Choice(["process", "container"]),
    help="How members build: with uv, or with repo2docker on Docker or Podman.  [default: process]",
)
@click.option("--member-config", type=_CONFIG, help="YAML that is merged over the settings of each member.")
@click.option("--gateway-config", type=_CONFIG, help="YAML that is merged over the settings of the gateway.")
def up(
    port: int,
    members: int,
    gateways: int,
    data_dir: Path,
    builder: str | None,
    member_config: Path | None,
    gateway_config: Path | None,
) -> Exit:
    """Run a gateway and its members on this machine, until Ctrl-C."""
    from manybinder import up as command

    return command.up(command.Options(port, members, gateways, data_dir, member_config, gateway_config, builder))


@cli.command()
@click.option("--config", type=_CONFIG, help="The gateway's settings (YAML).")
@click.option("--check-config", is_flag=True, help="Check the settings and do nothing else.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the settings and do nothing else.")
@click.pass_context
def gateway(context: click.Context, config: Path | None, check_config: bool, schema: bool) -> Exit:
    """Run a gateway."""
    from manybinder import services

    if schema:
        return services.print_schema("gateway")
    if config is None:
        raise click.UsageError("Missing option '--config'.", context)
    return services.gateway(config, check=check_config)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=_CONFIG)
@click.option(
    "--to",
    "target",
    type=click.Choice(["member", "chart", "gateway"]),
    help="Settings of a member, values of charts/member, or settings of a gateway.  [default: what FILE is like]",
)
@click.option(
    "--secrets",
    metavar="DIR",
    default="",
    help="Where these look for secrets.  [default: /etc/manybinder; of charts/member /etc/manybinder/secrets]",
)
def migrate(files: tuple[Path, ...], target: Literal["member", "chart", "gateway"] | None, secrets: str) -> Exit:
    """Print the settings that do what the configuration of a BinderHub does.

    FILE is a binderhub_config.py, values of BinderHub's Helm chart (several files go over each other, as with Helm), or
    the configuration of mybinder.org's redirector.  Python in them is run, by you and as BinderHub runs it: convert
    only what you trust.  What has no equivalent, or needs a decision, is named on standard error and in comments.
    Secrets are not printed.
    """
    from manybinder.migrate import command

    return command.migrate(files, target, secrets)


@cli.command()
@click.argument("url")
@click.option("--ref", default="", help="Branch, tag or commit.  [default: what the URL names, else the HEAD]")
@click.option("--path", default="", help="File or directory in the repository to open.")
@gateway_option
@click.option("--json", "as_json", is_flag=True, help="Print every event as one line of JSON.")
@click.option("--open", "open_browser", is_flag=True, help="Open the notebook in a browser.")
@click.option("--log", is_flag=True, help="Show the log as it comes, and not only on failure.")
def launch(url: str, ref: str, path: str, gateway: str, as_json: bool, open_browser: bool, log: bool) -> Exit:
    """Launch a repository and print the notebook's URL.

    URL is a repository's address or page at GitHub, GitLab or any Git server, owner/name at GitHub, or a launch link.
    Ctrl-C cancels the launch.
    """
    from manybinder import launch as command

    options = command.Options(url, ref, path, gateway, as_json, open_browser, log)
    return asyncio.run(command.launch(options))


@cli.command()
@gateway_option
@click.option("--watch", is_flag=True, help="Go on, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print every member as one line of JSON.")
def status(gateway: str, watch: bool, as_json: bool) -> Exit:
    """Show the members as the gateway sees them."""
    from manybinder import status as command

    return asyncio.run(command.status(gateway, as_json=as_json, watch=watch))


@cli.command()
@click.argument("url")
@click.option("--ref", default="", help="Branch, tag or commit.")
@gateway_option
@click.option("--json", "as_json", is_flag=True, help="Print the decision as one line of JSON.")
def explain(url: str, ref: str, gateway: str, as_json: bool) -> Exit:
    """Tell which member would take a launch of a repository, why, and why not the others."""
    from manybinder import explain as command

    return asyncio.run(command.explain(gateway, url, ref=ref, as_json=as_json))


def _number(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    # A range lets NaN pass, as it is neither below nor above anything.
    if math.isnan(value):
        raise click.BadParameter("is not a number")
    return value


def _limits(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        limits = tuple(int(item) for item in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers, such as 300,180,60") from error
    if len(limits) > 1000:
        raise click.BadParameter(f"{len(limits)} members are more than the 1000 that can be simulated")
    if not all(1 <= limit <= 1_000_000 for limit in limits):
        raise click.BadParameter("a member has room for at least one session, and for a million at most")
    return limits


@cli.command()
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV, may be gzipped: minute, repo, spec, demo.  [default: launches are generated]",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice(["random", "rendezvous", "tiered"]),
    help="May be repeated.  [default: all]",
)
@click.option(
    "--members",
    "limits",
    metavar="N,N,…",
    default="300,180,60",
    show_default=True,
    callback=_limits,
    help="How many sessions each member has room for.",
)
@click.option(
    "--days",
    type=click.FloatRange(0, 3660, min_open=True),
    callback=_number,
    default=7.0,
    show_default=True,
    help="How much of the trace.",
)
@click.option(
    "--load",
    type=click.FloatRange(0.01, 1000),
    callback=_number,
    default=1.0,
    show_default=True,
    help="How many times as fast launches come.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same one gives the same result.")
@click.option("--outages/--no-outages", default=True, show_default=True, help="Whether members fail now and then.")
@click.option(
    "--registries",
    type=click.Choice(["apart", "shared"]),
    default="apart",
    show_default=True,
    help="Whether members can pull what others have built.",
)
@click.option("--demo", is_flag=True, help="With the trace's demonstrations, which dwarf the rest.")
@click.option("--json", "as_json", is_flag=True, help="Print every policy's results as one line of JSON.")
def simulate(registries: str, **arguments: Any) -> Exit:
    """Compare policies: replay days of launches through the gateway's own decisions, in virtual time."""
    from manybinder import simulate as command

    return command.simulate(command.Options(shared_registry=registries == "shared", **arguments))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> Exit:
    """Print what makes SHELL complete commands and options; docs/command-line.md says where to put it."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, shell  # noqa: S101 - the choices are those that click knows
    click.echo(kind(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
    return Exit.DONE


def main() -> NoReturn:
    """Run the command that the process's arguments name, and exit."""
    sys.exit(_run())


def _run() -> int:
    stdout.prepare()
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except CommandError as error:
        if str(error):
            click.echo(error_line(error), err=True)
        return error.code
    except stdout.CannotWriteError as error:
        click.echo(error_line(f"cannot write to standard output: {error.strerror}"), err=True)
        return Exit.FAILED
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    return int(code or 0)
