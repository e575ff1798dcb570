"""A program: runs a BinderHub's Python configuration as BinderHub does, and prints what it has set.

Standard input holds ``{"config": …, "sources": [{"name", "text"}]}``, standard output gets ``{"config": …, "unread":
[…]}``.  A configuration is any Python; it runs here, in a process of its own, so that whatever it does ends with it.  A
statement that fails is named, and the next one is tried.  Classes of BinderHub itself are stand-ins.
"""

import ast
import importlib.abc
import importlib.machinery
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from traitlets.config.loader import Config, LazyConfigValue, PyFileConfigLoader

#: Marks in JSON what JSON has no form for.
PYTHON, ADDED = "\0python", "\0added"

#: What of the failures of all statements is told.
_unread: list[str] = []


class Loader(PyFileConfigLoader):
    """Traitlets' own loader, which goes on after a statement that fails; ``load_subconfig`` makes further ones."""

    text: str | None = None

    def _read_file_as_dict(self) -> None:
        path = Path(self.full_filename)
        text = path.read_text() if self.text is None else self.text
        space: dict[str, Any] = {
            "c": self.config,
            "get_config": lambda: self.config,
            "load_subconfig": self.load_subconfig,
            "__file__": str(path),
            "__name__": "config",
        }
        for statement in ast.parse(text, self.filename).body:
            try:
                exec(compile(ast.Module([statement], []), self.filename, "exec"), space)  # noqa: S102 - what it is for
            except (Exception, SystemExit) as error:  # noqa: BLE001 - anything may come of it
                _unread.append(f"{self.filename}, line {statement.lineno}: {_named(statement)}: {_reason(error)}")


def _named(statement: ast.stmt) -> str:
    """What a statement is about, without what it says of it."""
    if isinstance(statement, ast.Assign):
        return ", ".join(ast.unparse(target) for target in statement.targets if not isinstance(target, ast.Subscript))
    return type(statement).__name__.lower()


def _reason(error: BaseException) -> str:
    """Why it failed, with what is surely no secret."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, ImportError | NameError):
        return f"{name}: {error}"
    if isinstance(error, KeyError) and error.args and re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", str(error.args[0])):
        return f"{name}: {error.args[0]}"
    return name


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules of BinderHub, with whatever class they are asked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A module of BinderHub is found always, installed or not."""
        del path, target
        if fullname.partition(".")[0] != "binderhub":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Empty until it is asked."""
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing."""


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


def _plain(value: Any) -> Any:
    """A value as JSON takes it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, LazyConfigValue):
        return {ADDED: _plain(_added(value))}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, re.Pattern):
        return _plain(value.pattern)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, type):
        return {PYTHON: ["class", f"{value.__module__}.{value.__qualname__}"]}
    if callable(value):
        return {PYTHON: ["function", str(getattr(value, "__name__", ""))]}
    return {PYTHON: [type(value).__name__, ""]}


def _added(value: LazyConfigValue) -> Any:
    """What has been added to a default that only BinderHub knows."""
    given: dict[str, Any] = value.to_dict()
    if "update" in given:
        return given["update"]
    return [*given.get("prepend", []), *given.get("extend", []), *(item for _, item in given.get("inserts", []))]


def main() -> None:
    """Read, run, print."""
    asked = json.load(sys.stdin)
    # What the configuration prints is not ours.
    out = os.dup(1)
    os.dup2(2, 1)
    sys.meta_path.insert(0, _StandIns())
    config = Config(asked["config"])
    for source in asked["sources"]:
        loader = Loader(source["name"])
        loader.text = source["text"]
        loader.full_filename = source["path"]
        loader.config = config
        try:
            loader._read_file_as_dict()  # noqa: SLF001 - of load_config, without its search for a file
        except SyntaxError as error:
            _unread.append(f"{source['name']}, line {error.lineno}: it is no Python: {error.msg}")
    answer = json.dumps({"config": _plain(config), "unread": _unread})
    with os.fdopen(out, "w") as result:
        result.write(answer)
    # Threads that it has started do not hold it up.
    os._exit(0)


if __name__ == "__main__":
    main()
