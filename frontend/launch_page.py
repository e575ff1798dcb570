"""The page that launches, or asks first."""

import re
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from aiohttp import hdrs, web

from frontend.admission import raw_spec
from frontend.pages import Pages
from frontend.site import Site
from frontend.tokens import make_build_token, origin_of
from providers.base import ProviderError, RepoSpec, UnknownProviderError
from providers.registry import Providers

# A page of this kind holds a token and depends on where its reader came from.
_HEADERS = {"Cache-Control": "no-store", "Vary": "Sec-Fetch-Site, Referer"}


def launch_page(request: web.Request, pages: Pages, now: float) -> web.Response:
    """Answer a GET of ``/v2/<provider>/<spec>`` at ``now`` (Unix time)."""
    site = pages.site
    path_spec = raw_spec(request, site, "v2")
    link = site.public_url + (site.route_of(request.rel_url.raw_path_qs) or "")
    change_url = f"{site.path('')}?{urlencode({'repo': link})}"
    try:
        spec = pages.providers.parse(path_spec)
    except ProviderError as error:
        status = 404 if isinstance(error, UnknownProviderError) else 400
        title = pages.text("This link cannot be launched")
        return pages.response(
            "error.html",
            status=status,
            headers=_HEADERS,
            title=title,
            message=str(error),
            english=True,
            change_url=change_url,
            meant=_meant(pages, path_spec)
            and request.rel_url.with_path(site.path(f"v2/{path_spec}/HEAD"), encoded=True, keep_query=True),
        )
    description = pages.providers.description(spec.provider)
    label = label_of(spec)
    ref = ref_of(spec, pages.providers)
    provider_name = pages.say(description["displayName"])
    title = f"{provider_name}: {path_spec.partition('/')[2]}"
    if site.confirm_cross_site and comes_from_elsewhere(request):
        # No token, and nothing that starts by itself: whoever made the link does not decide what runs here.
        here = request.rel_url.raw_path_qs
        return pages.response(
            "confirm.html", headers=_HEADERS, spec=spec, ref=ref, og_title=title, og_url=link, here=here
        )
    origin = origin_of(request.headers.get(hdrs.ORIGIN), request.headers.get(hdrs.HOST))
    token = make_build_token(site.build_token_secret, path_spec, origin, now)
    build_url = f"{site.public_url}build/{path_spec}"
    if site.require_build_token:
        build_url += f"?build_token={quote(token, safe='')}"
    query = request.query
    return pages.response(
        "launch.html",
        headers=_HEADERS,
        config={
            "buildToken": token,
            "buildPath": site.path(f"build/{path_spec}"),
            "launchesPath": site.path("api/v1/launches/"),
            "memberCookie": site.member_cookie,
            "recent": {"label": label, "ref": ref},
            "repoUrl": spec.repo_url if spec.repo_url.startswith("http") else "",
            "issuesUrl": f"{spec.repo_url}/issues/new" if spec.provider == "gh" else "",
            "reportUrl": site.face.report_url,
            "elsewhere": [
                {"text": link.text, "href": _launch_link(link.url, path_spec, query)} for link in site.face.elsewhere
            ],
        },
        spec=spec,
        ref=ref,
        label=label,
        provider_name=provider_name,
        opens=query.get("labpath") or query.get("filepath") or query.get("urlpath") or "",
        og_title=title,
        og_url=link,
        curl=f"curl -N -H 'Accept: text/event-stream' {shlex.quote(build_url)}",
        command=f"manybinder launch {_named(site, spec, description)} --gateway {shlex.quote(site.public_url)}",
        change_url=change_url,
        plain_url=_plain_url(request, site, path_spec, token),
    )


def _launch_link(base: str, path_spec: str, query: Mapping[str, str]) -> str:
    """The same launch at another Binder: what is to be opened goes along, what holds only here does not."""
    kept = [(name, value) for name, value in query.items() if name not in ("build_token", "member", "force")]
    return f"{base.rstrip('/')}/v2/{path_spec}" + (f"?{urlencode(kept)}" if kept else "")


def _meant(pages: Pages, path_spec: str) -> bool:
    """Whether a link would lead somewhere if it named a ref: many leave it out."""
    try:
        pages.providers.parse(f"{path_spec}/HEAD")
    except ProviderError:
        return False
    return True


def _plain_url(request: web.Request, site: Site, path_spec: str, token: str) -> str:
    """Where the launch goes on without JavaScript; "" where it cannot."""
    if not site.plain_launches:
        return ""
    query = [(name, value) for name, value in request.query.items() if name != "build_token"]
    return f"{site.path('plain')}/{path_spec}?{urlencode([*query, ('build_token', token)])}"


def ref_of(spec: RepoSpec, providers: Providers) -> str:
    """The ref of a launch, for people; what has no refs, such as a record of an archive, is at none."""
    return spec.ref if providers.description(spec.provider)["ref"]["enabled"] else ""


def label_of(spec: RepoSpec) -> str:
    """The repository as people call it: ``owner/name`` where its host is known, else what identifies it."""
    parts = spec.raw.split("/")
    if spec.provider == "gh":
        return unquote("/".join(parts[1:3]))
    if spec.provider in ("git", "gl", "gist"):
        return re.sub(r"^[a-z]+://|\.git$", "", spec.repo_url)
    return unquote("/".join(parts[1:]))


def comes_from_elsewhere(request: web.Request) -> bool:
    """Whether a browser followed a link here from another origin (Fetch Metadata, W3C).

    Browsers tell over HTTPS and to loopback.  From one that does not tell, only a page whose Referer is this service's
    own is taken for its own; what is no browser follows no links.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    if not request.headers.get(hdrs.USER_AGENT, "").startswith("Mozilla/"):
        return False
    try:
        referrer = urlsplit(request.headers.get(hdrs.REFERER, "")).netloc
    except ValueError:
        return True
    return referrer.lower() != request.headers.get(hdrs.HOST, "").lower()


def _named(site: Site, spec: RepoSpec, description: Mapping[str, Any]) -> str:
    """The repository as arguments of a command: what has no ref is known by its launch link."""
    if description["ref"]["enabled"]:
        return f"{shlex.quote(spec.repo_url)} --ref {shlex.quote(spec.ref)}"
    return shlex.quote(f"{site.public_url}v2/{spec.raw}")
