"""The JSON Schema of settings says what the settings say, and what the examples show."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from contract.units import format_duration, format_exact_size, parse_duration, parse_size
from manybinder.cli import cli

CONFIG = Path(__file__).parents[2] / "config"


def schema_of(service: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [service, "--schema"])
    assert result.exit_code == 0, result.output
    schema: dict[str, Any] = json.loads(result.output)
    Draft202012Validator.check_schema(schema)
    return schema


def example(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((CONFIG / f"{name}.yaml").read_text())
    # A section of which every line is commented out has its defaults.
    return without_nothing(tree)


def without_nothing(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: without_nothing(value) for key, value in tree.items() if value is not None}
    return [without_nothing(item) for item in tree] if isinstance(tree, list) else tree


def problems(service: str, tree: dict[str, Any]) -> list[str]:
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in Draft202012Validator(schema_of(service)).iter_errors(tree)
    ]


@pytest.mark.parametrize(
    "name", [path.stem for service in ("gateway", "member") for path in sorted(CONFIG.glob(f"{service}*.yaml"))]
)
def test_each_commented_example_is_an_instance(name: str) -> None:
    assert problems(name.partition("-")[0], example(name)) == []


def test_what_the_program_refuses_the_schema_refuses() -> None:
    good = example("member")
    for path, value in (
        ("schema", 2),
        ("nonsense", 1),
        ("launch.timeout", "10"),
        ("launch.timeout", 10),
        ("sessions.memory", "2 gigabytes"),
        ("sessions.limit", "many"),
        ("builds.nonsense", 1),
        ("federation.report_key", "both, and the file"),
    ):
        tree = json.loads(json.dumps(good))
        section, _, name = path.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
        assert problems("member", tree), path
    tree = json.loads(json.dumps(good))
    del tree["federation"]["report_key_file"]
    assert problems("member", tree)
    tree["federation"]["report_key"] = "the key itself"
    assert problems("member", tree) == []


@pytest.mark.parametrize("service", ["member", "gateway"])
def test_each_default_is_as_it_would_be_written(service: str) -> None:
    schema = schema_of(service)
    count = 0
    for field in fields(schema):
        if field.get("default") is None:
            continue
        count += 1
        validator = Draft202012Validator({**field, "$defs": schema["$defs"]})
        assert not list(validator.iter_errors(field["default"])), field
    assert count > 40


def fields(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "properties":
                yield from value.values()
            yield from fields(value)
    elif isinstance(node, list):
        for item in node:
            yield from fields(item)


@given(st.integers(0, 10**12))
def test_a_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-3)


@given(st.integers(0, 2**53))
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert parse_size(format_exact_size(size)) == size


def test_units_for_people() -> None:
    assert [format_duration(value) for value in (0, 0.5, 60, 5400, 14 * 86400)] == ["0s", "500ms", "1m", "1h30m", "14d"]
    assert [format_exact_size(value) for value in (0, 1000, 2**29, 3 * 2**30)] == ["0", "1000", "512Mi", "3Gi"]
