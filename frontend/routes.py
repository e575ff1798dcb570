"""The frontend's routes."""

import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from aiohttp import web

from frontend.launch_page import launch_page
from frontend.links import Link, LinkError, make_link, parse_link
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

    async def launch(request: web.Request) -> web.Response:
        return launch_page(request, pages, time.time())

    for route, handler in (
        ("", _home),
        ("launch", _launch_form),
        ("v2/{provider}/{spec:.+}", launch),
        ("repo/{user}/{repo}{path:(/.*)?}", _legacy_redirect),
        ("about", _about),
        ("api/repoproviders", _repo_providers),
        ("static/{name:.+}", _static),
    ):
        app.router.add_get(site.path(route), handler)
    for route, file in (
        ("badge.svg", badge),
        ("assets/images/badge.svg", badge),
        ("badge_logo.svg", badge_logo),
        ("logo_social.png", picture),
        ("favicon.ico", pages.static["logo.svg"]),
    ):
        _add_file(app, site.path(route), file)


def _add_file(app: web.Application, path: str, file: StaticFile) -> None:
    async def answer(request: web.Request) -> web.Response:
        return file.response(request)

    app.router.add_get(path, answer)


async def _home(request: web.Request) -> web.Response:
    return request.app[PAGES].response("home.html", form=_form(request), error="")


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
    form = _form(request)
    try:
        link = _chosen_link(pages, **form)
    except LinkError as error:
        return pages.response("home.html", status=400, form=form, error=str(error))
    return _redirect(pages.site.path(link.launch_path))


def _form(request: web.Request) -> dict[str, str]:
    """What is in the form's fields."""
    return {name: request.query.get(name, "") for name in ("provider", "repo", "ref", "path")}


def _chosen_link(pages: Pages, provider: str, repo: str, ref: str, path: str) -> Link:
    if not provider:
        return parse_link(repo, ref, path)
    for description in pages.providers.descriptions():
        if description["id"] == provider:
            return make_link(description, repo, ref, path)
    raise LinkError(f"No provider found for prefix {provider[:80]}.")


def _redirect(path: str) -> web.Response:
    return web.Response(status=302, headers={"Location": path})
