"""Sealing: what the shared state holds can be neither read nor forged by whoever holds the store.

What belongs to a launch is sealed under a key that comes from its id, which only its visitor and the replicas that
serve them know; so the store holds no usable notebook token.  What replicas tell each other is sealed under a key that
comes from the federation's signing key, which they all have.
"""

import contextlib
import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.signing import SigningKeys
from servicekit.sealing import BrokenSealError, Seal, derived


def launch_seal(launch_id: str) -> Seal:
    """The seal of a launch's events."""
    return Seal(bytes.fromhex(launch_id), "manybinder launch events")


def launch_key(launch_id: str) -> str:
    """What names a launch in the store; gives no access to it."""
    return derived(bytes.fromhex(launch_id), "manybinder launch name").hex()


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


class Pseudonyms:
    """Names for what the store should not hold: equal ones for equal texts, that nobody else can make or read back."""

    def __init__(self, signing_key: Ed25519PrivateKey) -> None:
        self._key = derived(signing_key.private_bytes_raw(), "manybinder pseudonyms")

    def __call__(self, text: str) -> str:
        """The name for a text; "" for ""."""
        return hmac.digest(self._key, text.encode(errors="replace"), "sha256")[:16].hex() if text else ""
