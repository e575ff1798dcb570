"""Who may decide what: roles, scopes, and the tokens that are made while the gateway runs."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contract.sentences import said

#: The kinds of record that a token made at run time and the login of a person are, and the one that says when they were
#: last used.
TOKEN, LOGIN, TOKEN_USE = "token", "login", "token-use"

#: What a token made at run time begins with, so that scanners for secrets and people know it.
TOKEN_PREFIX = "mbt_"  # noqa: S105 - not a secret


class Role(StrEnum):
    """What somebody is to the federation."""

    #: Decides for all of it.
    OPERATOR = "operator"
    #: Reads.
    VIEWER = "viewer"
    #: Operates one member: reads, and drains and weighs that member.
    MEMBER = "member"


class Scope(StrEnum):
    """What a call of the API needs."""

    READ = "read"
    #: How much a member gets: drain, undrain, weight.
    ROUTE = "route"
    #: Who belongs to the federation: suspend, activate, accept, revoke.
    MEMBERS = "members"
    BANS = "bans"
    QUOTAS = "quotas"
    TOKENS = "tokens"
    #: Export and import of all that is kept.
    STATE = "state"


SCOPES: Mapping[Role, frozenset[Scope]] = {
    Role.OPERATOR: frozenset(Scope),
    Role.VIEWER: frozenset({Scope.READ}),
    Role.MEMBER: frozenset({Scope.READ, Scope.ROUTE}),
}


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who has proved who they are.

    ``member`` is whose operator somebody of the role ``member`` is; ``by`` says how it was proved (``configuration``,
    ``token``, ``login``), ``id`` names the token or login; ``until`` is Unix time.
    """

    name: str
    role: Role
    member: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
    by: str = "configuration"
    id: str = ""
    until: float | None = None

    @property
    def may(self) -> frozenset[Scope]:
        """What the role allows and the token is for."""
        return SCOPES[self.role] & self.scopes

    @property
    def standing(self) -> str:
        """The role for people."""
        if self.role is Role.MEMBER:
            return said("member (of %(member)s)", member=self.member)
        return said("operator") if self.role is Role.OPERATOR else said("viewer")


def refusal(operator: Operator, scope: Scope, member: str | None = None) -> str | None:
    """Why somebody may not do what needs this scope, to this member; ``None``: they may."""
    if scope not in SCOPES[operator.role]:
        roles = [role.value for role in Role if scope in SCOPES[role]]
        return f"This needs the role {' or '.join(roles)}; {operator.name} has the role {operator.standing}."
    if scope not in operator.scopes:
        has = ", ".join(sorted(operator.scopes)) or "none"
        return f"This needs a token with the scope {scope.value}; that of {operator.name} has: {has}."
    if operator.role is Role.MEMBER and scope is not Scope.READ and member != operator.member:
        role = f"the role operator, or member (of {member})" if member else "the role operator"
        return f"This needs {role}; {operator.name} has the role {operator.standing}."
    return None


def role_problem(role: Role, member: str, scopes: Iterable[Scope]) -> str | None:
    """What is wrong with somebody's role; ``None``: nothing."""
    if (role is Role.MEMBER) != bool(member):
        return "the role member, and no other, needs the name of a member"
    if beyond := sorted(set(scopes) - SCOPES[role]):
        return f"the role {role.value} does not have the scope {beyond[0]}"
    return None


def is_proved(claim: str, claims: Mapping[str, Any]) -> bool:
    """Whether a claim can be believed: an address that its provider has not verified is whatever somebody has typed."""
    return claim != "email" or claims.get("email_verified", True) is True


@dataclass(frozen=True, slots=True)
class Grant:
    """Whoever has ``value`` as (or in) a ``claim`` of their login has a role."""

    claim: str
    value: str
    role: Role
    member: str = ""

    def holds(self, claims: Mapping[str, Any]) -> bool:
        """Whether these claims have it; an address that its provider has not verified is nobody's."""
        if not is_proved(self.claim, claims):
            return False
        found = claims.get(self.claim)
        return self.value in found if isinstance(found, list) else found == self.value


def login_value(
    name: str, claims: Mapping[str, Any], grants: Iterable[Grant], digest: str, at: float, until: float, *, bearer: bool
) -> dict[str, Any]:
    """What stands in the record of a login: of the claims those that roles are given for, and no others.

    ``bearer``: it is for a command line, and not for a browser.
    """
    named = {"iss", "sub", "email_verified", *(grant.claim for grant in grants)}
    kept = {key: value for key, value in claims.items() if key in named}
    fixed = {"name": name, "made_at": at, "expires_at": until, "digest": digest, "bearer": bearer}
    return {**fixed, "claims": kept}


def login_operator(login_id: str, value: Mapping[str, Any], grants: Iterable[Grant], issuer: str) -> Operator | None:
    """Whose a login is, with the first role that is granted as of now; ``None``: none is, or it is not understood."""
    claims, name, until = value.get("claims"), value.get("name"), value.get("expires_at")
    if not isinstance(claims, dict) or not isinstance(name, str) or not isinstance(until, int | float):
        return None
    if claims.get("iss") != issuer:
        return None
    grant = next((item for item in grants if item.holds(claims)), None)
    if grant is None:
        return None
    return Operator(name, grant.role, grant.member, SCOPES[grant.role], "login", login_id, float(until))


def digest_of(secret: str) -> str:
    """What is kept of a token: enough to know it again.  A plain hash will do for 256 random bits."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def csrf_token(session: str) -> str:
    """What a call with this session's cookie must bear to change something; only its own pages can know it."""
    return hashlib.sha256(f"csrf {session}".encode(errors="surrogatepass")).hexdigest()


def token_text(token_id: str, secret: str) -> str:
    """A token as its owner bears it."""
    return f"{TOKEN_PREFIX}{token_id}_{secret}"


def parse_token(text: str) -> tuple[str, str] | None:
    """The id and the secret of a token; ``None``: it is not one that was made at run time."""
    token_id, _, secret = text.removeprefix(TOKEN_PREFIX).partition("_")
    return (token_id, secret) if text.startswith(TOKEN_PREFIX) and token_id and secret else None


def token_value(operator: Operator, digest: str, made_by: str, made_at: float) -> dict[str, Any]:
    """What stands in the record of a token."""
    return {
        "name": operator.name,
        "role": operator.role.value,
        "member": operator.member,
        "scopes": sorted(operator.scopes),
        "expires_at": operator.until,
        "made_by": made_by,
        "made_at": made_at,
        "digest": digest,
    }


def token_operator(token_id: str, value: Mapping[str, Any]) -> Operator | None:
    """Whose a token is; ``None`` for a record that is not understood, and lets nobody in."""
    try:
        role, scopes = Role(value["role"]), frozenset(Scope(item) for item in value["scopes"])
        name, member, until = value["name"], value["member"], value["expires_at"]
    except (KeyError, TypeError, ValueError):
        return None
    if not isinstance(name, str) or not isinstance(member, str) or not isinstance(until, int | float):
        return None
    if role_problem(role, member, scopes) is not None:
        return None
    return Operator(name, role, member, scopes, "token", token_id, float(until))
