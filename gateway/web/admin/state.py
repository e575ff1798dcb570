"""Export and import of all that operators have decided."""

import time

from aiohttp import hdrs, web

from contract.json_types import loads_object
from gateway.core.operators import SCOPES, Role
from gateway.core.state_file import Conflict, StateFileError, merging, read_state, state_wire
from gateway.web.admin.asked import Asked, answer, shown
from servicekit.problems import Problem

#: Bytes of a file that is imported, at most.
MOST = 256 * 1024 * 1024

#: Conflicts that are told.
SHOWN = 500


async def export(asked: Asked) -> web.Response:
    """All records, tombstones among them, signed; with the digests of tokens, and no other secrets."""
    parts = asked.parts
    await parts.records.sync()
    await asked.write(detail="has exported all that is kept")
    wire = state_wire(parts.records.book, parts.keys, time.time(), parts.site.public_url, parts.site.version)
    response = answer(wire)
    response.headers[hdrs.CONTENT_DISPOSITION] = 'attachment; filename="manybinder-state.json"'
    response.enable_compression()
    return response


async def take(asked: Asked) -> web.Response:
    """Merge an export into what there is: ``?dry_run=true``, ``?trust=true`` for one that others have signed."""
    parts = asked.parts
    dry_run, trust = (_flag(asked, name) for name in ("dry_run", "trust"))
    try:
        wire = loads_object(await asked.request.clone(client_max_size=MOST).read())
        state = read_state(wire, parts.keys, time.time())
    except StateFileError as error:
        field, _, problem = str(error).partition(": ")
        raise Problem(422, "Unprocessable Content", f"{field}: {problem}", field=field) from error
    except ValueError as error:
        raise Problem(400, "Bad Request", f"The body must be a JSON object: {error}.") from error
    if not state.ours and not trust:
        detail = "signature: no key of this federation has signed this file; import it all the same with trust=true."
        raise Problem(409, "Not Ours", detail, field="signature")
    if not state.ours and asked.operator.may != SCOPES[Role.OPERATOR]:
        # Whoever writes such a file could give themselves any token.
        await asked.refused("A file that this federation has not signed needs an operator with all scopes.")
    await parts.records.sync()
    found = merging(parts.records.book, state.records)
    if not dry_run:
        summary = f"has imported {len(found.taken)} of {len(state.records)} records, {len(found.conflicts)} in conflict"
        await asked.write(merged=found.taken, detail=summary)
    return answer(
        {
            "dry_run": dry_run,
            "signed_here": state.ours,
            "made_at": state.made_at,
            "records": len(state.records),
            "taken": len(found.taken),
            "new": found.new,
            "same": found.same,
            "conflicts": [_conflict(item) for item in found.conflicts[:SHOWN]],
            "conflicts_in_all": len(found.conflicts),
        }
    )


def _conflict(item: Conflict) -> dict[str, object]:
    return {"name": item.name, "kept": item.kept, "here": shown(item.here), "file": shown(item.file)}


def _flag(asked: Asked, name: str) -> bool:
    given = asked.request.query.get(name, "false")
    if given not in ("true", "false"):
        raise Problem(422, "Unprocessable Content", f"{name}: must be true or false", field=name)
    return given == "true"
