"""Helm, and what it renders of the member's chart, once for a run of the tests."""

from pathlib import Path

import pytest

from tests.charts.helmkit import Helm, helm_program
from tests.charts.memberkit import CASES, Objects, ours
from tests.charts.z2jh import member_chart


@pytest.fixture
def helm(tmp_path: Path, request: pytest.FixtureRequest) -> Helm:
    """A Helm that keeps its files with the test."""
    return Helm(helm_program(request.config.cache.mkdir("helm")), tmp_path)


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The member's chart with a Hub's; Helm takes a path as well."""
    return str(member_chart(tmp_path_factory.mktemp("charts")))


@pytest.fixture(scope="session")
def rendered() -> dict[str, Objects]:
    """Objects by the member's case."""
    return {}


@pytest.fixture
def everything(request: pytest.FixtureRequest, helm: Helm, chart: str, rendered: dict[str, Objects]) -> Objects:
    """All objects of a case of the member's, the Hub's chart's among them."""
    if request.param not in rendered:
        rendered[request.param] = helm.render(chart, **CASES[request.param])
    return rendered[request.param]


@pytest.fixture
def objects(everything: Objects) -> Objects:
    """Those that are ours."""
    return ours(everything)
