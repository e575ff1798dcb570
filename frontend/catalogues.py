"""What pages say in each language: catalogues in gettext's form, read as text at start.

English is written in the sources; a catalogue ``catalogues/<language>.po`` holds the rest.  The form is that of GNU
gettext (its manual, "The Format of PO Files"); ``make catalogues`` brings it up to date.
"""

import contextvars
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from babel.core import Locale, negotiate_locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import NullTranslations, Translations

from contract.sentences import translated

#: The language that the sources are written in.
SOURCE = "en"

#: The language of the request that is answered, which a middleware sets.
LANGUAGE: contextvars.ContextVar[str] = contextvars.ContextVar("LANGUAGE", default=SOURCE)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One language: ``translations`` for templates, ``scripts`` for what scripts say (English → this language).

    ``locale`` is how it writes numbers.
    """

    language: str
    locale: Locale
    translations: NullTranslations = field(default_factory=NullTranslations)
    scripts: Mapping[str, str] = field(default_factory=dict)

    def say(self, text: str | float) -> str:
        """A :class:`~contract.sentences.Sentence`, or a number, in this language; other text as it is."""
        return translated(text, self.translations.gettext, self._number)

    def _number(self, value: float) -> str:
        # In no groups, for whole numbers are told without them everywhere.
        return format_decimal(value, locale=self.locale, decimal_quantization=False, group_separator=False)


def read_catalogues(directories: Iterable[Path]) -> dict[str, Catalogue]:
    """The catalogues in some directories by their languages, English among them; those of one language are joined."""
    joined: dict[str, Catalog] = {}
    for directory in directories:
        for path in sorted(directory.glob("*.po")):
            with path.open("rb") as file:
                found = read_po(file, locale=path.stem)
            known = joined.setdefault(path.stem, Catalog(locale=path.stem))
            for message in found:
                if message.id and message.string and not message.fuzzy:
                    known.add(message.id, message.string, message.locations, context=message.context)
                    # Of two, the later one says it; the catalogue itself keeps the first.
                    if (kept := known.get(message.id, message.context)) is not None:
                        kept.string = message.string
    source = Catalogue(SOURCE, Locale(SOURCE))
    return {SOURCE: source, **{name: _catalogue(name, found) for name, found in joined.items()}}


def choose_language(accept: str, known: Sequence[str]) -> str:
    """The known language that an Accept-Language header (RFC 9110, section 12.5.4) likes best; English by default."""
    wanted = []
    for number, item in enumerate(accept.split(",")[:20]):
        name, _, parameter = (part.strip() for part in item.partition(";"))
        try:
            quality = float(parameter.removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if name and quality > 0:
            wanted.append((-quality, number, SOURCE if name == "*" else name.lower()))
    preferred = [name for _, _, name in sorted(wanted)]
    by_lower = {name.lower(): name for name in known}
    return by_lower.get(negotiate_locale(preferred, list(by_lower), sep="-") or "", SOURCE)


def _catalogue(language: str, messages: Catalog) -> Catalogue:
    compiled = io.BytesIO()
    write_mo(compiled, messages)
    compiled.seek(0)
    scripts = {
        str(message.id): str(message.string)
        for message in messages
        if any(name.endswith(".js") for name, _ in message.locations)
    }
    # Of a language that is not known, numbers are written as in the sources.
    return Catalogue(language, messages.locale or Locale(SOURCE), Translations(compiled), scripts)
