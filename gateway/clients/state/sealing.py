"""Sealing: what the shared state holds can be neither read nor forged by whoever holds the store.

What belongs to a launch is sealed under a key that comes from its id, which only its visitor and the replicas that
serve them know; so the store holds no usable notebook token.  What replicas tell each other is sealed under a key that
comes from the federation's signing key, which they all have.  Keys are derived with HKDF (RFC 5869); sealed is with
AES-GCM (NIST SP 800-38D), under a random nonce, bound to what it is for.
"""

import contextlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.core.signing import SigningKeys

_NONCE_BYTES = 12


class BrokenSealError(ValueError):
    """What was opened is not what was sealed, or was sealed under another key or for another purpose."""


class Seal:
    """Seals and opens under one key."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._cipher = AESGCM(_derived(secret, purpose))

    def close(self, body: bytes, about: str) -> bytes:
        """Seal; ``about`` must be the same when it is opened."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, body, about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """Open; raises :class:`BrokenSealError`."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError) as error:
            raise BrokenSealError(f"what the shared state holds about {about} is not from a replica") from error


def launch_seal(launch_id: str) -> Seal:
    """The seal of a launch's events."""
    return Seal(bytes.fromhex(launch_id), "manybinder launch events")


def launch_key(launch_id: str) -> str:
    """What names a launch in the store; gives no access to it."""
    return _derived(bytes.fromhex(launch_id), "manybinder launch name").hex()


class FederationSeal(Seal):
    """The seal of what replicas tell each other: closes under the key that signs, opens under any that is in use.

    So replicas understand each other while their key is rotated, whichever of them has the new one already.
    """

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys
        self._seals: dict[bytes, Seal] = {}

    def close(self, body: bytes, about: str) -> bytes:
        """Seal; ``about`` must be the same when it is opened."""
        return self._of(self._keys.current).close(body, about)

    def open(self, sealed: bytes, about: str) -> bytes:
        """Open; raises :class:`BrokenSealError`."""
        *others, last = self._keys.all
        for key in others:
            with contextlib.suppress(BrokenSealError):
                return self._of(key).open(sealed, about)
        return self._of(last).open(sealed, about)

    def _of(self, key: Ed25519PrivateKey) -> Seal:
        secret = key.private_bytes_raw()
        if secret not in self._seals:
            self._seals[secret] = Seal(secret, "manybinder replicas")
        return self._seals[secret]


def _derived(secret: bytes, purpose: str) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode()).derive(secret)


class Pseudonyms:
    """Names for what the store should not hold: equal ones for equal texts, that nobody else can make or read back."""

    def __init__(self, signing_key: Ed25519PrivateKey) -> None:
        self._key = _derived(signing_key.private_bytes_raw(), "manybinder pseudonyms")

    def __call__(self, text: str) -> str:
        """The name for a text; "" for ""."""
        return hmac.digest(self._key, text.encode(errors="replace"), "sha256")[:16].hex() if text else ""
