"""``manybinder admin members`` and ``join-token``: reads arguments and hands them on."""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from manybinder.errors import Exit
from manybinder.options import duration_option

if TYPE_CHECKING:
    from manybinder.admin import Operator


@click.group(invoke_without_command=True)
@click.pass_context
def members(context: click.Context) -> Exit | None:
    """Show every member as routing sees it, and what operators have set; or let them come and go."""
    if context.invoked_subcommand is not None:
        return None
    from manybinder import admin as command

    return asyncio.run(command.show_members(context.obj))


@members.command()
@click.argument("member")
@click.option("--wait", is_flag=True, help="Until it holds no sessions and launches.")
@duration_option("--timeout", default="6h", help="How long to wait.")
@click.pass_obj
def drain(operator: "Operator", member: str, wait: bool, timeout: float) -> Exit:
    """Send no more launches to MEMBER; what runs there goes on."""
    from manybinder import admin_members as command

    return asyncio.run(command.drain(operator, member, wait=wait, timeout_s=timeout))


@members.command()
@click.argument("member")
@click.pass_obj
def accept(operator: "Operator", member: str) -> Exit:
    """Let MEMBER, which is pending, take launches, whatever its check has found."""
    return _act(operator, "POST", f"{_path(member)}/accept", f"{member} is accepted")


@members.command()
@click.argument("member")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until the check has ended.")
@duration_option("--timeout", default="30m", help="How long to wait.")
@click.pass_obj
def check(operator: "Operator", member: str, wait: bool, timeout: float) -> Exit:
    """Check MEMBER (again), from its health to a kernel of a session, and say what was found."""
    from manybinder import admin_members as command

    return asyncio.run(command.check(operator, member, wait=wait, timeout_s=timeout))


@members.command()
@click.argument("member")
@click.pass_obj
def remove(operator: "Operator", member: str) -> Exit:
    """Revoke MEMBER, which has joined, at once and whatever it holds; its keys are void for good.

    Drain it first, to lose nobody's session.
    """
    return _act(operator, "DELETE", _path(member), f"{member} is removed")


@click.command("join-token")
@click.argument("name")
@click.option("--hosts", required=True, help="Those that its addresses may name: hub.example.org,*.example.org")
@click.option("--weight", type=float, default=1.0, show_default=True, help="Its size beside the others'.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option("--max-sessions", type=int, help="No more are believed of it, whatever it reports.")
@click.option("--max-images", type=int, help="No more images are believed to be there.")
@click.option(
    "--client-addresses",
    type=click.Choice(["full", "truncated", "hashed", "none"]),
    default="full",
    show_default=True,
    help="What it is told of visitors' addresses.",
)
@click.option("--ttl", default="24h", show_default=True, help="How long the token holds.")
@click.option("--replace", is_flag=True, help="The member of this name is lost: its keys are void once this is used.")
@click.pass_obj
def join_token(
    operator: "Operator",
    name: str,
    hosts: str,
    weight: float,
    labels: tuple[str, ...],
    max_sessions: int | None,
    max_images: int | None,
    client_addresses: str,
    ttl: str,
    replace: bool,
) -> Exit:
    """Make a token with which a member joins under NAME, once, and print it."""
    from manybinder import admin_members as command

    pairs = [label.partition("=") for label in labels]
    if wrong := [f"{key}{equals}{value}" for key, equals, value in pairs if not key or not equals]:
        raise click.BadParameter(f"{wrong[0]!r} is not of the form KEY=VALUE", param_hint="--label")
    body = {
        "name": name,
        "hosts": [host.strip() for host in hosts.split(",") if host.strip()],
        "weight": weight,
        "labels": {key: value for key, _, value in pairs},
        "max_sessions": max_sessions,
        "max_images": max_images,
        "client_addresses": client_addresses,
        "for": ttl,
        "replace": replace,
    }
    return asyncio.run(command.make_join_token(operator, body))


@click.command("join-tokens")
@click.option("--revoke", "token_id", default="", metavar="ID", help="End the join token of this ID.")
@click.pass_obj
def join_tokens(operator: "Operator", token_id: str) -> Exit:
    """Show the join tokens that were made, without their secrets."""
    from manybinder import admin, admin_members

    if token_id:
        said = f"the join token {token_id} is revoked"
        return asyncio.run(admin.act(operator, said, "DELETE", "join-tokens", id=token_id))
    return asyncio.run(admin_members.show_join_tokens(operator))


@click.command()
@click.pass_obj
def alerts(operator: "Operator") -> Exit:
    """Show the alerts that stand: clocks that are off, reports that are refused, join tokens that were used twice."""
    from manybinder import admin_members as command

    return asyncio.run(command.show_alerts(operator))


def _path(member: str) -> str:
    return f"members/{quote(member, safe='')}"


def _act(operator: "Operator", method: str, path: str, said: str) -> Exit:
    from manybinder import admin as command

    return asyncio.run(command.act(operator, said, method, path))
