"""Makes what follows from each chart's ``values.schema.yaml``: ``values.schema.json``, and the table in its README;
and keeps files of this repository that stand in its ``values.yaml`` as they are.

python charts/generate.py            # writes them
python charts/generate.py --check    # fails if they are not as they would be written
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
BEGIN, END = "<!-- values: made by `make charts` -->\n", "<!-- end of values -->"

#: A file in ``values.yaml``, and the text that follows: the lines that are indented further.
EMBEDDED = re.compile(
    r"^(?P<head>(?P<indent> +)# made from (?P<path>\S+) by `make charts`\n(?P=indent)\w+: \|\n)"
    r"(?:(?P=indent)  .*\n|\n)*",
    re.MULTILINE,
)

#: What Helm needs none of.
_ABOUT = ("description",)


def schema_json(schema: dict[str, Any]) -> str:
    """The schema as Helm reads it."""
    return json.dumps(_without_texts(schema), indent=1) + "\n"


def _without_texts(node: Any, *, names: bool = False) -> Any:
    """Without descriptions; in a mapping of ``names`` a key is a value's name, whatever it is."""
    if isinstance(node, list):
        return [_without_texts(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_texts(value, names=key == "properties" and not names)
        for key, value in node.items()
        if names or key not in _ABOUT
    }


def table(schema: dict[str, Any], values: dict[str, Any]) -> str:
    """A row for each value that is described, with its default."""
    rows = ["| Value | Default | |", "|---|---|---|"]
    rows += [f"| `{path}` | {_default(value)} | {text} |" for path, value, text in _described(schema, values)]
    return "\n".join(rows) + "\n"


def _described(schema: dict[str, Any], values: Any, above: str = "") -> Iterator[tuple[str, Any, str]]:
    for name, part in schema.get("properties", {}).items():
        path, value = f"{above}{name}", values.get(name) if isinstance(values, dict) else None
        if text := part.get("description"):
            yield path, value, " ".join(text.split())
        yield from _described(part, value, f"{path}.")


def _default(value: Any) -> str:
    if isinstance(value, dict) and value:
        return "see `values.yaml`"
    return "" if value in (None, "") else f"`{json.dumps(value)}`"


def with_files(values: str) -> str:
    """``values.yaml`` with the files that stand in it."""

    def embedded(found: re.Match[str]) -> str:
        text = (HERE.parent / found["path"]).read_text()
        return found["head"] + textwrap.indent(text, found["indent"] + "  ")

    return EMBEDDED.sub(embedded, values)


def outputs(chart: Path) -> Iterator[tuple[Path, str]]:
    """Each file that is made, and what belongs into it."""
    schema = yaml.safe_load((chart / "values.schema.yaml").read_text())
    text = with_files((chart / "values.yaml").read_text())
    values = yaml.safe_load(text)
    yield chart / "values.yaml", text
    yield chart / "values.schema.json", schema_json(schema)
    readme = (chart / "README.md").read_text()
    before, _, rest = readme.partition(BEGIN)
    yield chart / "README.md", before + BEGIN + table(schema, values) + END + rest.partition(END)[2]


def main(*, check: bool) -> int:
    """Write, or check; returns the exit status."""
    stale = []
    for chart in sorted(path.parent for path in HERE.glob("*/values.schema.yaml")):
        for path, text in outputs(chart):
            if path.is_file() and path.read_text() == text:
                continue
            stale.append(path.relative_to(HERE.parent))
            if not check:
                path.write_text(text)
    if check and stale:
        sys.stderr.write(f"run `make charts`: {', '.join(map(str, stale))} would be written otherwise\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
