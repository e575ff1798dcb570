"""How many sessions there may be: in all, of one repository, and what a provider's rules say of it."""

from pathlib import Path
from typing import Any

import pytest

from contract.events import Failure, Phase
from contract.repos import RepoKey, repo_key
from member.core.quotas import Full, SessionLimits, refusal
from providers.base import NO_RULE, SpecQuota
from tests.member.member_harness import build_request, order
from tests.member.web_harness import SPEC, member_of

REPO = repo_key("https://git.example/org/repo")
HIGHER, NONE, FIVE = SpecQuota(higher=True), SpecQuota(given=True), SpecQuota(given=True, limit=5)


def sessions(count: int, repo: str = REPO) -> dict[str, RepoKey]:
    return {f"{repo}-{n}": RepoKey(repo) for n in range(count)}


@pytest.mark.parametrize(
    ("ruled", "there", "refused"),
    [
        (NO_RULE, 1, False),
        (NO_RULE, 2, True),
        (HIGHER, 3, False),
        (HIGHER, 4, True),
        (FIVE, 4, False),
        (FIVE, 5, True),
        (NONE, 9, False),
    ],
)
def test_a_repository_has_the_limit_that_is_ruled(ruled: SpecQuota, there: int, refused: bool) -> None:
    limits = SessionLimits(total=10, per_repo=2, per_repo_higher=4)
    why = refusal(order(quota=ruled), "me", sessions(there), limits)
    expected = Full("Too many users running https://git.example/org/repo! Try again soon.\n", for_all=False)
    assert why == (expected if refused else None)


def test_the_total_counts_first_and_nobody_is_counted_twice() -> None:
    limits = SessionLimits(total=3)
    assert refusal(order(), "me", sessions(2, "a/b"), limits) is None
    expected = Full("Too many users on this BinderHub! Try again soon.\n", for_all=True)
    assert refusal(order(), "me", sessions(3, "a/b"), limits) == expected
    mine = {**sessions(2, "a/b"), "me": REPO}
    assert refusal(order(quota=SpecQuota(given=True, limit=1)), "me", mine, limits) is None


async def test_rules_of_a_provider_count_at_the_member(tmp_path: Path) -> None:
    rules: dict[str, Any] = {
        "high_quota_specs": ["^org/course"],
        "spec_config": [{"pattern": "^org/repo", "config": {"quota": 1}}],
    }
    async with member_of(tmp_path, rules=rules, engine={"per_repo": 2}) as member:
        member.engines.hub.server("other", repo_url=build_request("repo").repo_url)
        (*_, last) = await member.events(member.bearer(member.claims(spec=SPEC.replace("Org", "org"))))
        assert last[1].failure == Failure.REFUSED
        assert last[1].message.startswith("Too many users running")
        for name in ("course", "third"):
            for n in range(2):
                member.engines.hub.server(f"{name}-{n}", repo_url=build_request(name).repo_url)
            claims = member.claims(spec=f"gh/org/{name}/main", repo_url=build_request(name).repo_url)
            (*_, last) = await member.events(member.bearer(claims))
            assert last[1].phase == (Phase.READY if name == "course" else Phase.FAILED)
