"""Sealing: what others keep for us can be neither read nor forged by them.

Keys are derived with HKDF (RFC 5869); sealed is with AES-GCM (NIST SP 800-38D), under a random nonce, bound to what it
is for.
"""

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from contract.json_types import loads_object

_NONCE_BYTES = 12


class BrokenSealError(ValueError):
    """What was opened is not what was sealed, or was sealed under another key or for another purpose."""


class Seal:
    """Seals and opens under one key."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._cipher = AESGCM(derived(secret, purpose))

    def close(self, body: bytes, about: str) -> bytes:
        """Seal; ``about`` must be the same when it is opened."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, body, about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """Open; raises :class:`BrokenSealError`."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError) as error:
            raise BrokenSealError(f"what is kept about {about} was not sealed here") from error

    def close_cookie(self, kept: Mapping[str, Any], about: str) -> str:
        """Seal a JSON object as a cookie's value."""
        return base64.urlsafe_b64encode(self.close(json.dumps(kept).encode(), about)).decode()

    def open_cookie(self, value: str, about: str) -> dict[str, Any]:
        """Open what a browser gives back; raises ``ValueError`` for anything that was not sealed here."""
        return loads_object(self.open(base64.urlsafe_b64decode(value), about))


def derived(secret: bytes, purpose: str) -> bytes:
    """A key of 32 bytes, for one purpose."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode()).derive(secret)
