"""The ``admin`` commands: reads arguments and hands them on."""

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manybinder.admin_members_cli import alerts, join_token, join_tokens, members
from manybinder.admin_state_cli import backup, export, import_, restore
from manybinder.admin_tokens_cli import tokens
from manybinder.errors import Exit
from manybinder.options import gateway_option, options_everywhere

if TYPE_CHECKING:
    from manybinder.admin import Operator

# As in the command line itself: what runs is imported once it runs.


@click.group()
@gateway_option
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="MANYBINDER_ADMIN_TOKEN_FILE",
    show_envvar=True,
    help="Holds an operator's token.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each thing as one line of JSON.")
@click.pass_context
def admin(context: click.Context, gateway: str, token_file: Path | None, as_json: bool) -> None:
    """Decide for a federation: members, bans, quotas, notes, tokens.

    The gateway's configuration names its first operators (admin.tokens); these make tokens for others.  Each act is in
    force at all replicas within two seconds, outlives every restart, and stands in the log.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 cannot reach, 4 refused (a wrong token, or one of another role).
    """
    from manybinder.admin import Operator

    context.obj = Operator(gateway, token_file, as_json)


for command in (members, join_token, join_tokens, alerts, tokens, export, import_, backup, restore):
    admin.add_command(command)


@admin.command()
@click.pass_obj
def whoami(operator: "Operator") -> Exit:
    """Show as whom one is known, and what one may do."""
    from manybinder import admin as command

    return asyncio.run(command.show_whoami(operator))


@admin.command()
@click.argument("member")
@click.pass_obj
def drain(operator: "Operator", member: str) -> Exit:
    """Send no more launches to MEMBER; what runs there goes on."""
    return _policy(operator, member, "draining")


@admin.command()
@click.argument("member")
@click.pass_obj
def undrain(operator: "Operator", member: str) -> Exit:
    """Let MEMBER take launches again; a suspension ends with ``activate`` only."""
    return _policy(operator, member, "active", before="draining")


@admin.command()
@click.argument("member")
@click.argument("weight")
@click.pass_obj
def weight(operator: "Operator", member: str, weight: str) -> Exit:
    """Set MEMBER's size beside the others' to WEIGHT, on top of its free capacity.

    WEIGHT is a number; 0 = no launches; "registered" = as it is registered.
    """
    from urllib.parse import quote

    from manybinder import admin as command

    path = f"members/{quote(member, safe='')}/weight"
    if weight == "registered":
        return asyncio.run(command.act(operator, f"{member} has its registered weight", "DELETE", path))
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise click.BadParameter(f"{weight!r} is no number, nor registered", param_hint="WEIGHT")
    return asyncio.run(command.act(operator, f"{member} has the weight {number:g}", "PUT", path, {"weight": number}))


@admin.command()
@click.argument("member")
@click.pass_obj
def suspend(operator: "Operator", member: str) -> Exit:
    """Take MEMBER out of the federation until further notice; its own operator cannot undo that."""
    return _policy(operator, member, "suspended")


@admin.command()
@click.argument("member")
@click.pass_obj
def activate(operator: "Operator", member: str) -> Exit:
    """End the suspension of MEMBER."""
    return _policy(operator, member, "active")


@admin.command()
@click.option("--kind", type=click.Choice(["network", "owner", "spec"]), required=True, help="What VALUE is.")
@click.option("--reason", default="", help="For other operators; visitors are not told.")
@click.option("--for", "duration", default="", help="Such as 24h.  [default: for ever]")
@click.option("--proposal", default="", help="The name of a member's proposal that this answers.")
@click.argument("value")
@click.pass_obj
def ban(operator: "Operator", kind: str, reason: str, duration: str, proposal: str, value: str) -> Exit:
    """Ban VALUE, and end the launches and sessions that it hits.

    VALUE is a network (192.0.2.0/24), an owner or repository (github.com/org), or a regular expression for specs.
    """
    from manybinder import admin as command

    given = {"kind": kind, "value": value, "reason": reason, "for": duration or None, "proposal": proposal or None}
    body = {name: item for name, item in given.items() if item is not None}
    return asyncio.run(command.act(operator, f"{value} is banned", "PUT", "bans", body))


@admin.command()
@click.argument("name")
@click.pass_obj
def unban(operator: "Operator", name: str) -> Exit:
    """Lift the ban of this NAME, as ``bans`` shows it."""
    from manybinder import admin as command

    return asyncio.run(command.act(operator, f"the ban {name} is lifted", "DELETE", "bans", name=name))


@admin.command()
@click.argument("name")
@click.pass_obj
def dismiss(operator: "Operator", name: str) -> Exit:
    """Dismiss the proposal of this NAME, as ``bans`` shows it."""
    from manybinder import admin as command

    return asyncio.run(command.act(operator, f"the proposal {name} is dismissed", "DELETE", "proposals", name=name))


@admin.command()
@click.pass_obj
def bans(operator: "Operator") -> Exit:
    """Show the bans in force, and what members propose."""
    from manybinder import admin as command

    return asyncio.run(command.show_bans(operator))


@admin.command()
@click.argument("name")
@click.argument("limit")
@click.pass_obj
def quota(operator: "Operator", name: str, limit: str) -> Exit:
    """Set the quota NAME to LIMIT sessions.

    NAME is total, per_repo, or a repository or owner (github.com/org).  LIMIT is a number, "none", or "configured" to
    go by the configuration again.
    """
    from manybinder import admin as command

    if limit == "configured":
        said = f"the quota {name} is as configured"
        return asyncio.run(command.act(operator, said, "DELETE", "quotas", name=name))
    if limit != "none" and not (limit.isascii() and limit.isdigit() and len(limit) <= 10):
        raise click.BadParameter(f"{limit!r} is no number, none or configured", param_hint="LIMIT")
    body = {"name": name, "limit": None if limit == "none" else int(limit)}
    return asyncio.run(command.act(operator, f"the quota {name} is {limit}", "PUT", "quotas", body))


@admin.command()
@click.pass_obj
def quotas(operator: "Operator") -> Exit:
    """Show the quotas as of now."""
    from manybinder import admin as command

    return asyncio.run(command.show_quotas(operator))


@admin.command()
@click.argument("text")
@click.option("--member", default="", help="Whom it is about.  [default: the federation]")
@click.pass_obj
def note(operator: "Operator", text: str, member: str) -> Exit:
    """Say TEXT to visitors, on the status page and in its feed."""
    from manybinder import admin as command

    body = {"text": text, **({"member": member} if member else {})}
    return asyncio.run(command.act(operator, "visitors see it on the status page", "POST", "notes", body))


@admin.command()
@click.option("--remove", "note_id", default="", metavar="ID", help="Take the note of this ID back.")
@click.pass_obj
def notes(operator: "Operator", note_id: str) -> Exit:
    """Show what is said to visitors on the status page."""
    from manybinder import admin as command

    if note_id:
        return asyncio.run(command.act(operator, f"the note {note_id} is taken back", "DELETE", "notes", id=note_id))
    return asyncio.run(command.show_notes(operator))


@admin.command()
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["act", "decision", "transition"]),
    help="May be repeated.  [default: all]",
)
@click.option("--member", default="", help="What is about this member.")
@click.option("--repo", default="", help="What is about this repository, or all of an owner (github.com/org).")
@click.option("--who", default="", help="What this operator has done.")
@click.option("--since", default="", help="Such as 2h, or a Unix time.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="So many at most.")
@click.pass_obj
def log(operator: "Operator", kinds: tuple[str, ...], member: str, repo: str, who: str, since: str, limit: int) -> Exit:
    """Show what was decided, what changed and who did what, newest first."""
    from manybinder import admin as command

    query = {"kind": ",".join(kinds), "member": member, "repo": repo, "who": who, "since": since}
    return asyncio.run(command.show_log(operator, limit=str(limit), **query))


def _policy(operator: "Operator", member: str, policy: str, before: str = "") -> Exit:
    from urllib.parse import quote

    from manybinder import admin as command

    path = f"members/{quote(member, safe='')}/policy"
    body = {"policy": policy, **({"from": before} if before else {})}
    return asyncio.run(command.act(operator, f"{member} is {policy}", "PUT", path, body))


# Last, when every command of the group is known.
options_everywhere(admin)
