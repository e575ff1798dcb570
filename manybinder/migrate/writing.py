"""Writes settings as YAML with comments, and says what is left to do."""

import re
from collections.abc import Iterator
from textwrap import indent
from typing import Any

import yaml

from manybinder.migrate.draft import Draft, Note

_HEADINGS = {
    "decide": "To decide",
    "secret": "Secrets, which are not printed",
    "none": "Without an equivalent",
    "unread": "Not read, because it failed: what it says is not in the settings",
}
_FIRST = {
    key: place for place, key in enumerate(("schema", "name", "public_url", "listen", "data_dir", "hub", "config"))
}
_FIRST["jupyterhub"] = 99
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
#: Words of YAML that are no texts.
_WORDS = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        """Nobody wants to read those."""
        del data
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def settings_text(draft: Draft, names: list[str]) -> str:
    """The settings, with what there is to say of them at the head."""
    head = [f"From {', '.join(names)}, by `manybinder migrate --to {draft.target}`.", "", *report_lines(draft)]
    return (
        "".join(f"# {_line(line)}".rstrip() + "\n" for line in head)
        + "\n"
        + "".join(_tree(draft, _ordered(draft.tree), ""))
    )


def _ordered(tree: dict[str, Any]) -> dict[str, Any]:
    """What there is to see first at the head, and what is long at the end."""
    return {key: tree[key] for key in sorted(tree, key=lambda key: (_FIRST.get(key, 50), list(tree).index(key)))}


def report_lines(draft: Draft) -> list[str]:
    """What is left to do, by kind."""
    lines: list[str] = []
    for kind, heading in _HEADINGS.items():
        notes = [note for note in draft.notes if note.kind == kind]
        lines += [f"{heading}:", *(f"  {_said(note)}" for note in notes)] if notes else []
    return lines


def _said(note: Note) -> str:
    return _line(": ".join(filter(None, (note.subject, note.says))))


def _line(text: str) -> str:
    """One line, whatever it is made of."""
    return "".join(character if character.isprintable() else " " for character in text)


def _tree(draft: Draft, tree: dict[str, Any], above: str) -> Iterator[str]:
    margin = "  " * (above.count(".") + 1) if above else ""
    for key, value in tree.items():
        path = f"{above}.{key}" if above else key
        if (origin := draft.origins.get(path)) and origin != path:
            yield f"{margin}# {_line(origin)}\n"
        if isinstance(value, dict) and value and all(map(_is_plain, (key, *value))):
            yield f"{margin}{key}:\n"
            yield from _tree(draft, value, path)
        else:
            text = yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
            yield indent(text, margin, lambda line: line != "\n")


def _is_plain(key: str) -> bool:
    return _PLAIN_KEY.fullmatch(key) is not None and _WORDS.fullmatch(key) is None
