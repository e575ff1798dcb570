"""What operators want of a member, as the records say it."""

from gateway.core.fleet import Policy
from gateway.core.records import POLICY, SUSPENSION, Book, Change


def wanted_policy(book: Book, member: str) -> Policy:
    """Active where no record says anything, or one that is not understood."""
    if member in book.of(SUSPENSION):
        return Policy.SUSPENDED
    record = book.of(POLICY).get(member)
    try:
        return Policy(str((record.value or {}).get("policy"))) if record else Policy.ACTIVE
    except ValueError:
        return Policy.ACTIVE


def policy_changes(book: Book, member: str, policy: Policy) -> list[Change]:
    """What to write so that ``policy`` is what is wanted of a member."""
    if policy is Policy.SUSPENDED:
        return [Change(SUSPENSION, member, {"policy": policy.value})]
    ended = [Change(SUSPENSION, member, None)] if member in book.of(SUSPENSION) else []
    return [Change(POLICY, member, {"policy": policy.value} if policy is not Policy.ACTIVE else None), *ended]
