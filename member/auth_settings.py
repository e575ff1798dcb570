"""The settings of a member whose visitors log in (``auth:``, and ``hub.managed.authenticator:``)."""

from typing import Any

from pydantic import Field, SecretStr, field_validator

from servicekit.config import Section

_TRAIT = r"^[A-Za-z_]\w*\.[A-Za-z_]\w*$"


class AuthSettings(Section):
    """How visitors log in at the Hub, and what they may have there."""

    service: str = Field(default="binder", pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")
    """This member's name among the Hub's services; visitors need the Hub's scope access:services!service=<name>."""

    oauth_client_id: str = Field(default="", pattern=r"^(service-.+)?$")
    """As in the Hub's configuration of the service; "" = service-<service>."""

    use_named_servers: bool = False
    """Whether a user may have several servers, one for each launch, instead of one."""

    named_server_limit_per_user: int = Field(default=0, ge=0)
    """With named servers: how many a user may have; 0: any number."""

    @property
    def client_id(self) -> str:
        """``oauth_client_id``, or what the Hub makes of the service's name."""
        return self.oauth_client_id or f"service-{self.service}"


class AuthenticatorSecret(Section):
    """One secret of an authenticator's configuration."""

    trait: str = Field(pattern=_TRAIT)
    """Of which class and trait it is (``GenericOAuthenticator.client_secret``)."""

    secret: SecretStr
    """Give it as ``secret_file``."""


class AuthenticatorSettings(Section):
    """Who may log in at the Hub that this member runs: any authenticator that is installed beside it."""

    name: str = Field(min_length=1)
    """As ``JupyterHub.authenticator_class`` takes it: a short name (``generic-oauth``) or a class."""

    config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By class and trait, as in a jupyterhub_config.py (``{Authenticator: {allow_all: true}}``)."""

    secrets: tuple[AuthenticatorSecret, ...] = ()
    """What of it is secret."""

    @field_validator("name")
    @classmethod
    def _lets_somebody_in(cls, name: str) -> str:
        # JupyterHub takes short names in any case.
        if name.lower() == "null" or name == "jupyterhub.auth.NullAuthenticator":
            raise ValueError(f"{name} lets nobody log in")
        return name

    @property
    def traits(self) -> dict[str, dict[str, Any]]:
        """``config`` with the secrets in it."""
        found = {owner: dict(traits) for owner, traits in self.config.items()}
        for item in self.secrets:
            owner, _, trait = item.trait.partition(".")
            found.setdefault(owner, {})[trait] = item.secret.get_secret_value()
        return found
