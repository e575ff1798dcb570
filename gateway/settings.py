"""The gateway's settings: one tree, checked as a whole."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from contract.addresses import ClientForm, IPNetwork, networks
from contract.signatures import load_private_key, load_public_keys
from contract.units import Duration
from frontend.face import FaceSettings
from frontend.settings import SecuritySettings
from gateway.admin_settings import AdminSettings
from gateway.core import origins
from gateway.core.admission import AdmissionSettings, admission_problems
from gateway.core.decision import routing_problems
from gateway.core.fleet import Member
from gateway.core.launch_events import ArchiveSettings
from gateway.core.settings import (
    EjectionSettings,
    FederationSettings,
    JoiningSettings,
    LaunchSettings,
    PositiveDuration,
    ProbeSettings,
    RoutingSettings,
)
from gateway.login_settings import VisitorsSettings, is_sent_to
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
    """The public key of its capacity reports (PEM); two, one after the other, while it is rotated.  Without one its
    reports are refused and its capacity is unknown."""

    max_sessions: int | None = Field(default=None, ge=1)
    """No more sessions are believed of it in all, whatever it reports."""

    max_images: int | None = Field(default=None, ge=0)
    """No more images are believed to be there, whatever it reports."""

    @field_validator("report_key")
    @classmethod
    def _readable(cls, key: SecretStr) -> SecretStr:
        if key.get_secret_value():
            load_public_keys(key.get_secret_value())
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
            max_sessions=self.max_sessions,
            max_images=self.max_images,
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

    face: FaceSettings = FaceSettings()
    """How pages look: logo, colours, links, own HTML and templates."""

    security: SecuritySettings = SecuritySettings()

    mode: Literal["proxy", "redirect"] = "proxy"
    """``proxy``: launches pass through this gateway, which moves one that a member fails to the next.  ``redirect``: a
    visitor is sent to a member, which is cheap, and a failure there ends the launch."""

    signing_key: SecretStr
    """The private key that signs launch tokens (Ed25519, PEM); give it as ``signing_key_file``."""

    other_signing_key: SecretStr = SecretStr("")
    """While the key is rotated: the next one, so that members learn of it, and then the last one.  Give it as
    ``other_signing_key_file``."""

    joining: JoiningSettings = JoiningSettings()

    members: tuple[MemberSettings, ...] = ()

    probes: ProbeSettings = ProbeSettings()

    ejection: EjectionSettings = EjectionSettings()

    routing: RoutingSettings = RoutingSettings()

    launch: LaunchSettings = LaunchSettings()

    admission: AdmissionSettings = AdmissionSettings()

    admin: AdminSettings = AdminSettings()

    visitors: VisitorsSettings = VisitorsSettings()

    archive: ArchiveSettings = ArchiveSettings()

    providers: ProvidersSettings = ProvidersSettings()

    drain: DrainSettings = DrainSettings()

    redis: RedisSettings | None = None
    """Where several replicas of this gateway meet; without it there can be one only."""

    @property
    def security_for_all_hosts(self) -> SecuritySettings:
        """``security``, with the operators' own host among those that are answered."""
        hosts = self.security.allowed_hosts
        if not hosts or not self.admin.public_url:
            return self.security
        return self.security.model_copy(
            update={"allowed_hosts": (*hosts, urlsplit(self.admin.public_url).netloc.lower())}
        )

    @property
    def federation(self) -> FederationSettings:
        """What can be tuned while the gateway runs."""
        return FederationSettings(self.probes, self.ejection, self.launch, self.routing)

    @property
    def report_keys(self) -> dict[str, list[Ed25519PublicKey]]:
        """The public keys of members' reports."""
        given = {member.name: member.report_key.get_secret_value() for member in self.members}
        return {name: list(load_public_keys(key)) for name, key in given.items() if key}

    @property
    def build_token_secrets(self) -> dict[str, str]:
        """The secrets of the build tokens that are made here for members, by member."""
        given = {member.name: member.build_token_secret.get_secret_value() for member in self.members}
        return {name: secret for name, secret in given.items() if secret}

    @property
    def signing_keys(self) -> tuple[Ed25519PrivateKey, Ed25519PrivateKey | None]:
        """The key that signs, and the other one while it is rotated."""
        other = self.other_signing_key.get_secret_value()
        return load_private_key(self.signing_key.get_secret_value()), load_private_key(other) if other else None

    @field_validator("signing_key", "other_signing_key")
    @classmethod
    def _readable(cls, key: SecretStr, info: ValidationInfo) -> SecretStr:
        if key.get_secret_value() or info.field_name == "signing_key":
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
        ours, theirs = urlsplit(self.public_url), urlsplit(self.admin.public_url)
        same_host = theirs.netloc == urlsplit(origins.origin(self.public_url)).netloc
        if self.admin.public_url and (theirs.path != ours.path or same_host):
            raise ValueError(f"admin: public_url must be on another host than public_url, with the path {ours.path}")
        if self.visitors.oidc is not None:
            if self.mode == "redirect":
                raise ValueError("visitors: oidc is for mode proxy; in mode redirect members log their own in")
            if others := [member.name for member in self.members if member.kind != "manybinder"]:
                raise ValueError(f"visitors: oidc: {others[0]} is a BinderHub, which cannot be told who has logged in")
            for member in self.members:
                if any(is_sent_to(origin, self.public_url) for origin in member.member().origins):
                    raise ValueError(
                        f"visitors: oidc: sessions of {member.name} are on {ours.hostname}, as public_url is, so that"
                        " browsers would send visitors' logins to them too: give them a host name of their own"
                        " (origins), or public_url a path of its own"
                    )
        if self.launch.connect_timeout > self.launch.first_event_timeout:
            raise ValueError("launch: connect_timeout is longer than first_event_timeout, which includes it")
        return self


def load(path: Path) -> GatewaySettings:
    """Read the settings; raises :class:`servicekit.config.ConfigError` with every problem that there is."""
    return config.load(GatewaySettings, path)
