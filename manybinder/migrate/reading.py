"""Reads what a BinderHub is configured with: its Python file, values of its chart, or a federation's redirector."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from manybinder.errors import CommandError, Exit
from manybinder.migrate.evaluate import ADDED, PYTHON
from manybinder.migrate.rows import Added, PythonObject
from manybinder.plan import merged

#: Seconds that a configuration may run.
DEADLINE_S = 30.0

#: Values by which a file is known to be of BinderHub's chart.
_OF_THE_CHART = {"config", "jupyterhub", "registry", "imageBuilderType", "extraConfig", "ingress", "dind", "pink"}


@dataclass
class Source:
    """A configuration: traits by class, values of the chart and the redirector's as they stand there."""

    names: list[str]
    traits: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Any] | None = None
    redirector: dict[str, Any] | None = None
    unread: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Charts beside BinderHub's, where the values are those of a chart around it."""

    def trait(self, cls: str, name: str) -> Any:
        """What a trait is configured as, at this class; ``None`` where it is not."""
        return self.traits.get(cls, {}).get(name)

    def section(self, name: str) -> dict[str, Any]:
        """A section of the chart's values."""
        return _dict((self.values or {}).get(name))


def read(files: Sequence[Path]) -> Source:
    """Read files, of which later ones go before; raises :class:`CommandError`."""
    source = Source([path.name for path in files])
    python = [path for path in files if path.suffix == ".py"]
    if python and len(python) != len(files):
        raise CommandError("give either Python files or YAML files", Exit.USAGE)
    if python:
        scripts = [{"name": path.name, "path": str(path.absolute()), "text": _text(path)} for path in python]
        _run(source, {}, scripts, python[0].absolute().parent)
        return source
    tree: dict[str, Any] = {}
    for path in files:
        # As Helm merges them; what is null stays, and says so where it counts.
        tree = merged(tree, _mapping(path))
    _sort(source, tree, files[0].absolute().parent)
    return source


def _sort(source: Source, tree: dict[str, Any], directory: Path) -> None:
    inner = tree.get("binderhub")
    if _dict(tree.get("federationRedirect")).get("hosts"):
        source.redirector = tree["federationRedirect"]
    elif _is_redirector(tree):
        source.redirector, tree = tree, {}
    if isinstance(inner, dict):
        ours = {"binderhub", "binderhubEnabled", "federationRedirect"}
        source.others = sorted(key for key, value in tree.items() if key not in ours and isinstance(value, dict))
        tree = inner
    if _OF_THE_CHART & tree.keys():
        source.values = {key: value for key, value in tree.items() if key not in ("config", "extraConfig")}
        config = {key: value for key, value in _dict(tree.get("config")).items() if isinstance(value, dict)}
        snippets = sorted((str(key), text) for key, text in _dict(tree.get("extraConfig")).items() if text)
        scripts = [{"name": f"extraConfig.{key}", "path": key, "text": str(text)} for key, text in snippets]
        if scripts:
            _run(source, config, scripts, directory)
        else:
            source.traits = config
    if source.values is None and source.redirector is None:
        raise CommandError(
            f"{', '.join(source.names)}: neither values of BinderHub's chart nor of a federation's redirector "
            "(a Python configuration ends in .py)",
            Exit.USAGE,
        )


def _is_redirector(tree: Mapping[str, Any]) -> bool:
    hosts = tree.get("hosts")
    return isinstance(hosts, dict) and all(isinstance(host, dict) and "url" in host for host in hosts.values() if host)


def _run(source: Source, config: dict[str, Any], scripts: list[dict[str, str]], directory: Path) -> None:
    """Run Python, in a process of its own."""
    asked = json.dumps({"config": config, "sources": scripts}, default=str)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "manybinder.migrate.evaluate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=directory,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(asked, timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise CommandError(f"the configuration did not come to its end within {DEADLINE_S:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    try:
        answer = json.loads(out, object_hook=_object)
    except ValueError:
        raise CommandError(f"the configuration ended the program (exit status {process.returncode})") from None
    source.traits = {key: value for key, value in answer["config"].items() if isinstance(value, dict) and value}
    source.unread += answer["unread"]


def _object(wire: dict[str, Any]) -> Any:
    if PYTHON in wire:
        return PythonObject(*wire[PYTHON])
    return Added(wire[ADDED]) if ADDED in wire else wire


def _mapping(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise CommandError(
            f"{path}{line}: not readable as YAML (a Python configuration ends in .py)", Exit.USAGE
        ) from None
    if not isinstance(tree, dict):
        raise CommandError(f"{path}: expected a mapping, got {type(tree).__name__}", Exit.USAGE)
    # The heading of `helm get values`.
    return {
        str(key): value for key, value in tree.items() if str(key) not in ("USER-SUPPLIED VALUES", "COMPUTED VALUES")
    }


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8 text"
        raise CommandError(f"{path}: {reason}", Exit.USAGE) from error


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
