"""Redirect mode: a visitor is sent to the member itself, and this gateway sees nothing of the launch.

Failover, queue and resuming are therefore not to be had, nor are outcomes of launches a signal of health.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace

from gateway.core.decision import Decision, LaunchRequest, decide
from gateway.core.fleet import Member, Reservation
from gateway.core.launch import Visitor
from gateway.engines.means import Means
from providers.base import RepoSpec
from providers.refs import is_commit

logger = logging.getLogger(__name__)

#: Seconds after which a member's report will have counted a launch that was sent there.
COUNTED_AFTER = 30.0


class Redirects:
    """Chooses members for visitors; ``build_token_secrets`` are those of members whose build tokens are made here."""

    def __init__(self, means: Means, build_token_secrets: Mapping[str, str]) -> None:
        self._means = means
        self.build_token_secrets = build_token_secrets

    def choose(self, spec: RepoSpec, visitor: Visitor) -> tuple[Member | None, Decision]:
        """The member for a launch, which counts against its room from now on; ``None``: nobody can take it."""
        means = self._means
        now = means.fleet.now()
        commit = spec.ref if is_commit(spec.ref) else None
        request = LaunchRequest(
            spec.repo,
            commit,
            provider=spec.provider,
            client=visitor.client,
            origin=visitor.origin,
            asked=visitor.asked,
            sticky=visitor.sticky,
            avoid=visitor.avoid,
        )
        decision = decide(means.fleet.snapshot, request, means.routing, now, means.draw())
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("redirect: %s", decision.explain())
        means.decided("", decision)
        chosen = decision.chosen
        member = means.fleet.member(chosen.member) if chosen else None
        if chosen is None or member is None:
            return None, decision
        means.tallies.attempts[member.name, chosen.group] += 1
        # Nobody tells when it is counted or has failed; a report that comes later will have counted it.
        launch = Reservation(secrets.token_hex(6), spec.repo, commit or "", made_at=now)
        means.fleet.reserve(member.name, replace(launch, ready_at=now + COUNTED_AFTER))
        return member, decision
