"""What an operator may set of container registries."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from contract.units import Duration
from servicekit.config import Section


class RegistrySettings(Section):
    """A registry, and how to get in."""

    url: str
    """``https://host[:port]``; names of images begin with the host.  ``http://`` only where the engine knows it too."""

    auth: Literal["password", "google", "ecr"] = "password"
    """``google``: Artifact Registry, with the machine's own account (needs the extra ``google``); ``ecr``: Amazon's,
    with what boto3 finds (needs the extra ``ecr``); ``password``: what follows, or nobody."""

    username: str = ""
    """Empty: nobody logs in."""

    password: SecretStr = SecretStr("")
    """Or a token, where the registry takes one for a password."""

    timeout: Duration = Field(default=4.0, gt=0)
    """For one question; a transfer of an image is the engine's business."""

    @property
    def host(self) -> str:
        """Host and port, as names of images begin."""
        return urlsplit(self.url).netloc

    @field_validator("url")
    @classmethod
    def _is_registry(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r} has a port that is no number from 0 to 65535") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or "@" in parts.netloc:
            raise ValueError(
                f"{url!r} is not of the form http(s)://host[:port]; a path belongs into builder.image_prefix"
            )
        return url


class ReadRegistrySettings(RegistrySettings):
    """A registry of somebody else's, that is only read."""

    image_prefix: str = Field(default="manybinder-", pattern=r"^[a-z0-9._/-]*$")
    """Begins the names of images there."""


class OwnRegistrySettings(RegistrySettings):
    """Where this member's images go."""

    push: bool = True
    """Whether images are pushed that were built here."""

    read_from: tuple[ReadRegistrySettings, ...] = ()
    """Registries of other members, which are asked before a build, all at once; the first that has it gives it."""
