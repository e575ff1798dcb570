"""An operator's rules of specs: BinderHub's, held against every spelling."""

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.registry import Providers
from providers.rules import SpecQuota, SpecRules
from providers.settings import ProvidersSettings
from servicekit.config import ConfigError, Section, parse


def rules(**fields: object) -> SpecRules:
    return SpecRules.model_validate(fields)


@pytest.mark.parametrize(
    ("spec", "banned"),
    [
        ("org/repo/main", True),
        ("ORG/Repo/main", True),
        ("org/repo.git/main", True),
        ("org%2Frepo/main", True),
        ("%6Frg/repo/main", True),
        ("org/repo2/main", False),
        ("other/org/repo/main", False),
    ],
)
def test_a_banned_spec_has_no_other_spelling(spec: str, banned: bool) -> None:
    assert rules(banned_specs=["never", r"^org/repo(/|$)"]).bans(spec) is banned


def test_only_what_is_allowed_and_not_banned_is_launched() -> None:
    both = rules(allowed_specs=["org/.*", r"https%3A%2F%2Fgit\.example\.org%2F.*"], banned_specs=["org/bad/"])
    assert not both.bans("org/repo/main")
    assert not both.bans("https%3A%2F%2Fgit.example.org%2Frepo/main")
    assert both.bans("org/bad/main")
    assert both.bans("other/repo/main")
    assert not rules().bans("anything")


def test_the_last_rule_of_quotas_counts() -> None:
    made = rules(
        high_quota_specs=["^org/"],
        spec_config=[
            {"pattern": "^org/.*", "config": {"quota": 10}},
            {"pattern": "^org/course/.*", "config": {"quota": 200}},
            {"pattern": "^org/course/any", "config": {"quota": None}},
            {"pattern": "^org/.*", "config": {}},
        ],
    )
    assert made.quota("ORG/repo/main") == SpecQuota(higher=True, given=True, limit=10)
    assert made.quota("org/course/main") == SpecQuota(higher=True, given=True, limit=200)
    assert made.quota("org/course/any") == SpecQuota(higher=True, given=True, limit=None)
    assert made.quota("other/repo/main") == SpecQuota()


class Tree(Section):
    """A service's settings, as far as they matter here."""

    providers: ProvidersSettings = ProvidersSettings()


def test_what_is_no_regular_expression_is_told_with_its_path() -> None:
    text = (
        "schema: 1\nproviders:\n  gh:\n    banned_specs: [good, '(']\n    allowed_specs: ['[']\n"
        "  zenodo:\n    high_quota_specs: ['*']\n  git:\n    spec_config: [{pattern: '(?P<', config: {quota: -1}}]\n"
        "  figshare:\n    api_url: ftp://x\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse(Tree, text, "test", {})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "providers.gh.allowed_specs[0]",
        "providers.gh.banned_specs[1]",
        "providers.git.spec_config[0].pattern",
        "providers.git.spec_config[0].config.quota",
        "providers.zenodo.high_quota_specs[0]",
        "providers.figshare.api_url",
    ]
    assert "is not a regular expression" in caught.value.problems[1]


async def test_a_provider_that_is_switched_off_is_none(http: aiohttp.ClientSession) -> None:
    settings = ProvidersSettings.model_validate({"git": {"enabled": False}, "gl": {"banned_specs": ["bad"]}})
    providers = Providers(settings, http)
    assert "git" not in providers.prefixes
    assert [item["id"] for item in providers.descriptions()] == list(providers.prefixes)
    assert providers.bans("gl/bad%2Frepo/main")
    assert not providers.bans("git/bad/main")
    await providers.close()


@given(st.text(max_size=40))
def test_no_spec_breaks_a_rule(spec: str) -> None:
    strict = rules(allowed_specs=["a+"], banned_specs=["b"], spec_config=[{"pattern": "c", "config": {"quota": 1}}])
    assert isinstance(strict.bans(spec), bool)
    assert strict.quota(spec).limit in (None, 1)
