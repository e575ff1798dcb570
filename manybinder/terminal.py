"""What commands print: text from elsewhere made fit for a terminal, tables in one style.

Colours are for terminals, and not where NO_COLOR is set (https://no-color.org); no colour says what no word says.
"""

import re
from collections.abc import Iterable, Sequence

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# Colours, cursor movements, window titles: ECMA-48's control sequences and strings, then every other control character.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[PX^_\]][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

#: Columns of a table that goes to a file or a pipe, where there is no edge to fit into.
_WIDE = 200


def plain(text: str) -> str:
    """The text without anything that a terminal would obey; tabs and line ends stay, a bare CR begins a new line.

    A build log and a member's reasons are written by strangers: a control sequence in them could rewrite what was
    printed before, or worse.
    """
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text)


def for_people() -> Console:
    """Standard error, where people read."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def for_results() -> Console:
    """Standard output, for tables that people asked for."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=_WIDE)


def print_result(result: RenderableType) -> None:
    """Print what people asked for; off a terminal no line ends in the blanks that fill a table's columns."""
    console = for_results()
    if console.is_terminal:
        console.print(result)
        return
    with console.capture() as capture:
        console.print(result)
    click.echo("\n".join(line.rstrip(" ") for line in capture.get().split("\n")), nl=False)


#: The column whose words have colours, and these.
STATE = "STATE"
_COLOURS = {
    **dict.fromkeys(("available", "healthy", "in force"), "green"),
    **dict.fromkeys(("failing", "unreachable", "ejected"), "red"),
}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = False) -> Table:
    """A table of texts from anywhere; ``numbers``: all columns but the first are numbers, and end at their right."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, overflow="fold", justify="right" if numbers and place else "left")
    for row in rows:
        cells = [Text(plain(str(cell))) for cell in row]
        for column, cell in zip(columns, cells, strict=True):
            if column == STATE:
                cell.stylize(_COLOURS.get(cell.plain, "yellow"))
        made.add_row(*cells)
    return made
