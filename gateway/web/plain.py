"""Launches of visitors without JavaScript: a page that refreshes itself, and leads to the session.

The launch page names this one, with its build token.  A browser sends no Origin when it goes to another page, so that
a token which another site has fetched for itself would do: where links elsewhere are confirmed, this one is, too.

The page's address bears a launch's short id, for addresses are logged; a cookie, for this page alone, holds the whole.
"""

import re
import time
from dataclasses import replace
from urllib.parse import urlencode

from aiohttp import web

from contract.events import BuildEvent, Failure, Phase, failed
from contract.launches import short
from contract.sentences import said
from frontend.admission import admit, unknown_launch
from frontend.launch_page import comes_from_elsewhere, label_of, ref_of
from frontend.login import check_intent
from frontend.notebook_url import notebook_url
from frontend.pages import PAGES
from frontend.refusals import Refused
from gateway.core.launch import Launch
from gateway.core.ports import LaunchAwayError, LaunchLimitError
from gateway.web.parts import PARTS
from gateway.web.visitors import admitted_to, client_of, person_of, visitor_of

#: Seconds after which the page looks again.
REFRESH = 3

#: The cookie with a launch's id.
COOKIE = "manybinder-launch"

#: Lines of the log that are shown.
LAST_LINES = 12

# Colours and cursor movements of terminals (ECMA-48, section 5.4), as launch-log.js has them.
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")

_OWN = frozenset({"build_token", "member", "force"})
_HEADERS = {"Cache-Control": "no-store"}


async def begin(request: web.Request) -> web.Response:
    """Begin a launch, and lead to the page that follows it."""
    parts = request.app[PARTS]
    try:
        client = client_of(request, parts)
        person = await person_of(request, parts, "plain")
        admitted = admit(request, parts.site, parts.providers, time.time(), route="plain")
        if person is not None:
            check_intent(request, person, with_token=admitted.with_token)
        if parts.site.confirm_cross_site and comes_from_elsewhere(request):
            here = request.rel_url.raw_path_qs
            ref = ref_of(admitted.spec, parts.providers)
            return request.app[PAGES].response("confirm.html", headers=_HEADERS, spec=admitted.spec, ref=ref, here=here)
        visitor = replace(visitor_of(request, parts, client), user=person.name if person else "")
        await admitted_to(parts, admitted.spec, client, counted=False)
        launch = parts.launches.start(admitted.spec, replace(visitor, build_token=True))
        await parts.launches.keep(launch)
    except Refused as refused:
        return _page(request, None, "", refused.event or failed(Failure.USER, "This launch has ended.\n"))
    except LaunchLimitError as error:
        return _page(request, None, "", failed(Failure.REFUSED, f"{error}\n"))
    query = urlencode([(name, value) for name, value in request.query.items() if name not in _OWN])
    path = parts.site.path(f"plain-launch/{launch.short}")
    response = web.Response(status=303, headers={"Location": path + (f"?{query}" if query else ""), **_HEADERS})
    secure = parts.site.public_url.startswith("https://")
    response.set_cookie(COOKIE, launch.id, path=path, secure=secure, httponly=True, samesite="Lax")
    return response


async def follow(request: web.Request) -> web.Response:
    """Where the launch stands; knowing its id is the authority."""
    parts = request.app[PARTS]
    launch_id = request.cookies.get(COOKIE, "")
    try:
        # Another one's may have been set by a host beside this one.
        known = short(launch_id) == request.match_info["short"]
        launch = await parts.launches.find(launch_id) if known else None
    except LaunchAwayError:
        return _page(request, None, "")
    if launch is None:
        return _page(request, None, "", unknown_launch(Failure.GATEWAY))
    with parts.launches.watching(launch):
        final = launch.journal.final
    again = parts.site.path(f"v2/{launch.spec.raw}") + (f"?{request.query_string}" if request.query_string else "")
    if final is None:
        return _page(request, launch, again)
    if final.phase is not Phase.READY:
        return _page(request, launch, again, final)
    try:
        target = notebook_url(str(final.fields.get("url", "")), final.fields.get("token"), request.query)
    except ValueError:
        unopened = failed(Failure.GATEWAY, "The service named no session that could be opened.\n")
        return _page(request, launch, again, unopened)
    return web.Response(status=303, headers={"Location": target, "Referrer-Policy": "no-referrer", **_HEADERS})


def _page(request: web.Request, launch: Launch | None, again: str, failure: BuildEvent | None = None) -> web.Response:
    phase = failure.phase if failure else launch.phase if launch else Phase.WAITING
    log = "".join(entry.event.message for entry in launch.journal.since(-1)) if launch else ""
    return request.app[PAGES].response(
        "plain.html",
        headers=_HEADERS,
        label=label_of(launch.spec) if launch else "",
        phase=phase.value,
        member=launch.member if launch else None,
        log="\n".join(_TERMINAL.sub("", log).splitlines()[-LAST_LINES:]),
        refresh=0 if failure else REFRESH,
        failure=(failure.message.strip() or said("No reason was given.")) if failure else "",
        again=again,
    )
