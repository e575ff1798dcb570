"""Pure rules of a launch: the order, the Hub's user for it, what is told."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from contract.journal import Journal
from contract.launches import short
from contract.repos import RepoKey
from providers.base import NO_RULE, SpecQuota

#: Characters of a user name that come from the launch id: 60 bits.
_SUFFIX = 12

#: What a direct visitor of a full member is told to wait; sessions end by themselves at about this pace.
RETRY_AFTER_S = 60.0


class Outcome(StrEnum):
    """What became of a launch."""

    READY = "ready"
    #: The visitor's or the repository's failure.
    USER = "user"
    MEMBER = "member"
    REFUSED = "refused"
    #: By its visitor.
    CANCELLED = "cancelled"
    #: Nobody watched it any more.
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """What is to be launched, resolved; the words are those of the ``ready`` event.

    ``spec`` is the visitor's own with its provider, ``persistent_spec`` the same with the commit, both percent-encoded;
    ``launch_host`` the public URL of the service that the visitor came to.  ``attempt`` is the gateway's count: a
    higher one begins anew what an earlier one has failed at.  ``build_only``: no session is wanted; ``force``: a build
    that has failed not long ago is to be tried again; ``quota``: what this member's rules of specs say of the number of
    sessions.  ``with_token``: it came from a page of this member; ``request_origin`` is its Origin.  ``user`` is who
    has logged in; "" where nobody does, and a session has a user of its own.  ``issued_at``: when it was given (Unix
    time in seconds).
    """

    launch_id: str
    spec: str
    repo: RepoKey
    repo_url: str
    commit: str
    image: str
    launch_host: str
    ref_url: str = ""
    persistent_spec: str = ""
    client_ip: str = ""
    attempt: int = 1
    build_only: bool = False
    force: bool = False
    quota: SpecQuota = NO_RULE
    with_token: bool = False
    request_origin: str = ""
    user: str = ""
    issued_at: float = 0.0


@dataclass
class Launch:
    """One launch as engines and web see it; ``order.launch_id`` gives access to it and is never logged or shown whole.

    Engines write all fields but ``watchers``, which counts the streams that read the journal.  ``server`` is the name
    of its server at the Hub, "" for its user's default one.
    """

    order: LaunchOrder
    user: str
    server: str = ""
    journal: Journal = field(default_factory=Journal)
    outcome: Outcome | None = None
    begun_at: float = 0.0
    finished_at: float | None = None
    watchers: int = 0
    unwatched_since: float = 0.0
    retries: int = 0
    """How often the Hub was asked again for its server."""

    @property
    def short(self) -> str:
        """What may be shown of its id."""
        return short(self.order.launch_id)

    @property
    def key(self) -> str:
        """What names its server among all."""
        return server_key(self.user, self.server)

    @property
    def user_stays(self) -> bool:
        """Whether its user is a person's, who was there before it and will be afterwards."""
        return self.order.user != ""


def server_key(user: str, server: str) -> str:
    """Names a server among all of a Hub: the user, and the server's name if it has one."""
    return f"{user}/{server}" if server else user


def user_name(repo_url: str, launch_id: str, attempt: int = 1) -> str:
    """The Hub's user for a launch: the repository's path by BinderHub's rule, then what the launch id gives.

    One attempt of a launch has one user, so a replayed order meets the Hub's 409 instead of a second session; and a
    later attempt none of what an earlier one has left.  The id cannot be told from the name.
    """
    path = urlsplit(repo_url).path if "://" in repo_url else repo_url
    name = re.sub(r"[^a-z0-9]+", "-", path.strip("/").removesuffix(".git").lower()).strip("-") or "repo"
    if len(name) > 32:
        name = f"{name[:15]}-{name[-15:]}"
    which = launch_id if attempt == 1 else f"{launch_id}.{attempt}"
    digest = hashlib.sha256(b"hub user of " + which.encode()).digest()
    return f"{name}-{base64.b32encode(digest).decode().lower()[:_SUFFIX]}"


def is_launch_name(server: str) -> bool:
    """Whether a named server can be a launch's (:func:`user_name`): a Hub of the operator's has others too."""
    return re.fullmatch(rf"[a-z0-9-]+-[a-z2-7]{{{_SUFFIX}}}", server) is not None


def owner_of(order: LaunchOrder, *, named_servers: bool) -> tuple[str, str]:
    """The Hub's user for a launch and the name of its server; ``named_servers``: who has logged in may have several."""
    own = user_name(order.repo_url, order.launch_id, order.attempt)
    if not order.user:
        return own, ""
    return order.user, own if named_servers else ""


def user_options(order: LaunchOrder, token: str) -> dict[str, str]:
    """What the Hub's spawner is given, under BinderHub's names; ``repo`` is for who counts sessions."""
    return {"image": order.image, "token": token, "repo": order.repo, **binder_fields(order)}


def binder_fields(order: LaunchOrder) -> dict[str, str]:
    """The fields that user options and the ``ready`` event share."""
    return {
        "repo_url": order.repo_url,
        "binder_ref_url": order.ref_url,
        "binder_launch_host": order.launch_host,
        "binder_request": f"v2/{order.spec}",
        "binder_persistent_request": f"v2/{order.persistent_spec}",
        "binder_client_ip": order.client_ip,
    }


def ready_fields(order: LaunchOrder, url: str, token: str) -> dict[str, Any]:
    """The fields of the ``ready`` event."""
    return {"image": order.image, "url": url, "token": token, **binder_fields(order)}
