"""``manybinder explain``: which member would take a launch, why, and why not the others."""

from typing import Any

import click

from contract import json_types
from frontend.links import LinkError, parse_link
from manybinder import public_api
from manybinder.errors import CommandError, Exit
from manybinder.terminal import plain, print_result, table


async def explain(gateway: str, url: str, *, ref: str, as_json: bool) -> Exit:
    """Print the gateway's decision; raises :class:`CommandError`."""
    try:
        link = parse_link(url, ref)
    except LinkError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    async with public_api.client() as http:
        decision = await public_api.get_object(http, gateway, "api/v1/explain", repo=link.path_spec)
    if as_json:
        click.echo(json_types.dumps(decision))
        return Exit.DONE
    click.echo(plain(str(decision.get("sentence", ""))))
    rows = [*_rows(decision, "candidates"), *_rows(decision, "rejected")]
    if rows:
        click.echo()
        print_result(table(("", "MEMBER", "STANDING", "WHY"), rows))
    return Exit.DONE


def _rows(decision: dict[str, Any], kind: str) -> list[list[str]]:
    items = decision.get(kind)
    rows = []
    for place, item in enumerate(items if isinstance(items, list) else [], 1):
        if isinstance(item, dict):
            place_text = f"{place}." if kind == "candidates" else "no"
            standing = ", ".join(str(item[key]).replace("_", " ") for key in ("standing", "tier") if key in item)
            rows.append([place_text, str(item.get("member")), standing, str(item.get("reason", ""))])
    return rows
