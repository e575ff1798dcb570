"""What an operator may set of the repo providers."""

from typing import Annotated, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from yarl import URL

from contract.units import Duration
from providers.rules import SpecRules
from servicekit.config import Section


def _checked_url(text: str) -> str:
    try:
        url = URL(text)
        good = url.scheme in ("http", "https") and bool(url.host) and url.user is None and not url.query_string
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"{text[:200]!r} is not of the form http(s)://host[:port]/[path]")
    return text.rstrip("/")


#: The address of a server, without an end slash.
ServerURL = Annotated[str, AfterValidator(_checked_url)]

_HOST_PATTERN = r"^[A-Za-z0-9.-]+(:\d+)?$"


def _checked_credentials(text: SecretStr) -> SecretStr:
    """In the form of git-credential(1); BinderHub's configurations write the line ends as two characters."""
    lines = text.get_secret_value().replace("\\n", "\n").strip().splitlines()
    given = dict(line.partition("=")[::2] for line in lines)
    if lines and (given.keys() != {"username", "password"} or len(lines) != 2 or not all(given.values())):
        raise ValueError("is not of the form username=…, and on the next line (or behind \\n) password=…")
    return SecretStr("\n".join(lines))


#: ``username=…`` and ``password=…``, each on a line of its own.
CredentialText = Annotated[SecretStr, AfterValidator(_checked_credentials)]


class GitHubSettings(SpecRules):
    """GitHub, or a GitHub Enterprise server."""

    host: str = Field(default="github.com", pattern=_HOST_PATTERN)
    """The host that repositories are cloned from."""

    api_url: str = Field(default="", pattern=r"^(https?://.+)?$")
    """The base of the API; by default that of ``host`` (an Enterprise server: ``https://<host>/api/v3``)."""

    access_token: SecretStr = SecretStr("")
    """Raises the API's quota from 60 to 5000 requests an hour."""

    client_id: str = ""
    """An OAuth application instead of a token; needs ``client_secret`` too."""

    client_secret: SecretStr = SecretStr("")

    app_id: str = ""
    """A GitHub App instead (its App ID or client ID); needs the next two as well."""

    app_private_key: SecretStr = SecretStr("")
    """The app's private key (RSA, PEM)."""

    app_installation_id: int | None = Field(default=None, ge=1)
    """Which of its installations signs in."""

    git_credentials: CredentialText = SecretStr("")
    """With which builds clone from ``host``: ``username=…`` and ``password=…``, a line each, as BinderHub's setting of
    this name.  Private repositories are then for everybody who may launch here."""

    timeout: Duration = Field(default=10.0, gt=0)
    """For one request to the API, in all."""

    @property
    def api_base(self) -> str:
        """The base of the API, without an end slash."""
        if self.api_url:
            return self.api_url.rstrip("/")
        return "https://api.github.com" if self.host == "github.com" else f"https://{self.host}/api/v3"

    @model_validator(mode="after")
    def _whole_credentials(self) -> "GitHubSettings":
        if bool(self.client_id) != bool(self.client_secret.get_secret_value()):
            raise ValueError("client_id and client_secret go together: give both, or none")
        key = self.app_private_key.get_secret_value()
        if len({bool(self.app_id), bool(key), self.app_installation_id is not None}) > 1:
            raise ValueError("app_id, app_private_key and app_installation_id go together: give all, or none")
        return self

    @field_validator("app_private_key")
    @classmethod
    def _is_rsa(cls, key: SecretStr) -> SecretStr:
        if key.get_secret_value():
            try:
                loaded = load_pem_private_key(key.get_secret_value().encode(), password=None)
            except (ValueError, TypeError, UnsupportedAlgorithm) as error:
                raise ValueError("not a readable PEM private key without a password") from error
            if not isinstance(loaded, RSAPrivateKey):
                raise ValueError("not an RSA key")
        return key


class GistSettings(SpecRules):
    """GitHub's gists; the API and its credentials are those of ``gh``."""

    host: str = Field(default="gist.github.com", pattern=_HOST_PATTERN)
    """The host that gists are cloned from."""

    allow_secret_gist: bool = False
    """Whether a secret gist may be launched by those who know its address."""


class GitLabSettings(SpecRules):
    """GitLab.com, or a GitLab server of one's own."""

    host: str = Field(default="gitlab.com", pattern=_HOST_PATTERN)
    """The host that repositories are cloned from."""

    api_url: str = Field(default="", pattern=r"^(https?://.+)?$")
    """The server's address, below which the API is (``/api/v4``); by default ``https://<host>``."""

    access_token: SecretStr = SecretStr("")
    """An OAuth 2 access token; raises the API's limits."""

    private_token: SecretStr = SecretStr("")
    """A personal, project or group access token with the scope ``read_api``, instead."""

    git_credentials: CredentialText = SecretStr("")
    """With which builds clone from ``host``: ``username=…`` and ``password=…``, a line each, as BinderHub's setting of
    this name.  Private repositories are then for everybody who may launch here."""

    timeout: Duration = Field(default=10.0, gt=0)
    """For one question, in all."""

    @property
    def base(self) -> str:
        """The server's address, without an end slash."""
        return self.api_url.rstrip("/") or f"https://{self.host}"


class GitServerCredentials(Section):
    """What one Git server wants."""

    url: ServerURL
    """The server (``https://git.example.org``): no other one gets them."""

    username: str = Field(min_length=1, pattern=r"^[^\n\r]+$")
    """Whatever goes with a token there, as ``git`` or ``oauth2``."""

    password: SecretStr = Field(min_length=1)
    """A password, or a token."""

    @field_validator("password")
    @classmethod
    def _is_one_line(cls, password: SecretStr) -> SecretStr:
        if "\n" in password.get_secret_value() or "\r" in password.get_secret_value():
            raise ValueError("is more than one line")
        return password

    @property
    def text(self) -> str:
        """In the form of git-credential(1)."""
        return f"username={self.username}\npassword={self.password.get_secret_value()}"


class GitSettings(SpecRules):
    """Any Git server."""

    allowed_protocols: frozenset[str] = frozenset({"http", "https", "git", "ssh"})
    """URL schemes that a repository may be reached by."""

    allow_private_addresses: bool = False
    """Whether a repository may be on this machine or in an internal network.

    Where strangers can launch, that would let them reach the services behind your firewall.
    """

    timeout: Duration = Field(default=20.0, gt=0)
    """For asking a server for its refs, in all."""

    git_credentials: tuple[GitServerCredentials, ...] = ()
    """With which refs are looked up and builds clone, by server.  Private repositories are then for everybody who may
    launch here."""

    concurrent: int = Field(default=8, ge=1)
    """So many servers are asked at a time; each takes a process and up to a GiB of memory.  Further ones wait."""


class ZenodoSettings(SpecRules):
    """Zenodo, and other servers of its software (InvenioRDM)."""

    urls: tuple[ServerURL, ...] = Field(
        default=("https://zenodo.org", "https://sandbox.zenodo.org", "https://data.caltech.edu"), min_length=1
    )
    """The servers that a DOI may lead to."""

    timeout: Duration = Field(default=20.0, gt=0)
    """For one question, in all."""


class FigshareSettings(SpecRules):
    """Figshare, its portals of institutions among it."""

    api_url: ServerURL = "https://api.figshare.com/v2"
    """The base of the API."""

    timeout: Duration = Field(default=20.0, gt=0)
    """For one question, in all."""


class DataverseSettings(SpecRules):
    """Any Dataverse that a DOI leads to."""

    allow_private_addresses: bool = False
    """Whether a Dataverse may be on this machine or in an internal network."""

    timeout: Duration = Field(default=20.0, gt=0)
    """For one question, in all."""


class HydroShareSettings(SpecRules):
    """HydroShare."""

    url: ServerURL = "https://www.hydroshare.org"
    """The server."""

    timeout: Duration = Field(default=20.0, gt=0)
    """For one question, in all."""


class CKANSettings(SpecRules):
    """Datasets of any CKAN."""

    allow_private_addresses: bool = False
    """Whether a CKAN may be on this machine or in an internal network."""

    timeout: Duration = Field(default=20.0, gt=0)
    """For one question, in all."""


class SoftwareHeritageSettings(SpecRules):
    """The Software Heritage archive."""

    url: ServerURL = "https://archive.softwareheritage.org"
    """The archive."""

    access_token: SecretStr = SecretStr("")
    """A bearer token of the archive; raises its quota from 120 to 1200 requests an hour."""

    timeout: Duration = Field(default=20.0, gt=0)
    """For one question, in all."""


class ProvidersSettings(Section):
    """All repo providers."""

    gh: GitHubSettings = GitHubSettings()
    gist: GistSettings = GistSettings()
    git: GitSettings = GitSettings()
    gl: GitLabSettings = GitLabSettings()
    zenodo: ZenodoSettings = ZenodoSettings()
    figshare: FigshareSettings = FigshareSettings()
    dataverse: DataverseSettings = DataverseSettings()
    hydroshare: HydroShareSettings = HydroShareSettings()
    ckan: CKANSettings = CKANSettings()
    swh: SoftwareHeritageSettings = SoftwareHeritageSettings()

    doi_url: ServerURL = "https://doi.org"
    """The resolver of DOIs."""

    ref_ttl: Duration = Field(default=60.0, ge=0)
    """How long a branch or tag that was looked up counts as current."""

    commit_ttl: Duration = Field(default=86400.0, ge=0)
    """How long a commit that was looked up by its own id is remembered."""

    cache_size: int = Field(default=10_000, ge=1)
    """At most so many answers are kept."""

    def without_rules(self) -> dict[str, Any]:
        """The settings but for the rules of specs."""
        rules = SpecRules.model_fields.keys() - {"enabled"}
        named = {name: value for name, value in self if not isinstance(value, SpecRules)}
        return named | {
            name: value.model_dump(exclude=set(rules)) for name, value in self if isinstance(value, SpecRules)
        }
