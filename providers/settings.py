"""What an operator may set of the repo providers."""

from pydantic import Field, SecretStr

from contract.units import Duration
from servicekit.config import Section


class GitHubSettings(Section):
    """GitHub, or a GitHub Enterprise server."""

    host: str = Field(default="github.com", pattern=r"^[A-Za-z0-9.-]+(:\d+)?$")
    """The host that repositories are cloned from."""

    api_url: str = Field(default="", pattern=r"^(https?://.+)?$")
    """The base of the API; by default that of ``host`` (an Enterprise server: ``https://<host>/api/v3``)."""

    access_token: SecretStr = SecretStr("")
    """Raises the API's quota from 60 to 5000 requests an hour."""

    client_id: str = ""
    """An OAuth application instead of a token; needs ``client_secret`` too."""

    client_secret: SecretStr = SecretStr("")

    timeout: Duration = Field(default=10.0, gt=0)
    """For one request to the API, in all."""

    @property
    def api_base(self) -> str:
        """The base of the API, without an end slash."""
        if self.api_url:
            return self.api_url.rstrip("/")
        return "https://api.github.com" if self.host == "github.com" else f"https://{self.host}/api/v3"


class GitSettings(Section):
    """Any Git server."""

    allowed_protocols: frozenset[str] = frozenset({"http", "https", "git", "ssh"})
    """URL schemes that a repository may be reached by."""

    allow_private_addresses: bool = False
    """Whether a repository may be on this machine or in an internal network.

    Where strangers can launch, that would let them reach the services behind your firewall.
    """

    timeout: Duration = Field(default=20.0, gt=0)
    """For asking a server for its refs, in all."""


class ProvidersSettings(Section):
    """All repo providers."""

    gh: GitHubSettings = GitHubSettings()
    git: GitSettings = GitSettings()

    ref_ttl: Duration = Field(default=60.0, ge=0)
    """How long a branch or tag that was looked up counts as current."""

    commit_ttl: Duration = Field(default=86400.0, ge=0)
    """How long a commit that was looked up by its own id is remembered."""

    cache_size: int = Field(default=10_000, ge=1)
    """At most so many answers are kept."""
