"""Sentences that can be said in another language where they are shown.

A sentence is text, in English, as it crosses the wire, is logged and is kept.  Beside that it remembers its template
and what stands in it, which a page looks up in a catalogue; what has crossed the wire or was kept is text and no more.
A number that may have decimals stands in it as a ``float``, because each language writes these in its own way.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Self

#: What is in no language: a name, or a whole number with its unit.
_IN_NO_LANGUAGE = re.compile(r"[^ ]*|\d+ (?:d|h|min|s)")


class Sentence(str):
    """Text with the template that it was made of (``"%(name)s is full"``), and the values in it."""

    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, values: Mapping[str, object] | None = None) -> Self:
        """Without values the template is the text, percent signs and all."""
        values = values or {}
        filled = {name: in_english(value) for name, value in values.items()}
        made = super().__new__(cls, template % filled if filled else template)
        made.template, made.values = template, values
        return made


def in_english(value: object) -> str:
    """A value as it stands in English text; a number has no more digits than it needs."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def said(template: str, /, **values: object) -> Sentence:
    """A sentence; its template is taken into the catalogues wherever this is called (``make catalogues``)."""
    return Sentence(template, values)


def joined(between: str, texts: Iterable[str]) -> Sentence:
    """Several texts as one, each of which is said in its own way."""
    values = {str(number): text for number, text in enumerate(texts)}
    return Sentence(between.join(f"%({name})s" for name in values), values)


def translated(text: object, lookup: Callable[[str], str], number: Callable[[float], str] = in_english) -> str:
    """The text as ``lookup`` (a catalogue's gettext) says it, a ``float`` as ``number`` writes it.

    What is neither that nor a :class:`Sentence` stays as it is.
    """
    if isinstance(text, float):
        return number(text)
    if not isinstance(text, Sentence):
        return str(text)
    # A catalogue answers "" with its own header.
    template = lookup(text.template) if text.template else ""
    if not text.values:
        return template
    return template % {name: translated(value, lookup, number) for name, value in text.values.items()}


def is_said(text: str) -> bool:
    """Whether all of a text can be said in another language: no part of it is somebody's own words.

    A value without a space is a name or a number, which is in no language, and so is "5 min"; another one is somebody's
    own words, unless it is a sentence itself.
    """
    if not isinstance(text, Sentence):
        return False
    return all(
        is_said(value)
        for value in text.values.values()
        if isinstance(value, str) and not _IN_NO_LANGUAGE.fullmatch(value)
    )
