"""Ed25519 signatures: the gateway's on launch tokens and bans, a member's on its capacity reports.

All travel as JSON Web Tokens (RFC 7519) signed with EdDSA (RFC 8037).  A member holds only the gateway's public keys
and a gateway only the members'; several keys may be active at a time, so that they can be rotated.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contract.bans import Ban, BanError, dump_bans, parse_bans
from contract.launches import is_launch_id

ALGORITHM = "EdDSA"
LAUNCH_TYPE = "manybinder-launch+jwt"
REPORT_TYPE = "manybinder-report+jwt"
BANS_TYPE = "manybinder-bans+jwt"

#: The claims that are texts and bear the same name on the wire.
_TEXTS = (
    "provider",
    "spec",
    "repo_url",
    "resolved_ref",
    "client",
    "launch_host",
    "ref_url",
    "persistent_spec",
    "repo",
    "user",
)


_PEM_BEGIN = "-----BEGIN PUBLIC KEY-----"

#: What reading a token may raise: a header may also bring bytes that are no text, or JSON that is nested without end.
UNREADABLE = (jwt.PyJWTError, UnicodeError, RecursionError)


class SignatureRefusedError(ValueError):
    """A token that is forged, expired, for another audience or not readable; the text says which."""


class UnknownKeyError(SignatureRefusedError):
    """A token that none of the known keys has signed."""


@dataclass(frozen=True, slots=True)
class LaunchClaims:
    """What a gateway orders of a member, and until when (Unix time in seconds).

    ``spec`` is the visitor's own, percent-encoded as it came (``gh/org/repo/main``); ``resolved_ref`` the commit to
    build; ``client`` the visitor's address in the form that the member's registration allows ("" = not told).
    ``launch_host`` is the gateway's public URL, ``ref_url`` shows the commit to people, ``persistent_spec`` is the spec
    with the commit: what a session is told of its origin.  ``attempt`` counts the attempts of a launch at all members:
    a higher one begins anew what an earlier one has failed at.  ``force``: the visitor wants a build tried again that
    has failed not long ago.  ``build_only``: no session is wanted.  ``repo`` is the repository's key ("" = that of
    ``repo_url``).  ``user`` is who has logged in at the gateway, as members' Hubs call them ("" = nobody does in this
    federation, and there is no claim).
    """

    member: str
    launch_id: str
    provider: str
    spec: str
    repo_url: str
    resolved_ref: str
    issued_at: float
    expires_at: float
    client: str = ""
    launch_host: str = ""
    ref_url: str = ""
    persistent_spec: str = ""
    attempt: int = 1
    force: bool = False
    repo: str = ""
    build_only: bool = False
    user: str = ""


def load_private_key(pem: str) -> Ed25519PrivateKey:
    """Read a private key (PEM, PKCS 8); raises ``ValueError`` with a sentence."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("not a readable PEM private key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 private key")
    return key


def load_public_key(pem: str) -> Ed25519PublicKey:
    """Read a public key (PEM, SubjectPublicKeyInfo); raises ``ValueError`` with a sentence."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("not a readable PEM public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 public key")
    return key


def private_pem(key: Ed25519PrivateKey) -> str:
    """A private key as PEM (PKCS 8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(key: Ed25519PublicKey) -> str:
    """A public key as PEM (SubjectPublicKeyInfo)."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def load_public_keys(pem: str) -> tuple[Ed25519PublicKey, ...]:
    """Read one public key or several, one after the other; raises ``ValueError`` with a sentence."""
    blocks = [f"{_PEM_BEGIN}{block}" for block in pem.split(_PEM_BEGIN)[1:]]
    return tuple(load_public_key(block) for block in blocks or [pem])


def fingerprint(key: Ed25519PublicKey) -> str:
    """Names a public key: the SHA-256 of its SubjectPublicKeyInfo, in hex."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def sign_launch(claims: LaunchClaims, key: Ed25519PrivateKey) -> str:
    """The launch token of an order."""
    payload = {
        "aud": claims.member,
        "jti": claims.launch_id,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
        "provider": claims.provider,
        "spec": claims.spec,
        "repo_url": claims.repo_url,
        "resolved_ref": claims.resolved_ref,
        "client": claims.client,
        "launch_host": claims.launch_host,
        "ref_url": claims.ref_url,
        "persistent_spec": claims.persistent_spec,
        "repo": claims.repo,
        "attempt": claims.attempt,
        **({"force": True} if claims.force else {}),
        **({"build_only": True} if claims.build_only else {}),
        **({"user": claims.user} if claims.user else {}),
    }
    return jwt.encode(payload, key, ALGORITHM, headers={"typ": LAUNCH_TYPE})


def verify_launch(
    token: str, keys: Sequence[Ed25519PublicKey], *, member: str, now: float, leeway: float = 8
) -> LaunchClaims:
    """The order in a launch token, if a gateway signed it for this member and it has not expired.

    Raises :class:`SignatureRefusedError`.
    """
    payload = verified(token, keys, LAUNCH_TYPE)
    texts = {}
    for name in ("aud", "jti", *_TEXTS):
        texts[name] = payload.get(name, "")
        if not isinstance(texts[name], str):
            raise SignatureRefusedError(f"the launch token's {name} is not a text")
    issued, expires = time_claim(payload, "iat"), time_claim(payload, "exp")
    attempt = payload.get("attempt", 1)
    if not isinstance(attempt, int) or isinstance(attempt, bool) or not 1 <= attempt <= 1000:
        raise SignatureRefusedError("the launch token's attempt is not a count")
    if texts["aud"] != member:
        raise SignatureRefusedError("the launch token is for another member")
    if not is_launch_id(texts["jti"]):
        raise SignatureRefusedError("the launch token names no launch")
    if now > expires + leeway:
        raise SignatureRefusedError("the launch token has expired")
    if now < issued - leeway:
        raise SignatureRefusedError("the launch token is from the future: compare the clocks of gateway and member")
    return LaunchClaims(
        member=member,
        launch_id=texts["jti"],
        issued_at=issued,
        expires_at=expires,
        attempt=attempt,
        force=payload.get("force") is True,
        build_only=payload.get("build_only") is True,
        **{name: texts[name] for name in _TEXTS},
    )


@dataclass(frozen=True, slots=True)
class BanList:
    """The bans of a federation, for one member; ``issuer`` is the gateway's public URL.

    A list replaces the one before of the same issuer; ``issued_at`` (Unix time in seconds, when they were last changed)
    orders them.
    """

    member: str
    issuer: str
    issued_at: float
    bans: tuple[Ban, ...]


def sign_bans(bans: BanList, key: Ed25519PrivateKey) -> str:
    """A list of bans as it is sent."""
    # Why they were made is for operators.
    told = [replace(ban, reason="") for ban in bans.bans]
    payload = {"aud": bans.member, "iss": bans.issuer, "iat": bans.issued_at, "bans": dump_bans(told)}
    return jwt.encode(payload, key, ALGORITHM, headers={"typ": BANS_TYPE})


def verify_bans(token: str, keys: Sequence[Ed25519PublicKey], *, member: str, now: float, leeway: float = 8) -> BanList:
    """The bans in a token, if a gateway signed it for this member; raises :class:`SignatureRefusedError`.

    It does not expire: whoever holds a newer one of the same issuer passes an older one over.
    """
    payload = verified(token, keys, BANS_TYPE)
    issuer, issued = payload.get("iss"), time_claim(payload, "iat")
    if payload.get("aud") != member:
        raise SignatureRefusedError("the bans are for another member")
    if not isinstance(issuer, str) or not issuer:
        raise SignatureRefusedError("the bans name no issuer")
    if now < issued - leeway:
        raise SignatureRefusedError("the bans are from the future: compare the clocks of gateway and member")
    try:
        return BanList(member, issuer, issued, parse_bans(payload.get("bans")))
    except BanError as error:
        raise SignatureRefusedError(str(error)) from error


def sign_report(report: dict[str, Any], key: Ed25519PrivateKey) -> str:
    """A capacity report (:meth:`contract.reports.CapacityReport.to_wire`) as it is sent."""
    return jwt.encode(report, key, ALGORITHM, headers={"typ": REPORT_TYPE})


def reported_member(token: str) -> str:
    """The member that a report claims to be from, to look its key up; proves nothing.

    Raises :class:`SignatureRefusedError`.
    """
    try:
        member = jwt.decode(token, options={"verify_signature": False}).get("member")
    except UNREADABLE as error:
        raise SignatureRefusedError(f"not a readable report: {error}") from error
    if not isinstance(member, str):
        raise SignatureRefusedError("the report names no member")
    return member


def verify_report(token: str, keys: Sequence[Ed25519PublicKey]) -> dict[str, Any]:
    """The JSON object of a report that one of the keys has signed; raises :class:`SignatureRefusedError`."""
    return verified(token, keys, REPORT_TYPE)


def verified(token: str, keys: Sequence[Ed25519PublicKey], kind: str) -> dict[str, Any]:
    """The claims of a token of a type (``typ``) that one of the keys has signed; raises :class:`SignatureRefusedError`.

    Its times are the caller's to check.
    """
    # Times are checked by the callers, against a clock that they are given.
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}
    try:
        if jwt.get_unverified_header(token).get("typ") != kind:
            raise SignatureRefusedError(f"not a token of type {kind}")
        for key in keys:
            try:
                return jwt.decode(token, key, [ALGORITHM], options=options)
            except (jwt.InvalidSignatureError, InvalidSignature):
                continue
    except UNREADABLE as error:
        raise SignatureRefusedError(f"not a readable token: {error}") from error
    raise UnknownKeyError("the signature is not by a key that is known here")


def time_claim(payload: dict[str, Any], name: str) -> float:
    """A claim that is a Unix time in seconds; raises :class:`SignatureRefusedError`."""
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise SignatureRefusedError(f"the token's {name} is not a time")
    return float(value)
