"""What an operator may set of a member: one validated tree (see :mod:`servicekit.config` for the file's form)."""

import ipaddress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from contract.addresses import IPNetwork, networks
from contract.units import Duration, Size
from frontend.face import FaceSettings
from frontend.settings import SecuritySettings
from member.admission_settings import AdmissionSettings
from member.auth_settings import AuthenticatorSettings, AuthSettings
from member.builder_settings import BuilderSettings, ProcessBuilderSettings
from member.core.membership import federation_name, issuer_of
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


def is_loopback(host: str | None) -> bool:
    """Whether a host, without a port, is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class ListenSettings(Section):
    """Where the API listens."""

    host: str = "127.0.0.1"
    """An address, or a name that leads to one; ``0.0.0.0`` is every interface, empty every one of IPv4 and IPv6."""

    port: int = Field(ge=1, le=65535)

    trusted_proxies: tuple[str, ...] = ()
    """Networks of the proxies in front (``10.0.0.0/8``): what their X-Forwarded-For says of a visitor's address is
    believed, and in front of a managed Hub their X-Forwarded-Proto too.  Without it, a visitor is who has connected."""

    @property
    def trusted_networks(self) -> tuple[IPNetwork, ...]:
        """``trusted_proxies``, read."""
        return networks(self.trusted_proxies)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        networks(proxies)
        return proxies


class ManagedHubSettings(Section):
    """The Hub and its proxy, where this member runs them itself."""

    hub_port: int = Field(ge=1, le=65535)
    """On loopback: the Hub's own API."""

    proxy_port: int = Field(ge=1, le=65535)
    """What visitors' browsers connect to (``hub.public_url``)."""

    proxy_api_port: int = Field(ge=1, le=65535)
    """On loopback: Traefik's API."""

    authenticator: AuthenticatorSettings | None = None
    """With ``auth_enabled``: who may log in."""


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


class BuildsSettings(Section):
    """How builds wait, are held back, and what is kept of them."""

    per_repo: int | None = Field(default=None, ge=1)
    """Builds of one repository at a time; ``null``: one fewer than ``builder.slots``, and at least one."""

    queue: int = Field(default=100, ge=1)
    """Builds that may wait for a slot; further ones are refused."""

    queue_timeout: Duration = Field(default=1800.0, gt=0)
    """How long a build may wait for a slot."""

    grace: Duration = Field(default=10.0, ge=0)
    """How long a build goes on that nobody waits for any more."""

    hold: Duration = Field(default=60.0, ge=0)
    """How long a commit that failed to build is not built again; twice as long after each further failure."""

    hold_most: Duration = Field(default=3600.0, ge=0)
    """And at most so long."""

    logs_disk: Size = Field(default=256 * 2**20, gt=0)
    """All logs of builds together; beyond that the oldest ones go."""

    logs_max_age: Duration = Field(default=7 * 86400.0, gt=0)
    """A log goes after this time."""


class SessionSettings(Section):
    """What visitors' sessions may take."""

    limit: int = Field(default=10, ge=1)
    """Sessions at a time."""

    per_repo: int | None = Field(default=None, ge=1)
    """Sessions of one repository at a time; ``null``: any number."""

    per_repo_higher: int | None = Field(default=None, ge=1)
    """Of one repository whose spec is among its provider's ``high_quota_specs``; ``null``: any number."""

    max_load: float | None = Field(default=None, gt=0)
    """The load average of a minute for each core beyond which no room for sessions is told; ``null``: whatever."""

    min_free_disk: Size = Field(default=2**30, ge=0)
    """With less disk free than this the member takes no launches; 0: it always does."""

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


class HookSettings(Section):
    """Asked before each launch: the operator's own command, or a function of theirs, or both."""

    command: tuple[str, ...] = ()
    """Gets the launch as one JSON object on its standard input.  Exit status 0: go on; 1: refuse, with what it prints
    as the words for the visitor; any other: the command has failed, and so has the launch."""

    python: str = Field(default="", pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$")
    """``module:function``, called with the launch as a dictionary; may be a coroutine function.  What it returns is
    what the visitor is told, and ends the launch; ``None``: go on."""

    timeout: Duration = Field(default=10.0, gt=0)
    """For both together."""


class LaunchSettings(Section):
    """How launches pass through."""

    concurrent: int = Field(default=2, ge=1)
    """Servers that start at a time; further ones wait in the member's own queue."""

    timeout: Duration = Field(default=600.0, gt=0)
    """From a built image to a notebook server that answers, with all retries."""

    retries: int = Field(default=1, ge=0, le=10)
    """How often a server is started again whose start has failed."""

    retry_delay: Duration = Field(default=2.0, ge=0)
    """Before the first of these; twice as long before each further one."""

    hook: HookSettings = HookSettings()
    """Asked before each launch; without a command and a function nothing is."""

    linger: Duration = Field(default=60.0, ge=0)
    """How long a launch goes on that nobody watches."""

    keep_finished: Duration = Field(default=600.0, ge=0)
    """How long a finished launch can still be followed."""


class FederationSettings(Section):
    """A gateway that this member takes part in, and is registered with in that gateway's configuration.

    Federations that this member joins (``manybinder member join``) do not stand here.
    """

    member: str = Field(default="", pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
    """This member's name there; "" = ``name``."""

    share: float = Field(default=1.0, gt=0, le=1)
    """How much of this member's sessions are for it."""

    clock_leeway: Duration = Field(default=8.0, gt=0)
    """How far the gateway's clock may be from ours: a launch token that is off by more is refused."""

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


class JoinedSettings(Section):
    """Federations that this member joins (``manybinder member join``)."""

    report_interval: Duration = Field(default=3.0, gt=0)
    """Between two reports."""

    clock_leeway: Duration = Field(default=8.0, gt=0)
    """How far a gateway's clock may be from ours: a launch token that is off by more is refused."""

    secret: str = Field(default="", pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")
    """A Secret in the member's own namespace that keeps what belongs to them, keys and all, for all its replicas, with
    ``builder.kind`` kubernetes; "" = the data directory does."""


class ReplicasSettings(Section):
    """One of several replicas of a member in a cluster; its Leases are in ``builder.namespace``.

    Both differ from replica to replica: they come from the pod itself, by environment variables.
    """

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?$")
    """The pod's."""

    host: str = Field(min_length=1)
    """The pod's address, at which the other replicas reach this one (at ``listen.port``)."""


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

    enable_api_only_mode: bool = False
    """As in BinderHub: no pages are served, and ``?build_only=true`` builds without launching."""

    face: FaceSettings = FaceSettings()
    """How pages look: logo, colours, links, own HTML and templates."""

    auth_enabled: bool = False
    """As in BinderHub: visitors log in at the Hub, and sessions are theirs (``jupyterhub-singleuser``)."""

    auth: AuthSettings = AuthSettings()
    """How visitors log in, where they do."""

    security: SecuritySettings = SecuritySettings()
    """Who may call the API."""

    hub: HubSettings
    """The JupyterHub that runs this member's sessions."""

    builder: BuilderSettings = ProcessBuilderSettings()
    """How repositories become environments."""

    registry: OwnRegistrySettings | None = None
    """Where images are kept that other machines can pull; ``null`` keeps them in the engine alone."""

    admission: AdmissionSettings = AdmissionSettings()
    """Who may launch here."""

    builds: BuildsSettings = BuildsSettings()
    """How builds wait, are held back, and what is kept of them."""

    sessions: SessionSettings = SessionSettings()
    """What visitors' sessions may take."""

    launch: LaunchSettings = LaunchSettings()
    """How launches pass through."""

    federation: FederationSettings | None = None
    """``null`` for a member that stands alone, or has joined its federations."""

    federations: tuple[FederationSettings, ...] = ()
    """In the place of ``federation``: several, with a share for each."""

    joined: JoinedSettings = JoinedSettings()
    """For all federations that this member joins."""

    replicas: ReplicasSettings | None = None
    """``null`` for a member that is one process."""

    providers: ProvidersSettings = ProvidersSettings()
    """The repo providers, for visitors that come without a gateway."""

    @property
    def all_federations(self) -> tuple[tuple[str, FederationSettings], ...]:
        """Every federation of the settings, with the setting that it stands in."""
        if self.federation is not None:
            return (("federation", self.federation),)
        return tuple((f"federations[{n}]", item) for n, item in enumerate(self.federations))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.federation is not None and self.federations:
            raise ValueError("federations: excludes federation: give one of them")
        if (total := sum(item.share for item in self.federations)) > 1 + 1e-9:
            raise ValueError(f"federations: their shares come to {total:g}, and there is 1 to share")
        names = [federation_name(issuer_of(item.report_url)) for item in self.federations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"federations: {twice[0]} is there more than once")
        return self

    @field_validator("public_url")
    @classmethod
    def _with_end_slash(cls, url: str) -> str:
        return _checked_url(url).rstrip("/") + "/"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @model_validator(mode="after")
    def _logins_fit(self) -> Self:
        authenticator = self.hub.managed.authenticator if self.hub.managed else None
        if not self.auth_enabled:
            if authenticator is not None:
                raise ValueError("hub.managed.authenticator: is for auth_enabled: true")
            return self
        if self.hub.managed is not None and authenticator is None:
            raise ValueError("hub.managed.authenticator: is missing: auth_enabled needs to know who may log in")
        if self.hub.managed is not None and self.builder.kind == "container":
            raise ValueError(
                "auth_enabled: needs, with builder.kind container, a JupyterHub of your own that containers can reach:"
                " hub.managed listens on loopback"
            )
        own, hub = urlsplit(self.public_url), urlsplit(self.hub.public_url)
        if own.hostname == hub.hostname and f"{hub.path}user/".startswith(own.path) and not is_loopback(own.hostname):
            raise ValueError(
                f"hub.public_url: is on {hub.hostname}, as public_url is, so that browsers would send visitors' logins"
                " to sessions too: give it a host name of its own, or public_url a path of its own"
            )
        return self

    @model_validator(mode="after")
    def _registry_is_of_use(self) -> Self:
        if self.registry is not None and not self.builder.named_by_registry:
            raise ValueError(f"registry: is for builder.kind container, and builder.kind is {self.builder.kind}")
        return self

    @model_validator(mode="after")
    def _credentials_are_of_use(self) -> Self:
        for name, provider in (("gh", self.providers.gh), ("gl", self.providers.gl)):
            if provider.git_credentials.get_secret_value() and self.builder.kind == "kubernetes":
                raise ValueError(
                    f"providers.{name}.git_credentials: a kubernetes builder's pods take what they clone with from a"
                    " Secret: builder.git_credentials_secret"
                )
        return self

    @model_validator(mode="after")
    def _replicas_have_a_cluster(self) -> Self:
        if self.replicas is not None and self.builder.kind != "kubernetes":
            raise ValueError(f"replicas: is for builder.kind kubernetes, and builder.kind is {self.builder.kind}")
        if self.joined.secret and self.builder.kind != "kubernetes":
            raise ValueError(f"joined.secret: is for builder.kind kubernetes, and builder.kind is {self.builder.kind}")
        return self

    @property
    def image_prefix(self) -> str:
        """Begins the name of every image; an engine takes what stands before the first slash for a registry."""
        if not self.builder.named_by_registry:
            # Environments with jupyterhub-singleuser in them are not those without it.
            return f"{self.builder.image_prefix}{'hub-' if self.auth_enabled else ''}"
        return f"{self.registry.host if self.registry else 'localhost'}/{self.builder.image_prefix}"
