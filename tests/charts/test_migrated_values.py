"""What `manybinder migrate` prints for a chart: Helm renders it, and the member takes the settings in it."""

from pathlib import Path

import pytest
import yaml

from manybinder.migrate.command import migrate
from tests.charts.helmkit import Helm, of_kind

FILES = Path(__file__).parents[1] / "manybinder" / "binderhubs"


@pytest.mark.parametrize("files", [("common_values.yaml", "member_values.yaml"), ("campus_config.py.txt",)])
def test_the_chart_takes_them(
    helm: Helm, chart: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...]
) -> None:
    paths = []
    for name in files:
        paths.append(tmp_path / name.removesuffix(".txt"))
        paths[-1].write_text((FILES / name).read_text())
    migrate(paths, "chart", "")
    values = tmp_path / "values.yaml"
    values.write_text(capsys.readouterr().out)
    objects = helm.render(chart, values)
    given = yaml.safe_load(values.read_text())
    (config,) = (item for item in of_kind(objects, "ConfigMap") if "member.yaml" in item.get("data", {}))
    settings = yaml.safe_load(config["data"]["member.yaml"])
    assert settings["sessions"]["limit"] == given["config"]["sessions"]["limit"]
    assert settings["registry"]["url"] == given["registry"]["url"]
