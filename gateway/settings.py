"""The gateway's settings: one tree, checked as a whole."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from contract.signatures import load_private_key, load_public_key
from contract.units import Duration
from frontend.settings import SecuritySettings
from gateway.core import origins
from gateway.core.addresses import ClientForm, IPNetwork, networks
from gateway.core.admission import AdmissionSettings, admission_problems
from gateway.core.decision import routing_problems
from gateway.core.fleet import Member
from gateway.core.launch_events import ArchiveSettings
from gateway.core.settings import (
    EjectionSettings,
    FederationSettings,
    LaunchSettings,
    PositiveDuration,
    ProbeSettings,
    RoutingSettings,
)
from providers.settings import ProvidersSettings
from servicekit import config
from servicekit.config import Section


def _base_url(url: str) -> str:
    """A base URL with a slash at its end."""
    try:
        origins.origin(url)
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from error
    if urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError(f"{url!r}: has a query or a fragment")
    return url.rstrip("/") + "/"


def _origin(url: str) -> str:
    try:
        found = origins.origin(url)
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from error
    if urlsplit(url).path.strip("/") or urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError(f"{url!r}: is more than an origin (write {found})")
    return found


#: The least characters of an operator's token.
TOKEN_LENGTH = 24

BaseUrl = Annotated[str, AfterValidator(_base_url)]
Origin = Annotated[str, AfterValidator(_origin)]


class ListenSettings(Section):
    """Where the gateway listens."""

    host: str = "127.0.0.1"
    """An address of this machine; 0.0.0.0 = all of them."""

    port: int = Field(default=8585, ge=0, le=65535)

    trusted_proxies: tuple[str, ...] = ()
    """Networks of the proxies in front (``10.0.0.0/8``): what their X-Forwarded-For says of a visitor's address is
    believed.  Without it, a visitor is who has connected."""

    reuse_port: bool = False
    """Whether other processes may listen on the same port (SO_REUSEPORT), so that replicas share what comes."""

    @property
    def trusted_networks(self) -> tuple[IPNetwork, ...]:
        """``trusted_proxies``, read."""
        return networks(self.trusted_proxies)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        networks(proxies)
        return proxies


class AdminTokenSettings(Section):
    """Who may decide for the federation, while the gateway runs."""

    name: str = Field(pattern=r"^[A-Za-z0-9@._-]{1,64}$")
    """Whose it is: stands in the audit log."""

    token: SecretStr
    """At least 24 characters, from a random source; give it as ``token_file``."""

    @field_validator("token")
    @classmethod
    def _long(cls, token: SecretStr) -> SecretStr:
        if len(token.get_secret_value()) < TOKEN_LENGTH:
            raise ValueError(f"is shorter than {TOKEN_LENGTH} characters (try: openssl rand -hex 32)")
        return token


class AdminSettings(Section):
    """The API for operators (``/api/v1/admin``)."""

    tokens: tuple[AdminTokenSettings, ...] = ()
    """Empty: the API answers nobody."""

    @field_validator("tokens")
    @classmethod
    def _unique(cls, tokens: tuple[AdminTokenSettings, ...]) -> tuple[AdminTokenSettings, ...]:
        names = [token.name for token in tokens]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the name {twice[0]!r} is given to more than one token")
        return tokens


class DrainSettings(Section):
    """How a gateway ends after SIGTERM; SIGINT, or a second SIGTERM, ends it at once."""

    notice: Duration = 0.0
    """For so long it serves on as before, but says that it is not ready: until whoever sends visitors has heard."""

    timeout: Duration = 1800.0
    """Then it takes no new connections, and waits so long for open streams to end.  What is left then goes on at
    another replica, if there is a Redis."""


class MemberSettings(Section):
    """One member."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
    """Names it for people, in the API and in launch tokens; lower-case letters, digits, dots and hyphens."""

    url: BaseUrl
    """Where the gateway reaches it."""

    kind: Literal["manybinder", "binderhub"] = "manybinder"
    """What it runs: a member of manybinder, or any BinderHub, which is driven through its public API."""

    weight: float = Field(default=1.0, ge=0, le=1e6, allow_inf_nan=False)
    """Its size beside the others', on top of its free capacity; 0 = takes no launches."""

    client_addresses: ClientForm = "full"
    """What it is told of visitors' addresses: ``full``; ``truncated`` to their networks (/24, /48); ``hashed``, so that
    it can tell visitors apart; or ``none``.  It can end sessions of banned networks by what it is told only."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Whatever helps to tell members apart; shown, and on top of what the member says of itself."""

    origins: tuple[Origin, ...] = ()
    """Where its notebooks may be served from (``https://hub.example.org``); empty: the origin of ``url``."""

    providers: tuple[str, ...] = ()
    """Whose repositories it takes (``gh``, ``git``); empty: those that it reports, or all."""

    build_token_secret: SecretStr = SecretStr("")
    """Of a BinderHub: its ``build_token_secret``; without it a token is fetched from a page of it for each launch.  In
    redirect mode of any member that requires build tokens: they are made here, for visitors who come from a page."""

    report_key: SecretStr = SecretStr("")
    """The public key of its capacity reports (PEM); without one its reports are refused and its capacity is unknown."""

    @field_validator("report_key")
    @classmethod
    def _readable(cls, key: SecretStr) -> SecretStr:
        if key.get_secret_value():
            load_public_key(key.get_secret_value())
        return key

    def member(self) -> Member:
        """The member as the rules know it."""
        return Member(
            name=self.name,
            url=self.url,
            kind=self.kind,
            weight=self.weight,
            labels=self.labels,
            origins=self.origins or (origins.origin(self.url),),
            providers=self.providers,
            client_form=self.client_addresses,
        )


class RedisSettings(Section):
    """A Redis (7 or later) or Valkey that all replicas of this gateway reach."""

    url: str = Field(pattern=r"^(rediss?://|unix://)")
    """``redis://host:6379/0``, ``rediss://…`` with TLS, or ``unix:///path``.  With Sentinel, its host is not used, and
    ``rediss`` holds for the Sentinels as well."""

    username: str = ""
    """The ACL user."""

    password: SecretStr = SecretStr("")
    """Give it as ``password_file``."""

    ca_file: Path | None = None
    """Certificates to check a server's against, for ``rediss://``; the system's if not given."""

    prefix: str = "manybinder:"
    """What every key begins with."""

    timeout: PositiveDuration = 1.0
    """For each step; after one that takes longer, the gateway goes on without Redis for a moment."""

    sentinels: tuple[str, ...] = ()
    """``host:port`` of each Sentinel; empty: ``url`` is the server itself."""

    sentinel_service: str = "mymaster"
    """The name under which the Sentinels know the server."""

    sentinel_password: SecretStr = SecretStr("")
    """The Sentinels' own; give it as ``sentinel_password_file``."""

    @field_validator("sentinels")
    @classmethod
    def _addresses(cls, sentinels: tuple[str, ...]) -> tuple[str, ...]:
        for text in sentinels:
            host, colon, port = text.rpartition(":")
            if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"{text!r} is not of the form host:port")
        return sentinels


class GatewaySettings(Section):
    """All of them."""

    listen: ListenSettings = ListenSettings()

    public_url: BaseUrl
    """Where visitors reach the gateway; its path is where all routes begin."""

    name: str = Field(default="manybinder", min_length=1, max_length=100)
    """The federation's name, shown on pages."""

    data_dir: Path
    """For what outlives a restart."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    about: str = ""
    """The operator's own HTML for the page "About", shown as it is."""

    banner: str = ""
    """The operator's own HTML at the head of every page, shown as it is."""

    security: SecuritySettings = SecuritySettings()

    mode: Literal["proxy", "redirect"] = "proxy"
    """``proxy``: launches pass through this gateway, which moves one that a member fails to the next.  ``redirect``: a
    visitor is sent to a member, which is cheap, and a failure there ends the launch."""

    signing_key: SecretStr
    """The private key that signs launch tokens (Ed25519, PEM); give it as ``signing_key_file``."""

    members: tuple[MemberSettings, ...] = ()

    probes: ProbeSettings = ProbeSettings()

    ejection: EjectionSettings = EjectionSettings()

    routing: RoutingSettings = RoutingSettings()

    launch: LaunchSettings = LaunchSettings()

    admission: AdmissionSettings = AdmissionSettings()

    admin: AdminSettings = AdminSettings()

    archive: ArchiveSettings = ArchiveSettings()

    providers: ProvidersSettings = ProvidersSettings()

    drain: DrainSettings = DrainSettings()

    redis: RedisSettings | None = None
    """Where several replicas of this gateway meet; without it there can be one only."""

    @property
    def federation(self) -> FederationSettings:
        """What can be tuned while the gateway runs."""
        return FederationSettings(self.probes, self.ejection, self.launch, self.routing)

    @property
    def report_keys(self) -> dict[str, list[Ed25519PublicKey]]:
        """The public keys of members' reports."""
        given = {member.name: member.report_key.get_secret_value() for member in self.members}
        return {name: [load_public_key(key)] for name, key in given.items() if key}

    @property
    def build_token_secrets(self) -> dict[str, str]:
        """The secrets of the build tokens that are made here for members, by member."""
        given = {member.name: member.build_token_secret.get_secret_value() for member in self.members}
        return {name: secret for name, secret in given.items() if secret}

    @field_validator("signing_key")
    @classmethod
    def _readable(cls, key: SecretStr) -> SecretStr:
        load_private_key(key.get_secret_value())
        return key

    @field_validator("routing")
    @classmethod
    def _known_policy(cls, routing: RoutingSettings) -> RoutingSettings:
        if problems := routing_problems(routing):
            raise ValueError("; ".join(problems))
        return routing

    @field_validator("admission")
    @classmethod
    def _readable_rules(cls, admission: AdmissionSettings) -> AdmissionSettings:
        if problems := admission_problems(admission):
            raise ValueError("; ".join(problems))
        return admission

    @field_validator("members")
    @classmethod
    def _unique(cls, members: tuple[MemberSettings, ...]) -> tuple[MemberSettings, ...]:
        problems = []
        for what in ("name", "url"):
            values = [getattr(member, what) for member in members]
            twice = sorted({value for value in values if values.count(value) > 1})
            problems += [f"the {what} {value!r} is given to more than one member" for value in twice]
        if problems:
            raise ValueError("; ".join(problems))
        return members

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.launch.connect_timeout > self.launch.first_event_timeout:
            raise ValueError("launch: connect_timeout is longer than first_event_timeout, which includes it")
        return self


def load(path: Path) -> GatewaySettings:
    """Read the settings; raises :class:`servicekit.config.ConfigError` with every problem that there is."""
    return config.load(GatewaySettings, path)
