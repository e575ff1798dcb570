"""Who asks: known by a token from the configuration, by one that was made while the gateway runs, or by a login."""

import hmac
import logging
import time
from collections.abc import Callable

import aiohttp
from aiohttp import hdrs, web

from gateway.admin_settings import AdminSettings, OidcSettings
from gateway.clients.oidc import OidcProvider
from gateway.core.operators import (
    LOGIN,
    TOKEN,
    TOKEN_USE,
    Operator,
    csrf_token,
    digest_of,
    login_operator,
    parse_token,
    token_operator,
)
from gateway.core.origins import origin
from gateway.core.ports import RecordsAwayError, RecordsPort
from gateway.core.records import Change, Record
from servicekit.problems import Problem
from servicekit.sealing import Seal

logger = logging.getLogger(__name__)

_BEARER = "Bearer "

#: Seconds between two notes of when a token was last used: each is a write on every replica's disk.
NOTE_USE_EVERY = 3600.0

#: Seconds between two questions to the other replicas about tokens that are not known here.
ASK_EVERY = 0.2

#: Seconds in which the same call of an operator is written down as refused once, and how many of their calls are.
REFUSED_EVERY, REFUSED_AT_MOST = 600.0, 20

#: What the cookie of a session begins with in which a token was typed, and for how many seconds it holds.
TYPED_PREFIX, TYPED_FOR = "mbs_", 8 * 3600.0

_TYPED = "a token that an operator has typed"

_SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


class Operators:
    """Secrets are kept as digests only.

    ``seal`` closes what a browser keeps of a login that has begun; ``public_url`` is where operators reach the API;
    ``http`` asks the provider of logins; ``wall`` is Unix time.
    """

    def __init__(
        self,
        settings: AdminSettings,
        records: RecordsPort,
        seal: Seal,
        public_url: str,
        http: aiohttp.ClientSession,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._records, self._http, self._wall = records, http, wall
        self.seal, self.public_url = seal, settings.public_url or public_url
        self.provider: OidcProvider[OidcSettings] | None = None
        self._configured: list[tuple[str, Operator]] = []
        self._asked_at = 0.0
        self._refused: dict[tuple[str, str], float] = {}
        self.configure(settings)

    @property
    def over_https(self) -> bool:
        """Whether browsers reach the API over https."""
        return origin(self.public_url).startswith("https://")

    def cookie(self, what: str) -> str:
        """The name of a cookie; over https it is such that no other host can set it (RFC 6265bis, 4.1.3.2)."""
        return f"{'__Host-' if self.over_https else ''}manybinder-{what}"

    def configure(self, settings: AdminSettings) -> None:
        """Go by other settings from now on."""
        self._configured = [(digest_of(item.token.get_secret_value()), item.operator()) for item in settings.tokens]
        if settings.oidc is None:
            self.provider = None
        elif self.provider is None or self.provider.settings != settings.oidc:
            self.provider = OidcProvider(settings.oidc, self._http)

    def is_news(self, name: str, call: str) -> bool:
        """Whether this was not refused to them a moment ago: a script that insists does not fill the log."""
        now = self._wall()
        self._refused = {key: at for key, at in self._refused.items() if now - at < REFUSED_EVERY}
        if (name, call) in self._refused or sum(who == name for who, _ in self._refused) >= REFUSED_AT_MOST:
            return False
        self._refused[name, call] = now
        return True

    async def identify(self, request: web.Request) -> Operator:
        """Who asks; raises :class:`Problem` for anybody who is not known."""
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        given = authorization.removeprefix(_BEARER).strip() if authorization.startswith(_BEARER) else ""
        session = "" if authorization else request.cookies.get(self.cookie("operator"), "")
        typed = self._typed(session)
        operator = await (self.known(given or typed) if given or typed else self._by_record(session, bearer=False))
        if operator is None:
            raise self._unknown()
        if operator.until is not None and operator.until <= self._wall():
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(operator.until))
            raise _not_known("Expired", f"This token of {operator.name} has expired at {when}; have another one made.")
        if session and request.method not in _SAFE_METHODS:
            await self._check_origin(request, session)
        return operator

    async def known(self, token: str) -> Operator | None:
        """Whose a token is, whether or not it still holds."""
        return self._by_configuration(token) or await self._by_record(token, bearer=True)

    def session_of(self, token: str) -> str:
        """The cookie of a browser in whose login page a token was typed; the token itself is sealed in it."""
        return TYPED_PREFIX + self.seal.close_cookie({"token": token, "until": self._wall() + TYPED_FOR}, _TYPED)

    def _typed(self, session: str) -> str:
        """The token in such a cookie; "" where there is none, or it was typed too long ago."""
        if not session.startswith(TYPED_PREFIX):
            return ""
        try:
            kept = self.seal.open_cookie(session.removeprefix(TYPED_PREFIX), _TYPED)
        except ValueError:
            return ""
        return str(kept["token"]) if kept["until"] > self._wall() else ""

    def check_origin(self, request: web.Request) -> None:
        """Raises :class:`Problem` for a request that no page of this API has made."""
        if request.headers.get(hdrs.ORIGIN) != origin(self.public_url):
            detail = f"With a session, what changes something must come from a page of {origin(self.public_url)}."
            raise Problem(403, "Not From Here", detail)

    async def _check_origin(self, request: web.Request, session: str) -> None:
        """A browser sends its cookies with whatever any page asks for; what changes something must be our own."""
        self.check_origin(request)
        given = request.headers.get("X-CSRF-Token", "")
        if not given and request.content_type == "application/x-www-form-urlencoded":
            given = str((await request.post()).get("csrf_token", ""))
        if not hmac.compare_digest(given.encode(errors="replace"), csrf_token(session).encode()):
            raise Problem(403, "Not From Here", "The header X-CSRF-Token must bear the csrf_token that whoami tells.")

    def _by_configuration(self, given: str) -> Operator | None:
        digest = digest_of(given)
        # All are compared, so that the time tells nothing.
        found = [operator for known, operator in self._configured if hmac.compare_digest(known, digest)]
        return found[0] if found and given else None

    async def _by_record(self, given: str, *, bearer: bool) -> Operator | None:
        """``bearer``: it came as a token, and not in a browser's cookie."""
        parsed = parse_token(given)
        if parsed is None:
            return None
        token_id, secret = parsed
        record = self._record(token_id)
        if record is None and self._wall() - self._asked_at >= ASK_EVERY:
            # It may have been made at another replica a moment ago.
            self._asked_at = self._wall()
            await self._records.sync()
            record = self._record(token_id)
        if record is None or record.value is None:
            return None
        if not hmac.compare_digest(str(record.value.get("digest")).encode(), digest_of(secret).encode()):
            return None
        operator = self._operator(record, bearer=bearer)
        if operator is not None:
            await self._note_use(token_id)
        return operator

    def _record(self, token_id: str) -> Record | None:
        book = self._records.book
        return book.get(TOKEN, token_id) or book.get(LOGIN, token_id)

    def _operator(self, record: Record, *, bearer: bool) -> Operator | None:
        value = record.value or {}
        if record.kind == TOKEN:
            return token_operator(record.key, value) if bearer else None
        return self.person(record) if value.get("bearer") is bearer else None

    def person(self, record: Record) -> Operator | None:
        """Whose a login is, with the role that the settings give as of now; ``None``: none, or its session is over."""
        session = self._records.book.get(LOGIN, str((record.value or {}).get("session", record.key)))
        if self.provider is None or session is None or session.value is None:
            return None
        settings = self.provider.settings
        return login_operator(record.key, record.value or {}, settings.grants, settings.issuer)

    async def _note_use(self, token_id: str) -> None:
        known, now = self._records.book.get(TOKEN_USE, token_id), self._wall()
        if known is not None and now - known.written_at < NOTE_USE_EVERY:
            return
        try:
            await self._records.write(Change(TOKEN_USE, token_id, {}))
        except RecordsAwayError as error:
            logger.warning("that the token %s was used is not noted: %s", token_id, error)

    def _unknown(self) -> Problem:
        if not self._configured and self.provider is None and not self._records.book.of(TOKEN):
            detail = "This gateway has no operators: set admin.tokens in its configuration."
            return Problem(403, "No Operators", detail)
        detail = "Send an operator's token (Authorization: Bearer …); it is not known, or was revoked."
        if self.provider is not None:
            detail += f" People log in at {self.public_url}api/v1/admin/login."
        return _not_known("Not An Operator", detail)


def _not_known(title: str, detail: str) -> Problem:
    return Problem(401, title, detail, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
