"""``manybinder migrate``: a BinderHub's configuration in, settings of ours out."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import click

from manybinder.errors import Exit
from manybinder.migrate.assemble import assemble
from manybinder.migrate.draft import Target
from manybinder.migrate.reading import Source, read
from manybinder.migrate.writing import report_lines, settings_text

#: Where each target's settings look for secrets.
_SECRETS = {"member": "/etc/manybinder", "gateway": "/etc/manybinder", "chart": "/etc/manybinder/secrets"}


def migrate(files: Sequence[Path], target: Target | None, secrets: str) -> Exit:
    """Print the settings, and on standard error what is left to do; raises :class:`CommandError`."""
    source = read(files)
    chosen = target or _usual(source)
    draft = assemble(source, chosen, PurePosixPath(secrets or _SECRETS[chosen]))
    click.echo(settings_text(draft, source.names), nl=False)
    for line in report_lines(draft):
        click.echo(line, err=True)
    return Exit.DONE


def _usual(source: Source) -> Target:
    if source.values is not None:
        return "chart"
    return "gateway" if source.redirector is not None else "member"
