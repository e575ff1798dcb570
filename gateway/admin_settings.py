"""The settings of the API for operators (``admin:``)."""

from datetime import UTC, datetime
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.core.operators import SCOPES, Operator, Role, Scope, role_problem
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


class AdminSettings(Section):
    """The API for operators (``/api/v1/admin``)."""

    tokens: tuple[AdminTokenSettings, ...] = ()
    """For scripts and for the first operator.  Without tokens, the API answers nobody."""

    @field_validator("tokens")
    @classmethod
    def _unique(cls, tokens: tuple[AdminTokenSettings, ...]) -> tuple[AdminTokenSettings, ...]:
        names = [token.name for token in tokens]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the name {twice[0]!r} is given to more than one token")
        return tokens
