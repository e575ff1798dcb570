"""``manybinder admin export``, ``import``, ``backup`` and ``restore``: reads arguments and hands them on."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manybinder.errors import Exit

if TYPE_CHECKING:
    from manybinder.admin import Operator

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@click.pass_obj
def export(operator: "Operator", file: Path) -> Exit:
    """Write all that operators have decided to FILE, signed.

    That is members, bans, quotas, weights, the digests of tokens, and the log of acts.
    """
    from manybinder import admin_state as command

    return asyncio.run(command.export(operator, file))


@click.command("import")
@click.argument("file", type=_FILE)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--trust", is_flag=True, help="Take a file that no key of this federation has signed.")
@click.pass_obj
def import_(operator: "Operator", file: Path, dry_run: bool, trust: bool) -> Exit:
    """Merge FILE, an export, into what there is.

    Of two decisions on one thing the later one holds, on whichever side it is: nothing comes back that was revoked.
    """
    from manybinder import admin_state as command

    return asyncio.run(command.import_(operator, file, dry_run=dry_run, trust=trust))


@click.command()
@click.option("--config", type=_FILE, required=True, help="The gateway's settings (YAML).")
@click.option("--archive/--no-archive", default=True, show_default=True, help="With the public archive of launches.")
@click.argument("file", type=_FILE)
@click.pass_obj
def backup(operator: "Operator", config: Path, archive: bool, file: Path) -> Exit:
    """Copy all that a gateway keeps, and its settings with every key and secret, to FILE (a .tar.gz).

    Run it on the gateway's machine; the gateway may go on running.  Whoever has FILE is the gateway: keep it safe.
    """
    from manybinder import backup as command

    return command.backup(config, file, archive=archive, as_json=operator.as_json)


@click.command()
@click.argument("file", type=_FILE)
@click.option(
    "--root", type=click.Path(file_okay=False, path_type=Path), default=Path("/"), help="Below this directory."
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--dry-run", is_flag=True, help="Check FILE, say what would be written, and write nothing.")
@click.pass_obj
def restore(operator: "Operator", file: Path, root: Path, force: bool, dry_run: bool) -> Exit:
    """Put everything that is in FILE, a backup, back to where it was.  The gateway must not be running."""
    from manybinder import backup as command

    return command.restore(file, root, force=force, dry_run=dry_run, as_json=operator.as_json)
