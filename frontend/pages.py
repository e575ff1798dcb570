"""Pages from templates, each with a policy that lets it run this service's scripts and no others."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from contract.sentences import is_said
from frontend.catalogues import LANGUAGE, Catalogue, read_catalogues
from frontend.face import face_style
from frontend.site import Site
from frontend.static_files import StaticFile, read_static_files, static_file
from providers.registry import Providers

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class NavLink:
    """A link in the head of every page; ``route`` is relative to the site's base path (``status``)."""

    text: str
    route: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page in its language, in pieces: between them goes a nonce, which is another one in each answer."""

    pieces: Sequence[str]
    language: str


def in_language(language: str, headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers of an answer in the language of its request, ``headers`` among them."""
    given = {"Content-Language": language, **(headers or {})}
    given["Vary"] = ", ".join(["Accept-Language", *filter(None, [given.get("Vary")])])
    return given


class Pages:
    """Renders a site's pages.

    ``extra`` names directories with ``templates``, ``static`` and ``catalogues`` of a service's own; its templates
    extend ``page.html``.
    """

    def __init__(
        self, site: Site, providers: Providers, nav: Sequence[NavLink] = (), extra: Sequence[Path] = ()
    ) -> None:
        self.site = site
        self.providers = providers
        face = site.face
        # What an operator has put there goes before the service's own, which it can build on as original/<name>.
        roots = [*([face.directory] if face.directory else []), HERE, *extra]
        static = read_static_files([root / "static" for root in reversed(roots)])
        if face.logo is not None:
            static["logo"] = static_file(face.logo.read_bytes(), face.logo.name)
        if style := face_style(face):
            static["face.css"] = static_file(style.encode(), "face.css")
        self.static: Mapping[str, StaticFile] = static
        self.logo = "logo" if face.logo is not None else "logo.svg"
        self.catalogues: Mapping[str, Catalogue] = read_catalogues([root / "catalogues" for root in reversed(roots)])
        self._templates = {name: self._environment(roots, nav, found) for name, found in self.catalogues.items()}

    def _environment(self, roots: Sequence[Path], nav: Sequence[NavLink], catalogue: Catalogue) -> jinja2.Environment:
        own = roots[1:] if self.site.face.directory else roots
        originals = jinja2.FileSystemLoader([root / "templates" for root in own])
        templates = jinja2.Environment(
            loader=jinja2.ChoiceLoader(
                [
                    jinja2.FileSystemLoader([root / "templates" for root in roots]),
                    jinja2.PrefixLoader({"original": originals}),
                ]
            ),
            extensions=["jinja2.ext.i18n"],
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.policies["ext.i18n.trimmed"] = True
        # The extension brings this method.
        templates.install_gettext_translations(catalogue.translations, newstyle=True)  # type: ignore[attr-defined]
        templates.globals.update(
            site=self.site,
            face=self.site.face,
            nav=tuple(nav),
            path=self.site.path,
            static_url=self.static_url,
            logo_url=self.static_url(self.logo),
            face_css="face.css" in self.static,
            lang=catalogue.language,
            say=catalogue.say,
            is_said=is_said,
        )
        return templates

    def static_url(self, name: str) -> str:
        """The address of a file of the browser's, which changes with its content."""
        return f"{self.site.path('static/')}{name}?v={self.static[name].version}"

    def page_config(self, **more: Any) -> dict[str, Any]:
        """``window.pageConfig``, with BinderHub's fields."""
        return {
            "baseUrl": self.site.base_path,
            "badgeBaseUrl": self.site.public_url,
            "logoUrl": self.static_url(self.logo),
            "logoWidth": "320px",
            "repoProviders": self.providers.descriptions(),
            "aboutMessage": self.site.about,
            "bannerHtml": self.site.banner,
            "binderVersion": self.site.version,
            **more,
        }

    def response(
        self,
        template: str,
        *,
        status: int = 200,
        config: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **context: Any,
    ) -> web.Response:
        """A page; ``config`` is added to its ``pageConfig``, ``context`` is for the template."""
        return self.answer(self.rendered(template, config, **context), status=status, headers=headers)

    def rendered(self, template: str, config: Mapping[str, Any] | None = None, **context: Any) -> Rendered:
        """A page that may be answered more than once."""
        language, nonce = LANGUAGE.get(), secrets.token_urlsafe(16)
        page_config = self.page_config(texts=self.catalogues[language].scripts, **(config or {}))
        names = {"og_title": self.site.name, "page_config": page_config, "nonce": nonce}
        html = self._templates[language].get_template(template).render({**names, **context})
        return Rendered(html.split(nonce), language)

    def answer(self, page: Rendered, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
        """An answer with a page, under a nonce of its own (W3C, Content Security Policy Level 3, section 7.1)."""
        nonce = secrets.token_urlsafe(16)
        given = {"Content-Security-Policy": self._policy(nonce), **in_language(page.language, headers)}
        return web.Response(text=nonce.join(page.pieces), status=status, content_type="text/html", headers=given)

    def text(self, message: str) -> str:
        """A text in the language of the request."""
        return str(self.catalogues[LANGUAGE.get()].translations.gettext(message))

    def say(self, text: str | float) -> str:
        """A :class:`~contract.sentences.Sentence`, or a number, in the language of the request; other text as it is."""
        return self.catalogues[LANGUAGE.get()].say(text)

    def _policy(self, nonce: str) -> str:
        policy = {
            "default-src": ["'none'"],
            "script-src": ["'self'", f"'nonce-{nonce}'"],
            "style-src": ["'self'"],
            "img-src": ["'self'", "data:"],
            "connect-src": ["'self'", *self.site.connect_origins],
            "form-action": ["'self'"],
            "base-uri": ["'none'"],
        }
        if self.site.confirm_cross_site:
            policy["frame-ancestors"] = ["'none'"]
        for directive, sources in self.site.face.csp.items():
            policy.setdefault(directive, []).extend(sources)
        return "; ".join(" ".join([directive, *sources]) for directive, sources in policy.items())


PAGES = web.AppKey("PAGES", Pages)
