"""The frontend's routes."""

import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from aiohttp import web

from frontend.launch_page import launch_page
from frontend.link_maker import chosen_link, form_of, understood
from frontend.links import LinkError
from frontend.pages import PAGES, NavLink, Pages
from frontend.site import Site
from frontend.social_image import social_image
from frontend.static_files import StaticFile, static_file
from providers.registry import Providers

__all__ = ["NavLink", "add_routes"]


def add_routes(
    app: web.Application, site: Site, providers: Providers, nav: Sequence[NavLink] = (), extra: Sequence[Path] = ()
) -> None:
    """Serve the pages, badges, files and ``/api/repoproviders`` of a site.

    ``app[PAGES]`` renders further pages in the same frame; see :class:`frontend.pages.Pages` for ``extra``.
    """
    pages = app[PAGES] = Pages(site, providers, nav, extra)
    badge, badge_logo = pages.static["badge.svg"], pages.static["badge_logo.svg"]
    picture = static_file(social_image(), "logo_social.png")
    # Crawlers may read pages, as previews of links do; what these addresses begin is not for them (RFC 9309).
    closed = "".join(f"Disallow: {site.path(route)}\n" for route in ("build/", "plain"))
    robots = static_file(f"User-agent: *\n{closed}".encode(), "robots.txt")

    async def launch(request: web.Request) -> web.Response:
        return launch_page(request, pages, time.time())

    for route, handler in (
        ("", _home),
        ("launch", _launch_form),
        ("v2/{provider}/{spec:.+}", launch),
        ("repo/{user}/{repo}{path:(/.*)?}", _legacy_redirect),
        ("about", _about),
        ("api/repoproviders", _repo_providers),
        ("api/v1/link", understood),
        ("static/{name:.+}", _static),
    ):
        app.router.add_get(site.path(route), handler)
    for route, file in (
        ("badge.svg", badge),
        ("assets/images/badge.svg", badge),
        ("badge_logo.svg", badge_logo),
        ("logo_social.png", picture),
        ("favicon.ico", pages.static[pages.logo]),
        ("robots.txt", robots),
    ):
        _add_file(app, site.path(route), file)


def _add_file(app: web.Application, path: str, file: StaticFile) -> None:
    async def answer(request: web.Request) -> web.Response:
        return file.response(request)

    app.router.add_get(path, answer)


async def _home(request: web.Request) -> web.Response:
    pages = request.app[PAGES]
    return pages.response("home.html", form=form_of(request), error="", og_url=pages.site.public_url)


async def _about(request: web.Request) -> web.Response:
    return request.app[PAGES].response("about.html")


async def _repo_providers(request: web.Request) -> web.Response:
    return web.json_response(request.app[PAGES].providers.descriptions())


async def _static(request: web.Request) -> web.Response:
    file = request.app[PAGES].static.get(request.match_info["name"])
    if file is None:
        raise web.HTTPNotFound
    return file.response(request)


async def _legacy_redirect(request: web.Request) -> web.Response:
    """The first Binder's links; they stand in READMEs to this day."""
    user, repo, path = (request.match_info[name] for name in ("user", "repo", "path"))
    target = f"v2/gh/{quote(user, safe='')}/{quote(repo, safe='')}/master"
    if path.strip("/"):
        target += f"?{urlencode({'urlpath': path})}"
    return _redirect(request.app[PAGES].site.path(target))


async def _launch_form(request: web.Request) -> web.Response:
    """The home page's form: send the browser to the launch page of what was typed."""
    pages = request.app[PAGES]
    form = form_of(request)
    try:
        link = chosen_link(pages.providers, form)
    except LinkError as error:
        return pages.response("home.html", status=400, form=form, error=pages.text(error.sentence) % error.values)
    return _redirect(pages.site.path(link.launch_path))


def _redirect(path: str) -> web.Response:
    return web.Response(status=302, headers={"Location": path})
