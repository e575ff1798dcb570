"""What an operator may set of a service's face (``face:``): logo, colours, links, own HTML and templates."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from servicekit.config import Section

_COLOUR = r"^(#[0-9a-fA-F]{6})?$"

#: The least contrast of text (WCAG 2.2, success criterion 1.4.3).
LEAST_CONTRAST = 4.5

#: The backgrounds that links and buttons stand on, light and dark (see style.css).
BACKGROUNDS = {"accent": ("#fbfaf8", "#ffffff"), "accent_dark": ("#14171b", "#1d2126")}

#: Parts of the policy that an operator may extend; the others hold whatever is added.
DIRECTIVES = frozenset({"script-src", "style-src", "img-src", "font-src", "connect-src", "frame-src", "media-src"})

_SOURCE = re.compile(r"(https?://|wss?://|'sha(256|384|512)-|[a-z0-9*])[^\s;,]*", re.ASCII)


class FaceLink(Section):
    """A link with its text."""

    text: str = Field(min_length=1, max_length=60)

    url: str

    @field_validator("url")
    @classmethod
    def _of_the_web(cls, url: str) -> str:
        return _web_address(url, "mailto")


class FaceSettings(Section):
    """All of it."""

    logo: Path | None = None
    """A picture (SVG, PNG, JPEG or WebP) in place of the three rings, at the head of every page and in the tab."""

    accent: str = Field(default="", pattern=_COLOUR)
    """The colour of links and buttons on light pages (``#1f5f94``)."""

    accent_dark: str = Field(default="", pattern=_COLOUR)
    """The same on dark pages."""

    links: tuple[FaceLink, ...] = ()
    """Further links at the head of every page."""

    head_html: str = ""
    """The operator's own HTML at the end of every page's head, as it is; scripts in it need the template's nonce or an
    address that ``csp`` allows."""

    footer_html: str = ""
    """The operator's own HTML at the foot of every page, as it is."""

    report_url: str = ""
    """A form for reports of failures (an issue tracker's "new issue", which gets ``title`` and ``body``) or a mailto:
    address; empty: pages offer no report but to a repository's own authors."""

    elsewhere: tuple[FaceLink, ...] = ()
    """Other Binders, which visitors are pointed to when this one is full; ``url`` is where they begin."""

    directory: Path | None = None
    """A directory whose ``templates``, ``static`` and ``catalogues`` go before this service's own."""

    csp: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Sources that the pages' Content-Security-Policy allows besides its own, by directive."""

    @field_validator("report_url")
    @classmethod
    def _reports_go_somewhere(cls, url: str) -> str:
        return _web_address(url, "mailto") if url else url

    @field_validator("logo", "directory")
    @classmethod
    def _is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.exists():
            raise ValueError(f"{path} does not exist")
        return path

    @field_validator("csp")
    @classmethod
    def _extends(cls, csp: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for directive, sources in csp.items():
            if directive not in DIRECTIVES:
                raise ValueError(f"{directive!r} is none of {', '.join(sorted(DIRECTIVES))}")
            for source in sources:
                if not _SOURCE.fullmatch(source):
                    raise ValueError(
                        f"{directive}: {source!r} is no source of the form https://host, host or 'sha256-…'"
                    )
        return csp

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for name, backgrounds in BACKGROUNDS.items():
            colour = getattr(self, name)
            least = min(contrast(colour, background) for background in backgrounds) if colour else LEAST_CONTRAST
            if least < LEAST_CONTRAST:
                raise ValueError(
                    f"{name}: {colour} has a contrast of {least:.1f} on the pages' background; "
                    f"{LEAST_CONTRAST} is the least that people can read"
                )
        return self


def face_style(face: FaceSettings) -> str:
    """The style sheet of an operator's colours; "" where there are none."""
    rules = []
    if face.accent:
        rules.append(f":root {{ {_colours(face.accent)} }}")
    if face.accent_dark:
        rules.append(f"@media (prefers-color-scheme: dark) {{ :root {{ {_colours(face.accent_dark)} }} }}")
    elif face.accent:
        # The colour of light pages is not one for dark ones.
        rules = [f"@media not (prefers-color-scheme: dark) {{ {rules[0]} }}"]
    return "\n".join(rules)


def _colours(accent: str) -> str:
    on_accent = max("#ffffff", "#10202e", key=lambda colour: contrast(colour, accent))
    return f"--accent: {accent}; --on-accent: {on_accent};"


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (``#rrggbb``), from 1 to 21 (WCAG 2.2, "contrast ratio")."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _web_address(url: str, *others: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{url!r} is not a readable address") from error
    if parts.scheme not in ("http", "https", *others) or not (parts.netloc or parts.path) or re.search(r"\s", url):
        raise ValueError(f"{url!r} is not of the form https://host/…")
    return url
