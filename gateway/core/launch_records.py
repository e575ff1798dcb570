"""A launch as text: what a replica leaves for the others to go on with.

Additive: a field may come and never changes its meaning; what a reader does not know, it passes over.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

from contract.events import Phase, parse_event
from contract.journal import Entry
from contract.json_types import loads_object
from contract.repos import RepoKey
from gateway.core.launch import Launch, Outcome, Trail, Visitor
from providers.base import RepoSpec, Resolved

#: Readers of one version know what the next one writes.
SCHEMA = 1


def dump_launch(launch: Launch) -> bytes:
    """All of a launch but its journal and its id."""
    trail = asdict(launch.trail)
    resolved = launch.trail.resolved
    trail["resolved"] = resolved and {
        "commit": resolved.commit,
        "resolved_spec": resolved.resolved_spec,
        "ref_url": resolved.ref_url,
        "repo_url": resolved.spec.repo_url,
        "repo": resolved.spec.repo,
        "listed": resolved.listed,
    }
    wire = {
        "schema": SCHEMA,
        "spec": launch.spec.raw,
        "created_at": launch.created_at,
        "visitor": {**asdict(launch.visitor), "avoid": sorted(launch.visitor.avoid)},
        "trail": trail,
        "member": launch.member,
        "attempt": launch.attempt,
        "phase": launch.phase,
        "outcome": launch.outcome,
    }
    return json.dumps(wire, separators=(",", ":")).encode()


def load_launch(launch_id: str, body: bytes, parse: Callable[[str], RepoSpec]) -> Launch:
    """A launch of another replica; ``parse`` reads a spec.  Raises ``ValueError`` and what ``parse`` raises."""
    wire = loads_object(body)
    try:
        spec = parse(wire["spec"])
        visitor, trail = wire["visitor"], _trail(wire["trail"], spec)
        return Launch(
            launch_id,
            # As it counts since it was resolved: a redirect may have led to another repository.
            replace(spec, repo=trail.resolved.spec.repo) if trail.resolved else spec,
            float(wire["created_at"]),
            Visitor(**{**_known(Visitor, visitor), "avoid": frozenset(visitor["avoid"])}),
            trail=trail,
            member=wire["member"],
            attempt=int(wire["attempt"]),
            phase=_phase(wire["phase"]),
            outcome=_outcome(wire["outcome"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the record of a launch: {error!r}") from error


def dump_entries(entries: Iterable[Entry]) -> bytes:
    """Some entries of a journal."""
    wire = [[entry.n, entry.follows, entry.event.to_json()] for entry in entries]
    return json.dumps(wire, separators=(",", ":")).encode()


def load_entries(body: bytes) -> list[Entry]:
    """Entries that :func:`dump_entries` has written; raises ``ValueError``."""
    try:
        return [Entry(int(n), parse_event(text), int(follows)) for n, follows, text, *_ in json.loads(body)]
    except TypeError as error:
        raise ValueError(f"not entries of a journal: {error!r}") from error


def _phase(text: str) -> Phase:
    """A phase; one that only a later version knows is none that decides anything here."""
    return Phase(text) if text in set(Phase) else Phase.UNKNOWN


def _outcome(text: str | None) -> Outcome | None:
    return Outcome(text) if text in set(Outcome) else None


def _trail(wire: dict[str, Any], spec: RepoSpec) -> Trail:
    return Trail(
        resolved=wire["resolved"] and _resolved(wire["resolved"], spec),
        attempting=bool(wire["attempting"]),
        heard=int(wire["heard"]),
        tried=tuple(wire["tried"]),
        begun=int(wire["begun"]),
        met=dict(wire["met"]),
    )


def _resolved(wire: dict[str, Any], spec: RepoSpec) -> Resolved:
    # Where the spec has led to; an earlier version does not tell.
    found = replace(spec, repo_url=wire.get("repo_url", spec.repo_url), repo=RepoKey(wire.get("repo", spec.repo)))
    listed = wire.get("listed") is True
    return Resolved(found, wire["commit"], wire["resolved_spec"], wire["ref_url"], listed=listed)


def _known(kind: type[Any], wire: dict[str, Any]) -> dict[str, Any]:
    return {name: wire[name] for name in kind.__dataclass_fields__ if name in wire}
