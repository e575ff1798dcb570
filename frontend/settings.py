"""What an operator may set of the public side (``security:``)."""

import secrets
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from frontend.face import FaceSettings
from frontend.site import Site
from servicekit.config import Section


class SecuritySettings(Section):
    """Who may call this service, and from where."""

    allowed_hosts: tuple[str, ...] = ()
    """Host headers that are answered, as ``host`` or ``host:port``; empty: all.  The public URL's is always allowed."""

    build_token_secret: SecretStr = SecretStr("")
    """Signs the build tokens of pages; the same for all replicas.  Empty: a new one at each start."""

    require_build_token: bool = False
    """Whether only pages of this service may start builds, and no script that calls the API by itself."""

    cors_allow_origin: str = Field(default="", pattern=r"^(\*|https?://[^/\s]+)?$")
    """The origin whose pages may call the API; ``*`` for any, empty for none."""

    confirm_cross_site: bool = False
    """Whether a link on another site shows a page with a button, instead of launching at once."""

    @field_validator("allowed_hosts")
    @classmethod
    def _lower_case(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not host or "/" in host or any(character.isspace() for character in host):
                raise ValueError(f"{host!r} is not of the form host or host:port")
        return tuple(host.lower() for host in hosts)


def make_site(
    security: SecuritySettings,
    *,
    name: str,
    public_url: str,
    version: str,
    federation: bool = False,
    about: str = "",
    banner: str = "",
    connect_origins: tuple[str, ...] = (),
    member_cookie: str = "",
    face: FaceSettings | None = None,
    plain_launches: bool = False,
) -> Site:
    """The site that these settings describe; raises ``ValueError`` if the public URL cannot be one."""
    parts = urlsplit(public_url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"public_url: {public_url!r} is not of the form http(s)://host[:port]/[path/]")
    return Site(
        name=name,
        public_url=public_url.rstrip("/") + "/",
        build_token_secret=security.build_token_secret.get_secret_value() or secrets.token_hex(32),
        version=version,
        allowed_hosts=security.allowed_hosts,
        cors_allow_origin=security.cors_allow_origin,
        require_build_token=security.require_build_token,
        confirm_cross_site=security.confirm_cross_site,
        about=about,
        banner=banner,
        federation=federation,
        connect_origins=connect_origins,
        member_cookie=member_cookie,
        face=face or FaceSettings(),
        plain_launches=plain_launches,
    )
