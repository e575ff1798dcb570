"""The alerting rules: they name what the gateway's log and metrics name."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.units import parse_duration
from gateway.core.alerts import AlertName
from gateway.core.log import TRANSITION_NAMES
from tests.gateway.harness import Starter

RULES = Path(__file__).parents[2] / "config" / "alerts.yaml"
CASES = Path(__file__).with_name("alerts_test.yaml")

#: States that nobody needs to be told of: all is well, or well again by itself in a moment.
QUIET = {"available", "half_open"}

#: What stands in an expression and is no metric.
WORDS = {"min", "max", "sum", "rate", "increase", "by", "member", "reason", "alert", "outcome"}


def rules() -> dict[str, dict[str, Any]]:
    """The rules by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in found}) == len(found)
    return {rule["alert"]: rule for rule in found}


def test_each_state_that_needs_somebody_has_an_alert_of_the_transitions_name() -> None:
    found = rules()
    by_state = {match[1]: name for name, rule in found.items() if (match := re.search(r'reason="(\w+)"', rule["expr"]))}
    assert by_state == {state: name for state, name in TRANSITION_NAMES.items() if state not in QUIET}
    by_name = {
        match[1]: name for name, rule in found.items() if (match := re.search(r'[{,]alert="(\w+)"', rule["expr"]))
    }
    assert by_name == {name.value: name.value for name in AlertName}


def test_the_file_has_the_form_that_prometheus_reads() -> None:
    tree = yaml.safe_load(RULES.read_text())
    assert tree.keys() == {"groups"}
    assert all(group.keys() == {"name", "rules"} for group in tree["groups"])
    for name, rule in rules().items():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name)
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert parse_duration(rule.get("for", "0s")) >= 0
        assert rule["expr"].count("(") == rule["expr"].count(")")


async def test_every_metric_in_a_rule_is_one_of_the_gateways(start: Starter) -> None:
    gateway = await start.gateway(1)
    async with gateway.http.get(f"{gateway.url}metrics") as response:
        text = await response.text()
    known = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    # What counts is called so in the text format of Prometheus, and not in its own.
    known |= {f"{name}_total" for name in known}
    for name, rule in rules().items():
        expression = re.sub(r'"[^"]*"|\d+[smhd]\b', "", rule["expr"])
        used = set(re.findall(r"[a-z_]{3,}", expression)) - WORDS
        assert used, name
        assert used <= known, name


async def test_promtool_agrees(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool on PATH")
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES.read_text().replace("RULES", str(RULES)))
    for arguments in (("check", "rules", str(RULES)), ("test", "rules", str(cases))):
        process = await asyncio.create_subprocess_exec(
            promtool, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0, out.decode()
