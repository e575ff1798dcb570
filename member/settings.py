"""What an operator may set of a member: one validated tree (see :mod:`servicekit.config` for the file's form)."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from contract.units import Duration, Size
from frontend.settings import SecuritySettings
from member.builder_settings import BuilderSettings, ProcessBuilderSettings
from member.registry_settings import OwnRegistrySettings
from providers.settings import ProvidersSettings
from servicekit.config import Section

LogLevel = Literal["debug", "info", "warning", "error"]


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} has a port that is no number from 0 to 65535") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not of the form http(s)://host[:port]/[path]")
    return url


class ListenSettings(Section):
    """Where the API listens."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """An address, or a name that leads to one; ``0.0.0.0`` is every interface."""

    port: int = Field(ge=1, le=65535)


class ManagedHubSettings(Section):
    """The Hub and its proxy, where this member runs them itself."""

    hub_port: int = Field(ge=1, le=65535)
    """On loopback: the Hub's own API."""

    proxy_port: int = Field(ge=1, le=65535)
    """What visitors' browsers connect to (``hub.public_url``)."""

    proxy_api_port: int = Field(ge=1, le=65535)
    """On loopback: Traefik's API."""


class HubSettings(Section):
    """The JupyterHub that runs this member's sessions."""

    url: str
    """Where this member reaches the Hub (or its proxy), with the Hub's base path."""

    public_url: str
    """Where visitors' browsers reach it."""

    api_token: SecretStr = SecretStr("")
    """Token of the Hub service that starts and stops servers; required unless the Hub is managed."""

    managed: ManagedHubSettings | None = None
    """``null`` where an operator runs the Hub."""

    request_timeout: Duration = Field(default=20.0, gt=0)
    """For one request to the Hub's API."""

    @field_validator("url", "public_url")
    @classmethod
    def _with_end_slash(cls, url: str) -> str:
        return _checked_url(url).rstrip("/") + "/"


class SessionSettings(Section):
    """What visitors' sessions may take."""

    limit: int = Field(default=10, ge=1)
    """Sessions at a time."""

    memory: Size = Field(default=2 * 2**30, gt=0)
    """Of all processes of a session together."""

    processes: int = Field(default=512, ge=16)
    """Processes and threads of one session."""

    disk: Size = Field(default=5 * 2**30, gt=0)
    """What one session may write."""

    idle_timeout: Duration = Field(default=600.0, gt=0)
    """A session in which nothing runs and that nobody uses ends after about this time."""

    max_age: Duration = Field(default=6 * 3600.0, gt=0)
    """A session ends after this time, whatever it does."""


class LaunchSettings(Section):
    """How launches pass through."""

    concurrent: int = Field(default=2, ge=1)
    """Servers that start at a time; further ones wait in the member's own queue."""

    timeout: Duration = Field(default=600.0, gt=0)
    """From a built image to a notebook server that answers."""

    linger: Duration = Field(default=60.0, ge=0)
    """How long a launch goes on that nobody watches."""

    keep_finished: Duration = Field(default=600.0, ge=0)
    """How long a finished launch can still be followed."""


class FederationSettings(Section):
    """The gateway that this member takes part in."""

    report_url: str
    """Where capacity reports go."""

    launch_keys_files: tuple[Path, ...] = Field(min_length=1)
    """Public keys (PEM, Ed25519) of the gateway; several while they are rotated."""

    report_key: SecretStr
    """This member's private key (PEM, Ed25519), which signs its reports."""

    report_interval: Duration = Field(default=3.0, gt=0)
    """Between two reports."""

    require_launch_token: bool = False
    """Whether only the gateway may start launches here."""

    @field_validator("report_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return _checked_url(url)


class MemberSettings(Section):
    """One member."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """Unique in the federation."""

    listen: ListenSettings
    """Where the API listens."""

    public_url: str
    """Where the gateway and visitors reach the API."""

    data_dir: Path
    """Everything that this member keeps; nobody else's."""

    log_level: LogLevel = "info"
    """What is logged."""

    security: SecuritySettings = SecuritySettings()
    """Who may call the API."""

    hub: HubSettings
    """The JupyterHub that runs this member's sessions."""

    builder: BuilderSettings = ProcessBuilderSettings()
    """How repositories become environments."""

    registry: OwnRegistrySettings | None = None
    """Where images are kept that other machines can pull; ``null`` keeps them in the engine alone."""

    sessions: SessionSettings = SessionSettings()
    """What visitors' sessions may take."""

    launch: LaunchSettings = LaunchSettings()
    """How launches pass through."""

    federation: FederationSettings | None = None
    """``null`` for a member that stands alone."""

    providers: ProvidersSettings = ProvidersSettings()
    """The repo providers, for visitors that come without a gateway."""

    @field_validator("public_url")
    @classmethod
    def _with_end_slash(cls, url: str) -> str:
        return _checked_url(url).rstrip("/") + "/"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @model_validator(mode="after")
    def _registry_is_of_use(self) -> Self:
        if self.registry is not None and not self.builder.named_by_registry:
            raise ValueError(
                f"registry: is of no use to the {self.builder.kind} builder, whose images no registry holds"
            )
        return self

    @property
    def image_prefix(self) -> str:
        """Begins the name of every image; an engine takes what stands before the first slash for a registry."""
        if not self.builder.named_by_registry:
            return self.builder.image_prefix
        return f"{self.registry.host if self.registry else 'localhost'}/{self.builder.image_prefix}"
