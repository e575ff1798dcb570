"""Helm, once for a run of the tests."""

from pathlib import Path

import pytest

from tests.charts.helmkit import Helm, helm_program


@pytest.fixture
def helm(tmp_path: Path, request: pytest.FixtureRequest) -> Helm:
    """A Helm that keeps its files with the test."""
    return Helm(helm_program(request.config.cache.mkdir("helm")), tmp_path)
