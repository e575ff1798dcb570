"""Who asks: known by a token from the configuration, or by one that was made while the gateway runs."""

import hmac
import logging
import time
from collections.abc import Callable

from aiohttp import hdrs, web

from gateway.admin_settings import AdminSettings
from gateway.core.operators import TOKEN, TOKEN_USE, Operator, digest_of, parse_token, token_operator
from gateway.core.ports import RecordsAwayError, RecordsPort
from gateway.core.records import Change
from servicekit.problems import Problem

logger = logging.getLogger(__name__)

_BEARER = "Bearer "

#: Seconds between two notes of when a token was last used: each is a write on every replica's disk.
NOTE_USE_EVERY = 3600.0

#: Seconds between two questions to the other replicas about tokens that are not known here.
ASK_EVERY = 0.2

#: Seconds in which the same call of the same operator is written down as refused once, and how many calls in all are.
REFUSED_EVERY, REFUSED_AT_MOST = 60.0, 100


class Operators:
    """Secrets are kept as digests only; ``wall`` is Unix time."""

    def __init__(self, settings: AdminSettings, records: RecordsPort, wall: Callable[[], float] = time.time) -> None:
        self._records, self._wall = records, wall
        self._configured: list[tuple[str, Operator]] = []
        self._asked_at = 0.0
        self._refused: dict[str, float] = {}
        self.configure(settings)

    def configure(self, settings: AdminSettings) -> None:
        """Go by other settings from now on."""
        self._configured = [(digest_of(item.token.get_secret_value()), item.operator()) for item in settings.tokens]

    def is_news(self, what: str) -> bool:
        """Whether this was not refused a moment ago: a script that insists does not fill the log."""
        now = self._wall()
        self._refused = {key: at for key, at in self._refused.items() if now - at < REFUSED_EVERY}
        if what in self._refused or len(self._refused) >= REFUSED_AT_MOST:
            return False
        self._refused[what] = now
        return True

    async def identify(self, request: web.Request) -> Operator:
        """Who asks; raises :class:`Problem` for anybody who is not known."""
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        given = authorization.removeprefix(_BEARER).strip() if authorization.startswith(_BEARER) else ""
        operator = self._by_configuration(given) or await self._by_record(given)
        if operator is None:
            raise self._unknown()
        if operator.until is not None and operator.until <= self._wall():
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(operator.until))
            raise _not_known("Expired", f"This token of {operator.name} has expired at {when}; have another one made.")
        return operator

    def _by_configuration(self, given: str) -> Operator | None:
        digest = digest_of(given)
        # All are compared, so that the time tells nothing.
        found = [operator for known, operator in self._configured if hmac.compare_digest(known, digest)]
        return found[0] if found and given else None

    async def _by_record(self, given: str) -> Operator | None:
        parsed = parse_token(given)
        if parsed is None:
            return None
        token_id, secret = parsed
        record = self._records.book.get(TOKEN, token_id)
        if record is None and self._wall() - self._asked_at >= ASK_EVERY:
            # It may have been made at another replica a moment ago.
            self._asked_at = self._wall()
            await self._records.sync()
            record = self._records.book.get(TOKEN, token_id)
        if record is None or record.value is None:
            return None
        if not hmac.compare_digest(str(record.value.get("digest")).encode(), digest_of(secret).encode()):
            return None
        operator = token_operator(token_id, record.value)
        if operator is not None:
            await self._note_use(token_id)
        return operator

    async def _note_use(self, token_id: str) -> None:
        known, now = self._records.book.get(TOKEN_USE, token_id), self._wall()
        if known is not None and now - known.written_at < NOTE_USE_EVERY:
            return
        try:
            await self._records.write(Change(TOKEN_USE, token_id, {}))
        except RecordsAwayError as error:
            logger.warning("that the token %s was used is not noted: %s", token_id, error)

    def _unknown(self) -> Problem:
        if not self._configured and not self._records.book.of(TOKEN):
            detail = "This gateway has no operators: set admin.tokens in its configuration."
            return Problem(403, "No Operators", detail)
        detail = "Send an operator's token (Authorization: Bearer …); it is not known, or was revoked."
        return _not_known("Not An Operator", detail)


def _not_known(title: str, detail: str) -> Problem:
    return Problem(401, title, detail, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
