"""How a member joins a federation, changes its key and leaves; and how it learns of the gateway's keys.

A federation's operator hands a member's a *join token*.  It names the member and the gateway's key, and is good for one
join.  The member makes a key pair, signs a :class:`JoinRequest` with it, and gets a :class:`Welcome`, signed with the
very key that the token has named.  From then on each side signs with its own key: :class:`KeyChange` and
:class:`Farewell` are the member's, :class:`Notice` is the gateway's, and bears the keys that it signs with now and
soon.  All travel as JSON Web Tokens (RFC 7519) signed with EdDSA (RFC 8037).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contract.signatures import (
    ALGORITHM,
    UNREADABLE,
    SignatureRefusedError,
    fingerprint,
    load_public_key,
    public_pem,
    time_claim,
    verified,
)

JOIN_TYPE = "manybinder-join+jwt"
WELCOME_TYPE = "manybinder-welcome+jwt"
KEYS_TYPE = "manybinder-keys+jwt"
LEAVE_TYPE = "manybinder-leave+jwt"
NOTICE_TYPE = "manybinder-notice+jwt"

#: The header of a gateway's answer to a report that holds a :class:`Notice`.
NOTICE_HEADER = "Manybinder-Notice"

#: Bytes of a join token's secret.
SECRET_BYTES = 32

#: Keys that a member or a gateway may have at a time: one, and another while they are rotated.
MAX_KEYS = 2

_PREFIX = "mbjoin"
_TOKEN = re.compile(rf"{_PREFIX}_([a-z0-9.-]{{1,63}})_([0-9a-f]{{64}})_([0-9a-f]{{{2 * SECRET_BYTES}}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A join token, read: the member's name, the fingerprint of the gateway's key, and the whole as a text."""

    member: str
    gateway: str
    text: str

    @property
    def digest(self) -> str:
        """What a gateway keeps of it; gives no access."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def make_join_token(member: str, key: Ed25519PublicKey, secret: bytes) -> JoinToken:
    """A token for a member of the federation whose gateway has this key; ``secret`` is random."""
    gateway = fingerprint(key)
    return JoinToken(member, gateway, f"{_PREFIX}_{member}_{gateway}_{secret.hex()}")


def parse_join_token(text: str) -> JoinToken:
    """Read a token; raises ``ValueError``."""
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a join token ({_PREFIX}_…), or not the whole of one")
    return JoinToken(match[1], match[2], match[0])


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a member asks to be registered with; ``digest`` is its join token's.

    ``url`` is where the gateway reaches its API, ``hub_origin`` where browsers reach its sessions.
    """

    member: str
    digest: str
    key: Ed25519PublicKey
    url: str
    hub_origin: str
    sent_at: float


def sign_join(request: JoinRequest, key: Ed25519PrivateKey) -> str:
    """A request, signed with the key that is to be registered: whoever sends it has that key."""
    payload = {
        "iss": request.member,
        "jti": request.digest,
        "iat": request.sent_at,
        "key": public_pem(request.key),
        "url": request.url,
        "hub_origin": request.hub_origin,
    }
    return jwt.encode(payload, key, ALGORITHM, headers={"typ": JOIN_TYPE})


def read_join(token: str) -> JoinRequest:
    """A request that is signed with the key in it; raises :class:`SignatureRefusedError`."""
    try:
        claimed = jwt.decode(token, options={"verify_signature": False}).get("key")
    except UNREADABLE as error:
        raise SignatureRefusedError(f"not a readable request: {error}") from error
    key = _key(claimed)
    payload = verified(token, [key], JOIN_TYPE)
    return JoinRequest(
        member=_text(payload, "iss"),
        digest=_text(payload, "jti"),
        key=key,
        url=_text(payload, "url"),
        hub_origin=_text(payload, "hub_origin"),
        sent_at=time_claim(payload, "iat"),
    )


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a gateway answers to a join: where it is, its keys and its time."""

    member: str
    issuer: str
    report_url: str
    keys: tuple[Ed25519PublicKey, ...]
    sent_at: float


def sign_welcome(welcome: Welcome, key: Ed25519PrivateKey) -> str:
    """A welcome as it is sent."""
    payload = {
        "aud": welcome.member,
        "iss": welcome.issuer,
        "iat": welcome.sent_at,
        "report_url": welcome.report_url,
        "keys": _pems(welcome.keys),
    }
    return jwt.encode(payload, key, ALGORITHM, headers={"typ": WELCOME_TYPE})


def read_welcome(token: str, join_token: JoinToken) -> Welcome:
    """A welcome by the gateway that a join token was made for; raises :class:`SignatureRefusedError`.

    Whoever answers in its place does not have the key whose fingerprint the token bears.
    """
    try:
        claimed = jwt.decode(token, options={"verify_signature": False}).get("keys")
    except UNREADABLE as error:
        raise SignatureRefusedError(f"not a readable answer: {error}") from error
    named = [key for key in _keys(claimed) if fingerprint(key) == join_token.gateway]
    if not named:
        raise SignatureRefusedError("the answer is not from the gateway that the join token was made for")
    payload = verified(token, named, WELCOME_TYPE)
    if payload.get("aud") != join_token.member:
        raise SignatureRefusedError("the answer is for another member")
    return Welcome(
        member=join_token.member,
        issuer=_text(payload, "iss"),
        report_url=_text(payload, "report_url"),
        keys=_keys(payload.get("keys")),
        sent_at=time_claim(payload, "iat"),
    )


@dataclass(frozen=True, slots=True)
class KeyChange:
    """The keys that a member's reports are signed with from now on, all of them; ``issuer`` is the gateway's URL."""

    member: str
    issuer: str
    keys: tuple[Ed25519PublicKey, ...]
    sent_at: float


def sign_key_change(change: KeyChange, key: Ed25519PrivateKey) -> str:
    """A change, signed with a key that is registered."""
    payload = {"iss": change.member, "aud": change.issuer, "iat": change.sent_at, "keys": _pems(change.keys)}
    return jwt.encode(payload, key, ALGORITHM, headers={"typ": KEYS_TYPE})


def read_key_change(token: str, keys: Sequence[Ed25519PublicKey]) -> KeyChange:
    """A change that one of the registered keys has signed; raises :class:`SignatureRefusedError`."""
    payload = verified(token, keys, KEYS_TYPE)
    found = _keys(payload.get("keys"))
    return KeyChange(_text(payload, "iss"), _text(payload, "aud"), found, time_claim(payload, "iat"))


@dataclass(frozen=True, slots=True)
class Farewell:
    """A member leaves; ``issuer`` is the gateway's URL."""

    member: str
    issuer: str
    sent_at: float


def sign_farewell(farewell: Farewell, key: Ed25519PrivateKey) -> str:
    """A farewell as it is sent."""
    payload = {"iss": farewell.member, "aud": farewell.issuer, "iat": farewell.sent_at}
    return jwt.encode(payload, key, ALGORITHM, headers={"typ": LEAVE_TYPE})


def read_farewell(token: str, keys: Sequence[Ed25519PublicKey]) -> Farewell:
    """A farewell that one of the registered keys has signed; raises :class:`SignatureRefusedError`."""
    payload = verified(token, keys, LEAVE_TYPE)
    return Farewell(_text(payload, "iss"), _text(payload, "aud"), time_claim(payload, "iat"))


def claimed_member(token: str) -> str:
    """The member that a :class:`KeyChange` or :class:`Farewell` claims to be from; proves nothing.

    Raises :class:`SignatureRefusedError`.
    """
    try:
        payload = jwt.decode(token, options={"verify_signature": False, "verify_aud": False})
    except UNREADABLE as error:
        raise SignatureRefusedError(f"not a readable request: {error}") from error
    return _text(payload, "iss")


@dataclass(frozen=True, slots=True)
class Notice:
    """What a gateway tells a member with each report that it takes: its keys, and the member's policy there."""

    member: str
    issuer: str
    keys: tuple[Ed25519PublicKey, ...]
    policy: str
    sent_at: float


def sign_notice(notice: Notice, key: Ed25519PrivateKey) -> str:
    """A notice as it is sent."""
    payload = {
        "aud": notice.member,
        "iss": notice.issuer,
        "iat": notice.sent_at,
        "policy": notice.policy,
        "keys": _pems(notice.keys),
    }
    return jwt.encode(payload, key, ALGORITHM, headers={"typ": NOTICE_TYPE})


def read_notice(token: str, keys: Sequence[Ed25519PublicKey], *, member: str) -> Notice:
    """A notice that one of the gateway's known keys has signed for this member; raises :class:`SignatureRefusedError`.

    The keys in it take the place of the known ones: so a gateway changes its key, as long as a notice that the old key
    has signed arrives before the new one is used.
    """
    payload = verified(token, keys, NOTICE_TYPE)
    if payload.get("aud") != member:
        raise SignatureRefusedError("the notice is for another member")
    found = _keys(payload.get("keys"))
    return Notice(member, _text(payload, "iss"), found, _text(payload, "policy"), time_claim(payload, "iat"))


def _pems(keys: Sequence[Ed25519PublicKey]) -> list[str]:
    return [public_pem(key) for key in keys]


def _keys(pems: Any) -> tuple[Ed25519PublicKey, ...]:
    if not isinstance(pems, list) or not 1 <= len(pems) <= MAX_KEYS:
        raise SignatureRefusedError(f"the token bears no list of one to {MAX_KEYS} keys")
    return tuple(_key(pem) for pem in pems)


def _key(pem: Any) -> Ed25519PublicKey:
    if not isinstance(pem, str):
        raise SignatureRefusedError("the token bears no public key")
    try:
        return load_public_key(pem)
    except ValueError as error:
        raise SignatureRefusedError(f"the key in the token is {error}") from error


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or len(value) > 2048:
        raise SignatureRefusedError(f"the token's {name} is not a text")
    return value
