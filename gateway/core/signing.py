"""The federation's own keys: one signs, another may be known beside it while they are rotated."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class SigningKeys:
    """``current`` signs all that members get; ``other`` is the next one, or the last one, ``None`` outside of a
    rotation."""

    def __init__(self, current: Ed25519PrivateKey, other: Ed25519PrivateKey | None = None) -> None:
        self.current, self.other = current, other

    def configure(self, current: Ed25519PrivateKey, other: Ed25519PrivateKey | None) -> None:
        """Sign with another key from now on, or know another one."""
        self.current, self.other = current, other

    @property
    def all(self) -> tuple[Ed25519PrivateKey, ...]:
        """Those that are in use, the one that signs first."""
        return (self.current,) if self.other is None else (self.current, self.other)

    @property
    def public(self) -> tuple[Ed25519PublicKey, ...]:
        """What members are told."""
        return tuple(key.public_key() for key in self.all)
