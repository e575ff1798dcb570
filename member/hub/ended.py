"""What a visitor is told at the address of a session that is not there: that it has ended, and where to launch again.

The proxy sends to the Hub whatever has no session.  Where nobody can log in, the Hub's own page would be of no use;
where people do, it would offer to start a server of no image.
"""

import html
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jupyterhub.auth import Authenticator, NullAuthenticator
from jupyterhub.handlers.base import BaseHandler
from traitlets import import_item

#: Seconds for which a session that has started is remembered, and how many are.
REMEMBERED_S = 14 * 86400.0
MOST_REMEMBERED = 20_000

#: Where sessions are, below the Hub's own path: the proxy's other addresses are sent there.
_ADDRESSES = r"/user/([^/]+)(/.*)?"

#: Sessions between two looks at what is old.
_LOOK_EVERY = 100

_PAGE = """<!DOCTYPE html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">{head}<title>{title}</title>
<style>:root{{--back:#fbfaf8;--text:#24292f;--accent:#1f5f94;--on-accent:#fff}}
@media (prefers-color-scheme:dark){{:root{{--back:#14171b;--text:#e6e8ea;--accent:#8dc3ee;--on-accent:#10202e}}}}
body{{font:1.0625rem/1.6 system-ui,sans-serif;max-width:40rem;margin:12vh auto;padding:0 1.1rem}}
body{{color:var(--text);background:var(--back)}}h1{{line-height:1.2}}strong{{overflow-wrap:anywhere}}
a.button{{display:inline-block;padding:.55rem 1.1rem;border-radius:.5rem;font-weight:600;text-decoration:none}}
a.button{{background:var(--accent);color:var(--on-accent)}}</style>
</head><body><main><h1>{title}</h1>{body}</main></body></html>
"""

#: What is said of a session that starts, at an address where nobody knows of one, and where there was one.
STARTING = "<p>A moment, please: this page looks again.</p>"
UNKNOWN = (
    "<p>There is no session at this address. It may have ended long ago. The link that you launched it from, such as a "
    "badge in the repository, launches it anew.</p>"
)
_WAS_HERE = "A session was here."
_WAS_HERE_OF = "A session of %(repo)s was here."
_GONE = (
    "Sessions end when they are not used for a while, and after some hours in any case; what was changed in them is "
    "gone."
)
_LAUNCH = "Launch it again"
_BEGINS = "It begins with what the repository holds."

#: The same in German.  This module stands alone in the Hub, where there are no catalogues.
_GERMAN: Mapping[str, str] = {
    "This session is starting": "Diese Sitzung startet",
    "No such session": "Diese Sitzung gibt es nicht",
    "This session has ended": "Diese Sitzung ist zu Ende",
    "<p>You have no session at this address.</p>": "<p>Unter dieser Adresse hast du keine Sitzung.</p>",
    STARTING: "<p>Einen Augenblick bitte: Diese Seite sieht gleich wieder nach.</p>",
    UNKNOWN: (
        "<p>Unter dieser Adresse gibt es keine Sitzung. Vielleicht ist sie schon lange zu Ende. Der Link, mit dem du "
        "sie gestartet hast, etwa ein Abzeichen im Repository, startet sie neu.</p>"
    ),
    _WAS_HERE: "Hier war eine Sitzung.",
    _WAS_HERE_OF: "Hier war eine Sitzung von %(repo)s.",
    _GONE: (
        "Sitzungen enden, wenn sie eine Weile nicht benutzt werden, und nach einigen Stunden in jedem Fall; was in "
        "ihnen geändert wurde, ist dann weg."
    ),
    _LAUNCH: "Noch einmal starten",
    _BEGINS: "Sie beginnt mit dem, was im Repository liegt.",
}


class Sessions:
    """Which launches sessions came from, by their users: in small files, which outlive the Hub and its users."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written = 0

    def remember(self, user: str, options: Mapping[str, Any]) -> None:
        """Note where a session can be launched again; raises ``OSError``."""
        host, request = str(options.get("binder_launch_host", "")), str(options.get("binder_request", ""))
        if not host.startswith(("http://", "https://")) or not request:
            return
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._written % _LOOK_EVERY == 0:
            self._forget_old(time.time())
        self._written += 1
        new = self._path(user).with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"url": f"{host.rstrip('/')}/{request}", "repo_url": str(options.get("repo_url", ""))}, file)
        new.replace(self._path(user))

    def find(self, user: str) -> dict[str, str] | None:
        """``url`` (where to launch it again) and ``repo_url``; ``None`` where nobody knows of such a session."""
        try:
            found: dict[str, str] = json.loads(self._path(user).read_text())
        except (OSError, ValueError):
            return None
        return found

    def _path(self, user: str) -> Path:
        # Names of our own are made of letters, digits and dashes; a person's, or one in an address, can be anything.
        plain = re.fullmatch(r"[a-z0-9-]{1,60}", user) is not None
        return self._directory / f"{user if plain else sha256(user.encode(errors='replace')).hexdigest()}.json"

    def _forget_old(self, now: float) -> None:
        for n, (written_at, path) in enumerate(sorted(self._ages(), reverse=True)):
            if n >= MOST_REMEMBERED or now - written_at > REMEMBERED_S:
                path.unlink(missing_ok=True)

    def _ages(self) -> Iterator[tuple[float, Path]]:
        for path in self._directory.glob("*.json"):
            try:
                yield path.stat().st_mtime, path
            except FileNotFoundError:
                continue


#: Set by the Hub's configuration, before a session starts.
SESSIONS = Sessions(Path())


class SessionHandler(BaseHandler):  # type: ignore[misc]  # JupyterHub ships no types
    """Answers for every address below ``/user/<name>`` that has no session behind it."""

    async def get(self, name: str, path: str | None) -> None:
        """A page, or JSON for what is no browser."""
        known = SESSIONS.find(_key(name, self._server(name, path)))
        if self._starts(name, path):
            wait = '<meta http-equiv="refresh" content="2">'
            self._answer(503, "This session is starting", STARTING, wait)
        elif "api" in (path or "").split("/") or "text/html" not in self.request.headers.get("Accept", ""):
            # As the Hub says it, for a JupyterLab that is still open somewhere.
            self.set_status(424)
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps({"message": "This session has ended."}))
        elif known is None:
            self._answer(404, "No such session", UNKNOWN)
        else:
            self._answer(410, "This session has ended", again(known, self._language()))

    head = get

    def check_xsrf_cookie(self) -> None:
        """Nothing here changes anything, and a visitor has no cookies of the Hub."""

    def _server(self, name: str, path: str | None) -> str:  # noqa: ARG002 - for who has several
        """The name of the server that an address is of."""
        return ""

    def _starts(self, name: str, path: str | None) -> bool:
        user = self.find_user(name)
        spawner = user.spawners.get(self._server(name, path)) if user else None
        return bool(spawner and spawner.active and spawner.pending != "stop")

    def _language(self) -> str:
        return language_of(self.request.headers.get("Accept-Language", ""))

    def _answer(self, status: int, title: str, body: str, head: str = "") -> None:
        language = self._language()
        self.set_status(status)
        self.set_header("Content-Language", language)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
        self.set_header("Content-Security-Policy", policy)
        self.finish(page(title, body, head, language))


class OwnSessionHandler(SessionHandler):
    """The same for people's sessions, of which nobody else is told anything: not even that there is such a user."""

    async def get(self, name: str, path: str | None) -> None:
        """A page for whose it is; who has not logged in is asked to."""
        user = self.current_user
        if user is None and "text/html" in self.request.headers.get("Accept", ""):
            login = self.settings["login_url"]
            self.redirect(f"{login}?{urlencode({'next': self.request.uri})}")
        elif user is None:
            self.set_status(403)
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps({"message": "Log in first."}))
        elif user.name != name:
            self._answer(404, "No such session", "<p>You have no session at this address.</p>")
        else:
            await super().get(name, path)

    head = get

    def _server(self, name: str, path: str | None) -> str:
        """The first part of the path, if a named server of it is, or was, there."""
        server = (path or "").strip("/").partition("/")[0]
        return server if server and SESSIONS.find(_key(name, server)) else ""


class SessionAuthenticator(NullAuthenticator):  # type: ignore[misc]  # JupyterHub ships no types
    """Nobody logs in; what the Hub is asked by a browser are the addresses of sessions."""

    def get_handlers(self, app: Any) -> list[tuple[str, type[BaseHandler]]]:  # noqa: ARG002 - JupyterHub's
        """Handlers that go before the Hub's own."""
        return [(_ADDRESSES, SessionHandler)]


def with_session_pages(name: str) -> type[Authenticator]:
    """An authenticator, by JupyterHub's short name for it or its class's, with the page of ended sessions besides.

    Its configuration is that of the class (``c.GenericOAuthenticator``).  Raises ``ImportError``.
    """
    named = {point.name.lower(): point for point in entry_points(group="jupyterhub.authenticators")}
    base = named[name.lower()].load() if name.lower() in named else import_item(name)

    class WithSessionPages(base):  # type: ignore[misc,valid-type]  # JupyterHub ships no types
        def get_handlers(self, app: Any) -> list[tuple[Any, ...]]:
            """Handlers that go before the Hub's own."""
            return [(_ADDRESSES, OwnSessionHandler), *super().get_handlers(app)]

    return WithSessionPages


def remember(spawner: Any) -> None:
    """Before a server starts, note where its session can be launched again; it starts even if that fails."""
    try:
        SESSIONS.remember(_key(spawner.user.name, spawner.name), spawner.user_options)
    except OSError as error:
        spawner.log.warning("nobody will know where to launch %s again: %s", spawner.user.name, error)


def _key(user: str, server: str) -> str:
    return f"{user}/{server}" if server else user


def language_of(accept: str) -> str:
    """``de`` or ``en``, whichever an Accept-Language header (RFC 9110, section 12.5.4) likes best."""
    best, liked = "en", 0.0
    for item in accept.lower().split(",")[:20]:
        name, _, parameter = (part.strip() for part in item.partition(";"))
        try:
            quality = float(parameter.removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        language = "en" if name == "*" else name.partition("-")[0]
        if language in ("de", "en") and quality > liked:
            best, liked = language, quality
    return best


def _say(text: str, language: str) -> str:
    return _GERMAN.get(text, text) if language == "de" else text


def page(title: str, body: str, head: str = "", language: str = "en") -> str:
    """A page in the Hub's place."""
    return _PAGE.format(title=_say(title, language), body=_say(body, language), head=head, language=language)


def again(known: Mapping[str, str], language: str = "en") -> str:
    """What is said of a session that has ended, by what :meth:`Sessions.find` knows of it."""
    url, repo = html.escape(known.get("url", "")), known.get("repo_url", "")
    # An address with an at sign may hold somebody's password.
    was_here = _say(_WAS_HERE_OF if repo and "@" not in repo else _WAS_HERE, language)
    return (
        f"<p>{was_here % {'repo': f'<strong>{html.escape(repo)}</strong>'}} {_say(_GONE, language)}</p>"
        f'<p><a class="button" rel="noreferrer" href="{url}">{_say(_LAUNCH, language)}</a></p>'
        f"<p>{_say(_BEGINS, language)}</p>"
    )
