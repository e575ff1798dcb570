"""Who asks for a launch, from the request."""

from aiohttp import hdrs, web

from contract.events import Failure, failed
from contract.repos import RepoKey
from frontend.refusals import Refused
from gateway.core.launch import Visitor
from gateway.core.launch_events import request_origin
from gateway.core.sticky import LastMember
from gateway.web.parts import Parts


def visitor_of(
    request: web.Request, parts: Parts, client: str, last: LastMember | None = None, repo: RepoKey | None = None
) -> Visitor:
    """The visitor; raises :class:`Refused` for a member that may not be asked for, or does not exist."""
    asked = request.query.get("member", "")
    if asked and not parts.fleet.settings.routing.choose_member:
        message = "This federation chooses the member itself; launch without ?member=.\n"
        raise Refused(failed(Failure.REFUSED, message, status_code=403))
    if asked and parts.fleet.snapshot.get(asked) is None:
        known = ", ".join(view.name for view in parts.fleet.snapshot.members)
        message = f"This federation has no member {asked[:80]!r} (its members: {known or 'none'}).\n"
        raise Refused(failed(Failure.USER, message, status_code=404))
    return Visitor(
        client=client,
        origin=request.headers.get(hdrs.ORIGIN, ""),
        request_origin=request_origin(request.headers.get(hdrs.ORIGIN), request.headers.get("Sec-Fetch-Site")),
        asked=asked,
        sticky=last.sticky() if last else "",
        avoid=last.avoid(repo) if last and repo is not None else frozenset(),
    )
