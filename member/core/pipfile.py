"""A ``Pipfile`` or ``Pipfile.lock`` as requirements for pip.

Source: pipenv's "Pipfile and Pipfile.lock" documentation.
"""

from collections.abc import Mapping
from typing import Any

from member.core.refusals import RepositoryError


def requirements(content: object, *, locked: bool) -> tuple[str, ...]:
    """The requirements of all packages, those for development too, as repo2docker installs them.

    Raises :class:`RepositoryError`.
    """
    name = "Pipfile.lock" if locked else "Pipfile"
    if not isinstance(content, Mapping):
        raise RepositoryError(f"{name} is not a mapping")
    found: dict[str, str] = {}
    for section in ("default", "develop") if locked else ("packages", "dev-packages"):
        packages = content.get(section) or {}
        if not isinstance(packages, Mapping):
            raise RepositoryError(f"{name}: {section!r} is not a mapping")
        for package, entry in packages.items():
            found.setdefault(str(package), _requirement(str(package), entry, name))
    return tuple(found.values())


def _requirement(package: str, entry: object, name: str) -> str:
    if isinstance(entry, str):
        return package + ("" if entry.strip() in ("", "*") else entry.strip())
    if not isinstance(entry, Mapping):
        raise RepositoryError(f"{name}: the entry for {package!r} cannot be read")
    extras = entry.get("extras") or []
    full = f"{package}[{','.join(map(str, extras))}]" if extras else package
    text = _source(full, entry)
    if text is None:
        version = str(entry.get("version") or "").strip()
        text = full + ("" if version == "*" else version)
    marker = entry.get("markers")
    if "\n" in f"{text}{marker}":
        raise RepositoryError(f"{name}: the entry for {package!r} cannot be read")
    return f"{text} ; {marker}" if marker else text


def _source(full: str, entry: Mapping[Any, Any]) -> str | None:
    """Where a package comes from that is not on the index."""
    if git := entry.get("git"):
        ref = entry.get("ref")
        return f"{full} @ git+{git}" + (f"@{ref}" if ref else "")
    if url := entry.get("file") or entry.get("uri"):
        return f"{full} @ {url}"
    if path := entry.get("path"):
        return f"-e {path}" if entry.get("editable") else str(path)
    return None
