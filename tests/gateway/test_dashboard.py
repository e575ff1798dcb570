"""The dashboard for Grafana asks for metrics that the gateway has."""

import json
import re
from pathlib import Path

from tests.gateway.harness import Starter

DASHBOARD = Path(__file__).parents[2] / "config" / "dashboard.json"
_NAME = re.compile(r"\b(?:federation|manybinder)_\w+")


async def test_every_panel_asks_for_metrics_that_there_are(start: Starter) -> None:
    gateway = await start.gateway()
    async with gateway.http.get(f"{gateway.url}metrics") as response:
        families = re.findall(r"^# TYPE (\w+) ", await response.text(), flags=re.MULTILINE)
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        asked = {name for target in panel["targets"] for name in _NAME.findall(target["expr"])}
        assert asked
        assert asked <= set(families), panel["title"]
