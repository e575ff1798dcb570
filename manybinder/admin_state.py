"""``manybinder admin export`` and ``import``."""

import json
import os
from pathlib import Path
from typing import Any

import click

from contract import json_types
from manybinder.admin import Operator, ask
from manybinder.errors import CommandError, Exit
from manybinder.terminal import for_people, plain


async def export(operator: Operator, file: Path) -> Exit:
    """Write what the gateway keeps to a file that only its owner can read; raises :class:`CommandError`."""
    state = await ask(operator, "POST", "export")
    write_private(file, json.dumps(state, indent=1, ensure_ascii=False).encode(errors="replace") + b"\n")
    records = state.get("records")
    count = len(records) if isinstance(records, list) else 0
    if operator.as_json:
        click.echo(json_types.dumps({"file": str(file), "records": count, "sha256": state.get("sha256")}))
    else:
        for_people().print(f"{count} records are in {file}")
    return Exit.DONE


async def import_(operator: Operator, file: Path, *, dry_run: bool, trust: bool) -> Exit:
    """Merge a file into what the gateway keeps; raises :class:`CommandError`."""
    state = _read(file)
    flags = {"dry_run": str(dry_run).lower(), "trust": str(trust).lower()}
    answer = await ask(operator, "POST", "import", state, **flags)
    if operator.as_json:
        click.echo(json_types.dumps(answer))
        return Exit.DONE
    people = for_people()
    did = "would be taken" if dry_run else "were taken"
    people.print(f"{answer.get('taken')} of {answer.get('records')} records {did}, {answer.get('same')} say the same")
    conflicts = answer.get("conflicts")
    for item in conflicts if isinstance(conflicts, list) else []:
        people.print(plain(_conflict(item)))
    return Exit.DONE


def _read(file: Path) -> dict[str, Any]:
    try:
        return json_types.loads_object(file.read_bytes())
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}", Exit.USAGE) from error
    except ValueError as error:
        raise CommandError(f"{file}: {error}", Exit.USAGE) from error


def _conflict(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    here, there = ("taken back" if item.get(key) is None else json_types.dumps(item[key]) for key in ("here", "file"))
    kept = "what is here, which is later" if item.get("kept") == "here" else "what the file says, which is later"
    return f"{item.get('name')}: here {here}, in the file {there}; kept: {kept}"


def write_private(file: Path, content: bytes) -> None:
    """Write a file that did not exist, for its owner's eyes only; raises :class:`CommandError`."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}", Exit.USAGE) from error
    with os.fdopen(fd, "wb") as opened:
        opened.write(content)
