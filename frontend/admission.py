"""From a request for a build to a parsed spec, or to the event that says why not.

The order of the checks and their texts are BinderHub's.
"""

from dataclasses import dataclass

from aiohttp import web

from contract import sse
from contract.bans import spec_ban_text
from contract.events import BuildEvent, Failure, failed
from contract.launches import is_launch_id, parse_event_id
from frontend.refusals import FINAL_N, Refused
from frontend.site import Site
from frontend.tokens import BuildTokenError, check_build_token, origin_of
from providers.base import ProviderError, ProviderUnavailableError, RepoSpec
from providers.registry import Providers, failure_text


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go on.

    ``resume`` is the launch and the number of the last event that a reconnecting client has seen; such a request
    continues that launch and never begins one.  ``client_ip`` is "" where it is not known.
    """

    spec: RepoSpec
    resume: tuple[str, int] | None
    with_token: bool
    client_ip: str


def admit(request: web.Request, site: Site, providers: Providers, now: float, route: str = "build") -> Admitted:
    """Admit a GET of ``/build/<provider>/<spec>`` at ``now`` (Unix time); raises :class:`Refused`.

    Another ``route`` than ``build`` gives a page: only a page of this service may lead there, and its token says so.
    """
    if route != "build":
        return _admit_page(request, site, providers, now, route)
    if not accepts_event_stream(request.headers.getall("Accept", [])):
        raise Refused(failed(Failure.USER, "Missing Accept header: text/event-stream\n", status_code=400))
    resume = resumed(request)
    if resume is not None and resume[1] == FINAL_N:
        raise Refused(None)
    path_spec = raw_spec(request, site, "build")
    # A client that reconnects may do so long after its token has expired; knowing the launch is its authority.
    with_token = resume is None and _check_token(request, site, path_spec, now)
    return Admitted(_parsed(providers, path_spec), resume, with_token, request.remote or "")


def resumed(request: web.Request) -> tuple[str, int] | None:
    """The launch that a client reconnects to, and the last event that it has seen; ``None`` for who begins one.

    A launch id alone asks for all events, for events are counted from 0: the number is -1.
    """
    text = request.headers.get("Last-Event-ID", "")
    return (text, -1) if is_launch_id(text) else parse_event_id(text)


def _admit_page(request: web.Request, site: Site, providers: Providers, now: float, route: str) -> Admitted:
    path_spec = raw_spec(request, site, route)
    if not _check_token(request, site, path_spec, now):
        raise Refused(failed(Failure.REFUSED, "Invalid build token\n", status_code=403))
    return Admitted(_parsed(providers, path_spec), None, True, request.remote or "")


def _parsed(providers: Providers, path_spec: str) -> RepoSpec:
    try:
        spec = providers.parse(path_spec)
    except ProviderError as error:
        raise Refused(failed(Failure.USER, f"{error}\n")) from error
    if providers.bans(spec.raw):
        raise Refused(failed(Failure.REFUSED, spec_ban_text(spec.raw), status_code=403))
    return spec


def accepts_event_stream(accept: list[str]) -> bool:
    """Whether Accept headers name ``text/event-stream`` (RFC 9110, section 12.5.1); a wildcard does not name it."""
    for item in ",".join(accept).split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        if kind == sse.CONTENT_TYPE:
            return not any(parameter.replace(" ", "").rstrip("0.") == "q=" for parameter in parameters)
    return False


def raw_spec(request: web.Request, site: Site, route: str) -> str:
    """The spec in a request's path, with its provider, percent-encoded as it came."""
    prefix = f"{route}/"
    rest = site.route_of(request.rel_url.raw_path) or ""
    return rest.removeprefix(prefix) if rest.startswith(prefix) else ""


def provider_failure(spec: RepoSpec, error: ProviderError, blame: Failure) -> BuildEvent:
    """The event for a ref that was not resolved.

    It is the visitor's failure, unless the provider could not be asked; then it is that of ``blame``, the service that
    asked.
    """
    if isinstance(error, ProviderUnavailableError):
        return failed(blame, failure_text(spec, error) + "\n", retry_after_s=error.retry_after_s)
    return failed(Failure.USER, failure_text(spec, error) + "\n")


def unknown_launch(blame: Failure) -> BuildEvent:
    """The event for a client that reconnects to a launch which this service does not know (any more)."""
    return failed(blame, "This launch is not known here any more. Please start again.\n")


def _check_token(request: web.Request, site: Site, path_spec: str, now: float) -> bool:
    """Whether the request bears a good token; raises :class:`Refused` for a bad one, or where one is missing."""
    token = request.query.get("build_token", "")
    refused = Refused(failed(Failure.REFUSED, "Invalid build token\n", status_code=403))
    if site.require_build_token and (
        not token or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
    ):
        raise refused
    if not token:
        return False
    origin = origin_of(request.headers.get("Origin"), request.headers.get("Host"))
    try:
        check_build_token(token, site.build_token_secret, path_spec, origin, now)
    except BuildTokenError as error:
        raise refused from error
    return True
