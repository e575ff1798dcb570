"""``manybinder member``: reads arguments and hands them on."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manybinder.addresses import base_url
from manybinder.errors import CommandError, Exit
from manybinder.options import duration_option

if TYPE_CHECKING:
    from member.settings import MemberSettings

_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)

#: Where a member that is made from nothing keeps everything.
DEFAULT_DATA_DIR = Path(".manybinder-member")


def _url(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    try:
        return base_url(value) if value else ""
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_config = click.option("--config", type=_FILE, help="The member's settings.  [default: member.yaml in --data-dir]")
_data_dir = click.option(
    "--data-dir",
    type=_DIRECTORY,
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="Of a member that was made by --join.",
)
_token = click.option("--token", default="", help="The join token; others on this machine may see it: better a file.")
_token_file = click.option("--token-file", type=_FILE, help="Holds the join token.")
_federation = click.argument("url", required=False, default="", callback=_url)


@click.group(invoke_without_command=True)
@_config
@click.option("--check-config", is_flag=True, help="Check the settings and do nothing else.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the settings and do nothing else.")
@click.option("--only", type=click.Choice(["api"]), help="Run this process, and not those that belong to it.")
@click.option(
    "--join", "gateway", metavar="URL", default="", callback=_url, help="Join this gateway's federation first."
)
@_token
@_token_file
@click.option(
    "--data-dir",
    type=_DIRECTORY,
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="With --join and without --config: everything that is kept, settings that are made at the first start too.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="With these: where to listen;")
@click.option("--public-url", default="", callback=_url, help="where the gateway reaches the API, if elsewhere;")
@click.option("--hub-public-url", default="", callback=_url, help="where browsers reach the sessions, if elsewhere.")
@click.pass_context
def member(
    context: click.Context,
    config: Path | None,
    check_config: bool,
    schema: bool,
    only: str | None,
    gateway: str,
    token: str,
    token_file: Path | None,
    data_dir: Path,
    host: str,
    public_url: str,
    hub_public_url: str,
) -> Exit:
    """Run a member: its API, and its Hub and proxy where it manages them.

    With --join and a join token from a federation's operator, one command makes a member from nothing: settings, keys,
    registration.  The same command starts it again later.
    """
    if context.invoked_subcommand is not None:
        return Exit.DONE
    from manybinder import services

    if schema:
        return services.print_schema("member")
    if gateway and (check_config or only):
        raise click.UsageError("'--join' runs the whole member; leave out '--check-config' and '--only'.", context)
    if gateway:
        from manybinder import joining

        place = joining.Place(config, data_dir, host, public_url, hub_public_url)
        config = joining.prepare(gateway, token, token_file, place)
    if config is None:
        raise click.UsageError("Missing option '--config' (or '--join', to make a member from nothing).", context)
    return services.member(config, check=check_config, only=only)


@member.command()
@click.argument("url", callback=_url)
@_token
@_token_file
@_config
@_data_dir
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="How much of the member's sessions are for this federation.",
)
def join(url: str, token: str, token_file: Path | None, config: Path | None, data_dir: Path, share: float) -> Exit:
    """Join the federation of the gateway at URL, with a join token from its operator.

    The member need not run; if it does, it reports there within two seconds.
    """
    from manybinder import membership as command

    read = command.read_token(token, token_file)
    return asyncio.run(command.join(_settings(config, data_dir), url, read, share))


@member.command()
@_federation
@_config
@_data_dir
@duration_option("--timeout", default="7d", help="How long to wait for the sessions to end.")
def leave(url: str, config: Path | None, data_dir: Path, timeout: float) -> Exit:
    """Leave the federation of the gateway at URL: take no more launches, wait until nothing runs, and go."""
    from manybinder import membership as command

    return asyncio.run(command.leave(_settings(config, data_dir), url, timeout))


@member.command("rotate-key")
@_federation
@_config
@_data_dir
def rotate_key(url: str, config: Path | None, data_dir: Path) -> Exit:
    """Change the key that signs this member's reports to the gateway at URL, while it runs."""
    from manybinder import membership as command

    return asyncio.run(command.rotate_key(_settings(config, data_dir), url))


@member.command()
@_config
@_data_dir
def drain(config: Path | None, data_dir: Path) -> Exit:
    """Ask all federations for no more launches; what runs goes on."""
    from manybinder import membership as command

    return asyncio.run(command.drain(_settings(config, data_dir), wanted=True))


@member.command()
@_config
@_data_dir
def undrain(config: Path | None, data_dir: Path) -> Exit:
    """Take launches again."""
    from manybinder import membership as command

    return asyncio.run(command.drain(_settings(config, data_dir), wanted=False))


def _settings(config: Path | None, data_dir: Path) -> "MemberSettings":
    from manybinder.new_member import CONFIG
    from manybinder.services import load
    from member.settings import MemberSettings

    path = config or data_dir / CONFIG
    if config is None and not path.exists():
        raise CommandError(f"{path} is not there: name the member's settings (--config), or its --data-dir", Exit.USAGE)
    return load(MemberSettings, path)


@member.command()
@click.argument("url", required=False, default="")
@click.option("--secret-file", type=_FILE, help="Holds the BinderHub's build_token_secret.")
@click.option("--public-url", default="", help="Of the gateway, as its visitors see it.")
@click.option("--json", "as_json", is_flag=True, help="Print every finding as one line of JSON.")
@click.option("--config", type=_FILE, help="In the place of URL: settings of a member in a Kubernetes cluster.")
@click.option("--repo", default="", help="With --config: what to build.  [default: its gateway's, for checks]")
@click.option("--commit", default="", help="With --config: of --repo.")
@click.option(
    "--pool-label",
    default="node.kubernetes.io/instance-type",
    show_default=True,
    help="With --config: nodes with the same value of this label are a pool.",
)
def check(
    url: str,
    secret_file: Path | None,
    public_url: str,
    as_json: bool,
    config: Path | None,
    repo: str,
    commit: str,
    pool_label: str,
) -> Exit:
    """Say what stands in the way of a BinderHub at URL becoming a member.

    Launches nothing.  Run it where the gateway runs: what is refused may depend on the address that asks.

    With --config, in the pod of a member on Kubernetes (or by `helm test`): whether its own checks pass, and whether
    each pool of nodes can build and push an image, and pull it; then a launch up to a kernel, as a visitor's.
    """
    if bool(url) == (config is not None):
        raise click.UsageError("Give either the URL of a BinderHub, or --config.")
    if config is not None:
        from manybinder import cluster_check
        from manybinder.services import load
        from member.settings import MemberSettings

        settings = load(MemberSettings, config)
        return asyncio.run(cluster_check.check(settings, repo=repo, commit=commit, label=pool_label, as_json=as_json))
    from manybinder import member_check as command

    return asyncio.run(command.check(url, secret_file=secret_file, public_url=public_url, as_json=as_json))


@member.command("propose-ban")
@click.option("--config", type=_FILE, required=True, help="The member's settings (YAML).")
@click.option("--kind", type=click.Choice(["spec", "network", "owner"]), required=True, help="What VALUE is.")
@click.option("--reason", default="", help="What was found; for the federation's operators.")
@click.option("--for", "duration", default="", help="How long it should last, such as 24h.  [default: for ever]")
@click.argument("value")
def propose_ban(config: Path, kind: str, reason: str, duration: str, value: str) -> Exit:
    """Propose to ban VALUE, for a detector on a member's machine.

    VALUE is a network (192.0.2.7), an owner or repository (github.com/org), or a regular expression for specs.
    The member reports it for an hour; the federation's operators decide.
    """
    from contract.units import parse_duration
    from manybinder import services

    try:
        for_s = parse_duration(duration) if duration else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from error
    return services.propose_ban(config, kind, value, reason, for_s)
