"""``/build`` in redirect mode: 307 to a member's own ``/build``; pages stay here."""

import time
from urllib.parse import urlencode, urlsplit

from aiohttp import hdrs, web

from contract.events import Failure, failed
from frontend.admission import Admitted, admit, unknown_launch
from frontend.refusals import Refused
from frontend.tokens import make_build_token, origin_of
from gateway.clients.binderhub import secret_bytes
from gateway.core import sticky
from gateway.core.decision import Decision
from gateway.core.fleet import Member
from gateway.web.parts import PARTS, Parts
from gateway.web.visitors import admitted_to, client_of, visitor_of, wants_build_only

#: Seconds after which who found no member may try again.
RETRY_AFTER = 30.0

#: Not for members: the page's token is this gateway's, and the member is chosen here.
_OWN = frozenset({"build_token", "member"})


async def redirect(request: web.Request) -> web.StreamResponse:
    """Send a visitor to a member."""
    parts = request.app[PARTS]
    try:
        client = client_of(request, parts)
        admitted = _admitted(request, parts)
        # Whether it is enabled there too, the member says.
        wants_build_only(request, parts)
        last = sticky.parse(request.cookies.get(parts.site.member_cookie, ""))
        visitor = visitor_of(request, parts, client, last, admitted.spec.repo)
        limits = await admitted_to(parts, admitted.spec, client, counted=not admitted.with_token)
        member, decision = parts.redirects.choose(admitted.spec, visitor)
        if member is None:
            raise _nobody(decision)
    except Refused as refused:
        return refused.response()
    headers = {hdrs.LOCATION: _location(request, parts, admitted, member), hdrs.CACHE_CONTROL: "no-store", **limits}
    response = web.Response(status=307, headers=headers)
    secure = parts.site.public_url.startswith("https://")
    value = sticky.sent(member.name, admitted.spec.repo).to_text()
    # The launch page notes in it how the launch ended, so its script must see it.
    response.set_cookie(
        parts.site.member_cookie, value, max_age=sticky.LIFETIME, path="/", secure=secure, samesite="Lax"
    )
    return response


def _admitted(request: web.Request, parts: Parts) -> Admitted:
    admitted = admit(request, parts.site, parts.providers, time.time())
    if admitted.resume is not None:
        # Members keep their launches, and nobody here knows which of them has this one.
        raise Refused(unknown_launch(Failure.GATEWAY))
    return admitted


def _nobody(decision: Decision) -> Refused:
    about = "; ".join(f"{item.member} {item.reason}" for item in decision.rejected) or "it has no members"
    message = (
        f"No member of this federation can take the launch now ({about}). "
        f"Please try again in {RETRY_AFTER:.0f} seconds.\n"
    )
    return Refused(failed(Failure.REFUSED, message, retry_after_s=RETRY_AFTER))


def _location(request: web.Request, parts: Parts, admitted: Admitted, member: Member) -> str:
    spec = admitted.spec.raw
    query = [(name, value) for name, value in request.query.items() if name not in _OWN]
    secret = parts.redirects.build_token_secrets.get(member.name)
    if secret and admitted.with_token:
        origin = origin_of(request.headers.get(hdrs.ORIGIN), urlsplit(member.url).netloc)
        # BinderHub reads its secret as hexadecimal, a member of manybinder as it stands.
        key = secret_bytes(secret) if member.kind == "binderhub" else secret
        query.append(("build_token", make_build_token(key, spec, origin, time.time())))
    return f"{member.url}build/{spec}" + (f"?{urlencode(query)}" if query else "")
