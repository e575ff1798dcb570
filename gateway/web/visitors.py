"""Who asks for a launch, from the request."""

import time

from aiohttp import hdrs, web

from contract.addresses import client_address
from contract.events import Failure, failed
from contract.repos import RepoKey
from frontend.admission import accepts_event_stream, raw_spec
from frontend.login import LoggedIn
from frontend.refusals import Refused
from gateway.core.launch import Visitor
from gateway.core.launch_events import request_origin
from gateway.core.ports import NotAdmittedError
from gateway.core.sticky import LastMember
from gateway.web.parts import Parts
from providers.base import RepoSpec

_BUILD_ONLY = (
    "Building but not launching is not permitted by this federation: its operators have not set launch.build_only.\n"
)


def wants_build_only(request: web.Request, parts: Parts) -> bool:
    """Whether a request wants an image and no session; raises :class:`Refused` where that is not enabled."""
    if request.query.get("build_only", "").lower() != "true":
        return False
    if not parts.fleet.settings.launch.build_only:
        raise Refused(failed(Failure.USER, _BUILD_ONLY, status_code=400))
    return True


def client_of(request: web.Request, parts: Parts) -> str:
    """The visitor's address; "" where it is not known.  Raises :class:`Refused` for one that is banned."""
    forwarded = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
    client = client_address(request.remote or "", forwarded, parts.trusted_proxies)
    try:
        parts.admission.check_client(client)
    except NotAdmittedError as error:
        raise not_admitted(error) from error
    return client


async def person_of(request: web.Request, parts: Parts, route: str) -> LoggedIn | None:
    """Who has logged in and begins a launch; ``None`` where nobody logs in, or for a stream that is none.

    Raises :class:`Refused` for who has not logged in.
    """
    if parts.login is None:
        return None
    if route == "build" and not accepts_event_stream(request.headers.getall(hdrs.ACCEPT, [])):
        # That is told first.
        return None
    return await parts.login.launcher(request, raw_spec(request, parts.site, route), Failure.GATEWAY)


async def admitted_to(parts: Parts, spec: RepoSpec, client: str, *, counted: bool) -> dict[str, str]:
    """Admit a launch by the federation's rules; ``counted``: by its rates too.  Returns headers for the answer.

    Raises :class:`Refused`.
    """
    try:
        limit = await parts.admission.take(client) if counted else None
        parts.admission.check(spec, client)
    except NotAdmittedError as error:
        raise not_admitted(error) from error
    if limit is None:
        return {}
    values = {"limit": limit.limit, "remaining": limit.left, "reset": round(time.time() + limit.full_in)}
    return {f"X-RateLimit-{name.title()}": str(value) for name, value in values.items()}


def not_admitted(error: NotAdmittedError) -> Refused:
    """The answer to a launch that the rules do not admit."""
    fields = {} if error.retry_after_s is None else {"retry_after_s": error.retry_after_s}
    return Refused(failed(Failure.REFUSED, str(error), status_code=error.status, **fields))


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
