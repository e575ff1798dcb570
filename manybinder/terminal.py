"""Text from elsewhere, made fit for a terminal."""

import re

from rich.console import Console

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
