"""What the frontend knows of the service that shows it."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from frontend.face import FaceSettings


@dataclass(frozen=True, slots=True)
class Site:
    """One service's public side.

    ``public_url`` ends with a slash; its path is where all routes begin.  ``allowed_hosts`` are the Host headers that
    are answered (``host`` or ``host:port``; empty: all).  ``cors_allow_origin`` is the origin whose pages may call
    this service ("" = none, "*" = all).  ``require_build_token`` refuses builds that no page of this service asked
    for; ``confirm_cross_site`` wants a click before a link on another site launches.  ``about`` and ``banner`` are
    the operator's own HTML, shown as it is.  ``federation``: whether many members stand behind this service.
    ``connect_origins``: where else its pages may follow builds; ``member_cookie``: the cookie that then tells where a
    visitor was last ("" = none).  ``plain_launches``: whether visitors without JavaScript can launch, see
    :mod:`frontend.launch_page`.
    """

    name: str
    public_url: str
    build_token_secret: str
    version: str
    allowed_hosts: tuple[str, ...] = ()
    cors_allow_origin: str = ""
    require_build_token: bool = False
    confirm_cross_site: bool = False
    about: str = ""
    banner: str = ""
    federation: bool = False
    connect_origins: tuple[str, ...] = ()
    member_cookie: str = ""
    face: FaceSettings = field(default_factory=FaceSettings)
    plain_launches: bool = False

    @property
    def base_path(self) -> str:
        """The path of :attr:`public_url`, with a slash at both ends."""
        path = urlsplit(self.public_url).path.strip("/")
        return f"/{path}/" if path else "/"

    @property
    def host(self) -> str:
        """Host and port of :attr:`public_url`."""
        return urlsplit(self.public_url).netloc.lower()

    def path(self, route: str) -> str:
        """The path of a route, given without a slash at its start: ``path("about")``."""
        return self.base_path + route

    def route_of(self, raw_path: str) -> str | None:
        """The part of a path behind the base path; ``None`` for a path outside of it."""
        return raw_path.removeprefix(self.base_path) if raw_path.startswith(self.base_path) else None
