"""What becomes of a configuration: a tree of settings, where each of them comes from, and what is to be said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from manybinder.migrate.convert import providers
from manybinder.migrate.rows import PROVIDER, Added, PythonObject, Row, Several, UnfitError

Target = Literal["member", "chart", "gateway"]

#: Where charts/member has what is elsewhere, or itself sets ("-"), of a member's settings.
_IN_THE_CHART = {
    "registry.url": "registry.url",
    "registry.username": "registry.username",
    "builder.kind": "-",
}

#: Where a chart's password for the registry goes.
REGISTRY_SECRETS = "Make both Secrets manybinder-registry (charts/member/README.md, “A password of your own keeping”)."


@dataclass(frozen=True)
class Note:
    """Something that an operator is to know: what about (a trait, a value, a setting), and a sentence."""

    kind: Literal["decide", "secret", "none", "unread"]
    subject: str
    says: str


@dataclass
class Draft:
    """Settings in the making."""

    target: Target
    secrets: PurePosixPath
    """The directory in which the settings look for secrets."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """By the path of a setting, what it comes from."""

    notes: list[Note] = field(default_factory=list)
    passed_over: int = 0
    """Things of which this target knows nothing."""

    def note(self, kind: Literal["decide", "secret", "none", "unread"], subject: str, says: str) -> None:
        """Say something, once."""
        note = Note(kind, subject, says)
        if note not in self.notes:
            self.notes.append(note)

    def put(self, path: str, value: Any, origin: str = "") -> None:
        """Set what a path names; a mapping goes over one that is there."""
        *sections, key = path.split(".")
        place = self.tree
        for name in sections:
            place = place.setdefault(name, {})
        there = place.get(key)
        place[key] = {**there, **value} if isinstance(there, dict) and isinstance(value, dict) else value
        if origin:
            self.origins[path] = origin

    def tree_at(self, path: str) -> dict[str, Any]:
        """The section that a path names."""
        found = self.get(path)
        return found if isinstance(found, dict) else {}

    def get(self, path: str) -> Any:
        """What a path names; ``None`` where there is nothing."""
        return find(self.tree, path)

    def apply(self, row: Row, subject: str, value: Any, provider: str = "") -> None:
        """Do with a value what its row says."""
        if any(_same(value, silent) for silent in row.silent):
            return
        if row.kind != "equivalent":
            self.note("none" if row.kind == "none" else "decide", subject, row.says)
            return
        path = row.path(self.target).replace(PROVIDER, provider)
        if path == "-":
            self._set_by_the_chart(row, subject)
        elif not path:
            self._of_no_use(row, subject)
        elif row.file:
            self.secret(path, row.file, subject)
        else:
            self._convert(row, path, subject, value)

    def secret(self, path: str, name: str, subject: str) -> None:
        """Name the file for a secret."""
        file = self.secrets / name
        self.put(f"{path}_file", str(file), subject)
        self.note("secret", subject, f"Put it into {file} ({path}_file).")

    def _convert(self, row: Row, path: str, subject: str, value: Any) -> None:
        added = isinstance(value, Added) and row.convert is not providers
        try:
            found = row.convert(value.value if added else value)
        except UnfitError as error:
            self.note("decide", subject, f"Not carried over to {path}: {error}.")
            return
        settings = found.settings if isinstance(found, Several) else {"": found}
        for name, item in settings.items():
            place = self._place(name) if name and not row.chart_only else name or path
            # What is added here is added to what holds for a class above.
            there = self.get(place) if added and isinstance(item, list) else None
            if place != "-":
                self.put(place, [*there, *item] if isinstance(there, list) else item, subject)
        if row.says:
            self.note("decide", subject, row.says)

    def _place(self, member_path: str) -> str:
        if self.target != "chart":
            return member_path
        return _IN_THE_CHART.get(member_path, f"config.{member_path}")

    def _set_by_the_chart(self, row: Row, subject: str) -> None:
        if row.file:
            self.note("secret", subject, _SECRETS_OF_THE_CHART.get(row.file, "charts/member makes its own."))
        else:
            self.note("none", subject, "charts/member says it by itself.")

    def _of_no_use(self, row: Row, subject: str) -> None:
        if row.elsewhere:
            self.note("none", subject, row.elsewhere)
        else:
            self.passed_over += 1


_SECRETS_OF_THE_CHART = {
    "registry-password": REGISTRY_SECRETS,
    "hub-token": "The Hub's chart makes a new one.",
}


def _same(value: Any, other: Any) -> bool:
    """Equal, and not only as 0 and False are."""
    if isinstance(value, PythonObject):
        return value.kind == "class" and value.name == other
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def find(tree: Any, path: str) -> Any:
    """What a path (``a.b``) names in a tree; ``None`` where there is nothing."""
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree
