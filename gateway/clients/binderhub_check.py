"""What stands in the way of a BinderHub as a member, from what it answers to questions that launch nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from contract import sse
from contract.events import Phase, parse_event
from contract.json_types import loads_object
from frontend.page_config import parse_page_config
from gateway.clients.binderhub_health import POD_QUOTA, checks_of, sessions_of

#: No provider has this name: BinderHub looks at bans, login, token and rate limit first, and then ends the request.
NO_PROVIDER = "no-such-provider/manybinder"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the way: ``what`` and ``advice`` are sentences; ``serious``: launches there will fail."""

    what: str
    serious: bool
    advice: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, as far as it was read."""

    status: int
    content_type: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, whatever it holds."""
        return self.body.decode(errors="replace")


BANNED = Finding(
    "It refuses requests from this gateway's address.",
    True,
    "Take the gateway's address out of its c.BinderHub.ban_networks: all launches come from there.",
)
LOGIN = Finding(
    "It asks visitors to log in.",
    True,
    "A gateway launches for visitors that it does not know: only a BinderHub without c.BinderHub.auth_enabled can be a "
    "member, and no proxy before it may ask for a login.",
)


def health_findings(answer: Answer) -> list[Finding]:
    """What ``/health`` shows."""
    try:
        checks = checks_of(answer.body)
    except ValueError:
        checks = None
    if checks is None or answer.status not in (200, 503):
        # BinderHub answers an address that it does not know with a page.
        return [
            Finding(
                f"Its /health answers HTTP {answer.status} and nothing that can be read.",
                True,
                "Update BinderHub, and see that a proxy before it passes /health on.",
            )
        ]
    sessions = sessions_of(checks)
    if sessions is None:
        known = any(item.get("service") == POD_QUOTA for item in checks)
        what = "It has no pod quota" if known else "Its /health does not count sessions"
        advice = "Set its c.LaunchQuota.total_quota, so that the gateway knows how much room it has."
        return [Finding(f"{what}: how full it is stays unknown.", False, advice)]
    if sessions.limit == 0:
        advice = "Raise its c.LaunchQuota.total_quota once its maintenance is over."
        return [Finding("Its pod quota is 0: it takes no launches.", True, advice)]
    return []


def versions_findings(answer: Answer) -> list[Finding]:
    """What ``/versions`` shows."""
    try:
        loads_object(answer.body)
    except ValueError:
        pass
    else:
        if answer.status == 200:
            return []
    what = f"Its /versions answers HTTP {answer.status} and nothing that can be read."
    return [Finding(what, False, "Pass /versions on, so that the gateway can show what runs there.")]


def page_findings(answer: Answer, public_url: str) -> list[Finding]:
    """What the page of a launch shows; ``public_url`` is the gateway's, "" = not known."""
    if 300 <= answer.status < 400 or answer.status == 401:
        return [LOGIN]
    if answer.status == 403:
        return [BANNED]
    try:
        config = parse_page_config(answer.text)
    except ValueError:
        return []
    badges = config.get("badgeBaseUrl") or ""
    if public_url and (not isinstance(badges, str) or badges.rstrip("/") != public_url.rstrip("/")):
        return [
            Finding(
                "Badges and links made there lead to the member itself, not to the federation.",
                False,
                f'Set its c.BinderHub.badge_base_url to "{public_url}".',
            )
        ]
    return []


def build_findings(answer: Answer, *, signed: bool, page_token: bool) -> list[Finding]:
    """What ``/build`` of :data:`NO_PROVIDER` shows.

    ``signed``: it was asked with a token by the member's secret.  ``page_token``: its pages hand out tokens.
    """
    if 300 <= answer.status < 400 or answer.status == 401:
        return [LOGIN]
    if answer.status == 403:
        return [BANNED]
    if answer.status == 429:
        return [_limited("", page_token=page_token)]
    if answer.status != 200 or answer.content_type != sse.CONTENT_TYPE:
        what = f"Its /build answers HTTP {answer.status} with {answer.content_type[:80]} instead of a build stream."
        return [Finding(what, True, "See that its address in members is that of a BinderHub.")]
    status, message = _refusal(answer)
    if status == 403:
        return [_forbidden(message, signed=signed)]
    limit = answer.headers.get("x-ratelimit-limit", "")
    if status == 429 or limit:
        return [_limited(limit, page_token=page_token)]
    if status is None and message:
        return []
    told = f": {' '.join(message.split())[:200].rstrip('.')}" if message.strip() else ""
    return [Finding(f"It fails builds before it looks at them{told}.", True, "See its log for the reason.")]


def _refusal(answer: Answer) -> tuple[object, str]:
    """Status and message of the first failed event; no message where there is none."""
    for item in sse.Parser().feed(answer.body):
        try:
            event = parse_event(item.data)
        except ValueError:
            continue
        if event.phase == Phase.FAILED:
            return event.fields.get("status_code"), event.message
    return None, ""


def _forbidden(message: str, *, signed: bool) -> Finding:
    if message.startswith("Invalid build token") and signed:
        return Finding(
            "It does not take build tokens signed with the build_token_secret that is set here.",
            True,
            "Set build_token_secret to its c.BinderHub.build_token_secret (in hex, as there), and compare the clocks.",
        )
    return BANNED if message.startswith("Requests from ") else LOGIN


def _limited(limit: str, *, page_token: bool) -> Finding:
    number = f"{limit} " if limit.isascii() and limit.isdigit() and len(limit) < 8 else "few "
    return Finding(
        f"It takes only {number}launches an hour without a build token, and all of them come from this gateway's "
        "address" + ("; a page of it is asked for a token before each launch." if page_token else "."),
        not page_token,
        "Set build_token_secret to its c.BinderHub.build_token_secret.",
    )
