"""The settings of logins by OpenID Connect, of operators and of visitors."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from contract.units import Duration
from gateway.core.settings import Above
from servicekit.config import Section

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_safe_url(url: str) -> bool:
    """Whether what goes there cannot be read on the way: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def is_sent_to(origin: str, public_url: str) -> bool:
    """Whether browsers send the cookies of a service's visitors to an origin too: they tell hosts apart, not ports.

    Not on loopback, where things are tried out.
    """
    ours = urlsplit(public_url)
    same = urlsplit(origin).hostname == ours.hostname and ours.hostname not in _LOOPBACK
    return same and ours.path in ("", "/")


class ProviderSettings(Section):
    """A provider of logins."""

    issuer: str
    """The provider as it calls itself (``https://login.example.org``, character by character)."""

    client_id: str = Field(min_length=1)

    client_secret: SecretStr = SecretStr("")
    """Give it as ``client_secret_file``; a public client has none."""

    scopes: tuple[str, ...] = ("openid", "email", "profile")
    """What the provider is asked for; ``openid`` must be among it, and whatever gives the claims below."""

    session: Annotated[Duration, Above(0)] = 8 * 3600.0
    """After which one logs in again."""

    leeway: Duration = 30.0
    """By how much the clocks of provider and gateway may differ."""

    @field_validator("issuer")
    @classmethod
    def _safe(cls, issuer: str) -> str:
        if not is_safe_url(issuer):
            raise ValueError("must begin with https://")
        return issuer

    @field_validator("scopes")
    @classmethod
    def _openid(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            raise ValueError("must hold openid")
        return scopes


class AllowedSettings(Section):
    """Visitors that are let in."""

    claim: str = Field(min_length=1)
    """A claim of the ID token, such as ``groups``."""

    value: str = Field(min_length=1)
    """What it must be, or contain if it is a list."""


class VisitorOidcSettings(ProviderSettings):
    """Login of visitors by OpenID Connect.  Register ``<public_url>oauth_callback`` with the provider."""

    username_claim: str = "email"
    """The claim by which members' Hubs call people: what their authenticator has under the same name."""

    allowed: tuple[AllowedSettings, ...] = ()
    """Who is let in, by any of these; empty: whoever has logged in."""


class VisitorsSettings(Section):
    """Who may visit."""

    oidc: VisitorOidcSettings | None = None
    """Visitors log in, and sessions are theirs: every member has ``auth_enabled``, and its Hub the same provider.
    Without it nobody logs in."""
