"""What the home page's form means: a link, told back as it was understood, live and when the form is sent."""

from collections.abc import Mapping
from urllib.parse import unquote

from aiohttp import web

from frontend.launch_page import label_of, ref_of
from frontend.links import Link, LinkError, make_link, opening, parse_link
from frontend.pages import PAGES
from providers.base import ProviderError, UnknownProviderError
from providers.registry import Providers
from servicekit.problems import Problem

FIELDS = ("repo", "provider", "ref", "path", "open", "content", "branch")


def form_of(request: web.Request) -> dict[str, str]:
    """What is in the form's fields."""
    return {name: request.query.get(name, "") for name in FIELDS}


def chosen_link(providers: Providers, form: Mapping[str, str]) -> Link:
    """The link that a form asks for; raises :class:`LinkError`."""
    given = {name: form.get(name, "") for name in FIELDS}
    link = _link(providers, given["provider"], given["repo"], given["ref"], given["path"])
    return opening(link, given["open"], given["content"], given["branch"])


async def understood(request: web.Request) -> web.Response:
    """``/api/v1/link``: what a text leads to, or 400 with the sentence that says why to nothing."""
    pages = request.app[PAGES]
    try:
        link = chosen_link(pages.providers, form_of(request))
        spec = pages.providers.parse(link.path_spec)
    except LinkError as error:
        raise Problem(400, "Bad Request", pages.text(error.sentence) % error.values, parameter="repo") from error
    except ProviderError as error:
        # Providers speak English, whatever the page's language.
        raise Problem(400, "Bad Request", str(error), parameter="repo", lang="en") from error
    answer = {
        "provider": spec.provider,
        "provider_name": pages.say(pages.providers.description(spec.provider)["displayName"]),
        "label": label_of(spec),
        "repo_url": spec.repo_url,
        "ref": ref_of(spec, pages.providers),
        "path": link.path,
        "opens": next(iter(link.query.values()), ""),
        "launch_url": pages.site.public_url + link.launch_path,
        "launch_path": pages.site.path(link.launch_path),
        "spec": unquote(spec.raw),
    }
    return web.json_response(answer, headers={"Cache-Control": "no-store"})


def _link(providers: Providers, provider: str, repo: str, ref: str, path: str) -> Link:
    if not provider:
        return parse_link(repo, ref, path)
    try:
        description = providers.description(provider)
    except UnknownProviderError as error:
        raise LinkError("No provider found for prefix %(prefix)s.", prefix=provider[:80]) from error
    return make_link(description, repo, ref, path)
