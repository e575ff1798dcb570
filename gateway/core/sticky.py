"""Where a visitor was last, as a cookie tells it; used where the gateway does not see how launches end.

The gateway notes a member when it sends a visitor there, and the launch page notes that the launch became ready.  Who
comes again for the same repository without that note has had a failure there, and that outranks stickiness: otherwise
each refresh would meet the same broken member again.
"""

import hashlib
from dataclasses import dataclass

from contract.repos import RepoKey

#: What the launch page replaces by the other one (see ``launch.js``).
SENT, READY = "sent", "ready"

#: Seconds for which a browser keeps it.
LIFETIME = 4 * 3600


@dataclass(frozen=True, slots=True)
class LastMember:
    """The cookie's content: a member, whether a launch there was seen to become ready, and a digest of its repo."""

    member: str
    state: str
    repo: str

    def to_text(self) -> str:
        """As the cookie bears it."""
        return f"{self.member}~{self.state}~{self.repo}"

    def sticky(self) -> str:
        """The member to return to; "" = none."""
        return self.member if self.state == READY else ""

    def avoid(self, repo: RepoKey) -> frozenset[str]:
        """The member that has just failed a launch of this repository, if any."""
        failed = self.state == SENT and self.repo == digest(repo)
        return frozenset({self.member}) if failed else frozenset()


def cookie_name(public_url: str) -> str:
    """The cookie's name; over https it is such that no other host can set it (RFC 6265bis, section 4.1.3.2)."""
    return ("__Host-" if public_url.startswith("https://") else "") + "manybinder-member"


def sent(member: str, repo: RepoKey) -> LastMember:
    """What is noted when a visitor is sent to a member."""
    return LastMember(member, SENT, digest(repo))


def parse(text: str) -> LastMember | None:
    """Read a cookie; ``None`` for one that cannot be read: the visitor may have written anything there."""
    parts = text.split("~")
    if len(parts) != 3 or parts[1] not in (SENT, READY):
        return None
    return LastMember(*parts)


def digest(repo: RepoKey) -> str:
    """Eight characters that tell one repository of a visitor from another."""
    return hashlib.sha256(repo.encode(errors="surrogateescape")).hexdigest()[:8]
