"""What the documentation names is there: links and anchors, settings, metrics, alerts, files."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.settings import GatewaySettings
from member.settings import MemberSettings
from servicekit.schema import settings_schema

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path for pattern in ("*.md", "docs/*.md", "charts/*/README.md", "config/*.md") for path in ROOT.glob(pattern)
)
SETTINGS = {"gateway": settings_schema(GatewaySettings, ""), "member": settings_schema(MemberSettings, "")}

#: What looks like one: names of files, values of zero-to-jupyterhub's chart, a group of Kubernetes' API.
NO_SETTING = re.compile(
    r".*\.(?:conf|json|jsonl|jsonl\.1|nix|py|sqlite3|toml|txt|ya?ml)|(?:jupyterhub|cull)\..*|coordination\.k8s\.io"
)


def _without_blocks(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)


def _spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", _without_blocks(text))


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _without_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def _paths(schema: Mapping[str, Any], node: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Every path in a JSON Schema, in any of the kinds that there are; ``*`` is any name."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    for option in (*node.get("anyOf", []), *node.get("oneOf", []), *node.get("allOf", [])):
        yield from _paths(schema, option, before)
    for name, child in node.get("properties", {}).items():
        yield f"{before}.{name}"
        yield from _paths(schema, child, f"{before}.{name}")
    if "items" in node:
        yield from _paths(schema, node["items"], before)


def _values(tree: Any, before: str = "") -> Iterator[str]:
    """Every path in a chart's values."""
    for name, child in (tree or {}).items() if isinstance(tree, dict) else ():
        yield f"{before}.{name}"
        yield from _values(child, f"{before}.{name}")


@pytest.fixture(scope="module")
def named() -> set[str]:
    """Every path of a setting or a chart's value, from each of its names on (``.slots``, ``.builder.slots``)."""
    paths = {path for schema in SETTINGS.values() for path in _paths(schema, schema)}
    paths |= {f".config{path}" for path in paths}
    for chart in (ROOT / "charts").glob("*/values.schema.yaml"):
        schema = yaml.safe_load(chart.read_text())
        paths |= {*_paths(schema, schema), *_values(yaml.safe_load(chart.with_name("values.yaml").read_text()))}
    return {path[at:] for path in paths for at, letter in enumerate(path) if letter == "."}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_is_one_that_there_is(page: Path, named: set[str]) -> None:
    assert {".builder.slots", ".config.hub.public_url", ".redis.maxMemory"} <= named
    assert ".builder.sluts" not in named
    for span in _spans(page.read_text()):
        # Values of a chart have capitals; elsewhere names that have some are not ours.
        part = r"[a-z]\w*" if page.parent.name in ("gateway", "member") else "[a-z][a-z0-9_]*"
        name = re.match(rf"({part}(?:(?:\[\])?\.{part})+)(?:: .*)?$", span)
        if name and not NO_SETTING.fullmatch(name[1]):
            assert f".{name[1].replace('[]', '')}" in named, span


def _as_a_part(node: Any) -> Any:
    """A schema that takes a part of the settings: nothing is required."""
    if isinstance(node, list):
        return [_as_a_part(item) for item in node]
    if not isinstance(node, dict):
        return node
    # Which of a secret and its file is given is asked in this way too.
    return {name: _as_a_part(child) for name, child in node.items() if name not in ("required", "allOf")}


def test_every_example_of_settings_is_a_part_of_them() -> None:
    parts = [Draft202012Validator(_as_a_part(schema)) for schema in SETTINGS.values()]
    assert not any(part.is_valid({"builder": {"kind": "process", "slot": 1}}) for part in parts)
    seen = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            tree = yaml.safe_load(block)
            if tree.keys() & {"config", "singleuser"}:
                # Values of charts, which have tests of their own.
                continue
            seen += 1
            assert any(part.is_valid(tree) for part in parts), f"{page.name}: {block}"
    assert seen > 8


def test_every_metric_is_measured_and_every_alert_is_told_what_to_do_about() -> None:
    code = "".join(path.read_text() for name in ("gateway", "member") for path in (ROOT / name).rglob("*.py"))
    measured = set(re.findall(r'"((?:binderhub|manybinder|federation)_[a-z_]+)"', code))
    seen = 0
    for page in PAGES:
        for name in re.findall(r"\b(?:binderhub|manybinder|federation)_[a-z_]+\b(?!\.py)", page.read_text()):
            seen += 1
            assert name in measured or name.removesuffix("_total") in measured, f"{page.name}: {name}"
    assert seen > 10
    rules = yaml.safe_load((ROOT / "config" / "alerts.yaml").read_text())
    table = (ROOT / "docs" / "operators.md").read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([A-Z][A-Za-z]+)`", table))
    assert told == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


def test_every_file_of_the_project_that_is_named_is_there() -> None:
    top = "benchmarks|charts|config|contract|docs|frontend|gateway|images|member|providers|servicekit|tests"
    for page in PAGES:
        for span in _spans(page.read_text()):
            if re.fullmatch(rf"(?:{top})/[\w./-]*", span):
                assert (ROOT / span).exists(), f"{page.name}: {span}"
