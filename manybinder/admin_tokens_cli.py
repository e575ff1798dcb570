"""``manybinder admin tokens``: reads arguments and hands them on."""

import asyncio
from typing import TYPE_CHECKING

import click

from manybinder.errors import Exit

if TYPE_CHECKING:
    from manybinder.admin import Operator


@click.group()
def tokens() -> None:
    """Make tokens for people and scripts, list them, revoke them."""


@tokens.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["operator", "viewer", "member"]), required=True, help="What NAME may do.")
@click.option("--member", default="", help="Of the role member: whose operator NAME is.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "route", "members", "bans", "quotas", "tokens", "state"]),
    help="What of the role the token is for; may be repeated.  [default: all of it]",
)
@click.option(
    "--for", "duration", default="", help="How long it holds, such as 24h.  [default: 90d, or as long as yours]"
)
@click.pass_obj
def create(operator: "Operator", name: str, role: str, member: str, scopes: tuple[str, ...], duration: str) -> Exit:
    """Make a token for NAME, and print it: it is shown this once.

    An operator decides for the federation, a viewer reads, a member's own operator drains and weighs that member.
    """
    from manybinder import admin as command

    given = {"name": name, "role": role, "member": member, "scopes": list(scopes), "for": duration}
    body = {key: value for key, value in given.items() if value}
    return asyncio.run(command.make_token(operator, body))


@tokens.command("list")
@click.pass_obj
def list_(operator: "Operator") -> Exit:
    """Show the tokens that were made here and are not revoked."""
    from manybinder import admin as command

    return asyncio.run(command.show_tokens(operator))


@tokens.command()
@click.argument("token_id", metavar="ID")
@click.pass_obj
def revoke(operator: "Operator", token_id: str) -> Exit:
    """End the token of this ID, as ``list`` shows it, at once and for good."""
    from manybinder import admin as command

    said = f"the token {token_id} is revoked"
    return asyncio.run(command.act(operator, said, "DELETE", "tokens", id=token_id))
