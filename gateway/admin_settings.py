"""The settings of the API for operators (``admin:``)."""

from datetime import UTC, datetime
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.core.operators import SCOPES, Grant, Operator, Role, Scope, role_problem
from gateway.core.origins import origin
from gateway.login_settings import ProviderSettings
from servicekit.config import Section

#: The least characters of an operator's token.
TOKEN_LENGTH = 24

#: What an operator may be called: stands in the audit log, where nothing may pass for something else.
NAME = r"^[A-Za-z0-9@._+-]{1,100}$"


class AdminTokenSettings(Section):
    """Who may decide for the federation, while the gateway runs."""

    name: str = Field(pattern=NAME)
    """Whose it is: stands in the audit log."""

    token: SecretStr
    """At least 24 characters, from a random source; give it as ``token_file``."""

    role: Role = Role.OPERATOR
    """``operator`` decides for the federation, ``viewer`` reads, ``member`` drains and weighs one member."""

    member: str = ""
    """Whose operator somebody of the role ``member`` is."""

    scopes: tuple[Scope, ...] = ()
    """What of its role the token is for; empty: all of it."""

    expires: datetime | None = None
    """From then on it is refused (``2027-01-31``, or with a time; UTC unless it says otherwise); empty: never."""

    @field_validator("token")
    @classmethod
    def _long(cls, token: SecretStr) -> SecretStr:
        if len(token.get_secret_value()) < TOKEN_LENGTH:
            raise ValueError(f"is shorter than {TOKEN_LENGTH} characters (try: openssl rand -hex 32)")
        return token

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := role_problem(self.role, self.member, self.scopes):
            raise ValueError(problem)
        return self

    def operator(self) -> Operator:
        """Whose it is."""
        until = None
        if self.expires is not None:
            until = (self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)).timestamp()
        scopes = frozenset(self.scopes) or SCOPES[self.role]
        return Operator(self.name, self.role, self.member, scopes, "configuration", until=until)


class GrantSettings(Section):
    """Who of those that log in has which role."""

    claim: str = Field(min_length=1)
    """A claim of the ID token, such as ``groups`` or ``email``."""

    value: str = Field(min_length=1)
    """What it must be, or contain if it is a list."""

    role: Role

    member: str = ""
    """Of the role ``member``: whose operator they are."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := role_problem(self.role, self.member, ()):
            raise ValueError(problem)
        return self

    def grant(self) -> Grant:
        """The same for the rules."""
        return Grant(self.claim, self.value, self.role, self.member)


class OidcSettings(ProviderSettings):
    """Login of people by OpenID Connect.  Register ``<public_url>api/v1/admin/callback`` with the provider."""

    name_claim: str = "email"
    """The claim that names somebody in the log."""

    roles: tuple[GrantSettings, ...] = Field(min_length=1)
    """Who may do what; the first one that fits counts, and whom none fits is not let in."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        """``roles``, for the rules."""
        return tuple(item.grant() for item in self.roles)


class AdminSettings(Section):
    """The API for operators (``/api/v1/admin``)."""

    tokens: tuple[AdminTokenSettings, ...] = ()
    """For scripts and for the first operator.  Without tokens, the API answers nobody."""

    public_url: str = ""
    """Where operators reach this API, with the path of the gateway's own public_url (``https://ops.example.org/``); on
    any other host it does not exist, and on this one nothing else does.  Empty: the gateway's public_url."""

    oidc: OidcSettings | None = None
    """Login of people; without it there are tokens only."""

    @field_validator("public_url")
    @classmethod
    def _base(cls, url: str) -> str:
        if not url:
            return ""
        parts = urlsplit(url)
        try:
            # As browsers write it, in the headers Host and Origin.
            base = origin(url)
        except ValueError as error:
            raise ValueError(f"{url!r}: {error}") from error
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r}: has a query or a fragment")
        return f"{base}{parts.path.rstrip('/')}/"

    @field_validator("tokens")
    @classmethod
    def _unique(cls, tokens: tuple[AdminTokenSettings, ...]) -> tuple[AdminTokenSettings, ...]:
        names = [token.name for token in tokens]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the name {twice[0]!r} is given to more than one token")
        return tokens
