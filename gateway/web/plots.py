"""The history as bars, and badges: what templates draw as SVG."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from contract.sentences import joined, said
from gateway.core.history import DAY, Bar, Condition, Seconds, total
from gateway.web.figures import percent, span

#: How high a bar is, of 100, by what it tells: whoever sees no colours sees this.
_HEIGHTS = {"well": 100, "trouble": 55, "out": 30, "gap": 6}


@dataclass(frozen=True, slots=True)
class PlotBar:
    """One bar, or several equal ones beside each other: ``x`` and ``width`` count bars, ``height`` is of 100."""

    x: int
    width: int
    kind: str
    height: int
    title: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars over a stretch of time; ``share`` is how much of it was well, ``said`` tells in words what they show.

    Both are sentences (:mod:`contract.sentences`).
    """

    bars: Sequence[PlotBar]
    count: int
    first: str
    share: str
    said: str


def plot(bars: Sequence[Bar], what: str) -> Plot:
    """``what`` names the stretch: "the last 24 hours"."""
    drawn: list[PlotBar] = []
    for x, bar in enumerate(bars):
        kind = _kind(bar.seconds)
        if drawn and kind in ("well", "gap") and drawn[-1].kind == kind:
            last = drawn[-1]
            drawn[-1] = PlotBar(last.x, last.width + 1, kind, last.height, "")
        else:
            drawn.append(PlotBar(x, 1, kind, _HEIGHTS[kind], _title(bar, kind)))
    first = _moment(bars[0]) if bars else ""
    share = total(bars).share_well
    return Plot(drawn, len(bars), first, "" if share is None else percent(share), _said(total(bars), what, bars))


def _kind(seconds: Seconds) -> str:
    """The worst that there was for more than a moment, for bad news may not drown."""
    if seconds.known < 1:
        return "gap"
    if seconds.trouble >= 1:
        return Condition.TROUBLE.value
    return Condition.OUT.value if seconds.out > seconds.well else Condition.WELL.value


def _title(bar: Bar, kind: str) -> str:
    if kind in ("gap", "well"):
        return ""
    well, trouble, out = bar.seconds
    parts = [said("in rotation %(span)s", span=span(well))] if well >= 1 else []
    parts += [said("in trouble %(span)s", span=span(trouble))] if trouble >= 1 else []
    parts += [said("taken out %(span)s", span=span(out))] if out >= 1 else []
    return joined(": ", [_moment(bar), joined(", ", parts)])


def _moment(bar: Bar) -> str:
    if bar.end - bar.start >= DAY:
        return time.strftime("%Y-%m-%d", time.gmtime(bar.start))
    return time.strftime("%H:%M UTC", time.gmtime(bar.start))


def _said(seconds: Seconds, what: str, bars: Sequence[Bar]) -> str:
    """The plot for who does not see it."""
    share = seconds.share_well
    texts = [
        said("nothing is known")
        if share is None
        else said("in rotation %(share)s of the time that is known", share=percent(share))
    ]
    if seconds.trouble >= 1:
        texts.append(said("in trouble for %(span)s", span=span(seconds.trouble)))
    if seconds.out >= 1:
        texts.append(said("taken out for %(span)s", span=span(seconds.out)))
    length = sum(bar.end - bar.start for bar in bars)
    if length - seconds.known >= 2 * 3600 or seconds.known < length / 2:
        texts.append(said("not watched for %(span)s", span=span(length - seconds.known)))
    return joined(": ", [what, joined("; ", texts)])


@dataclass(frozen=True, slots=True)
class Badge:
    """What a badge says, in a language, on a colour; see :data:`BADGE_COLOURS`."""

    left: str
    right: str
    colour: str
    language: str

    def svg(self) -> str:
        """The badge as an SVG image."""
        left, right = _width(self.left), _width(self.right)
        names = {"left": escape(self.left), "right": escape(self.right), "colour": self.colour, "width": left + right}
        widths = {"first": left, "second": right, "at": left + 6, "left_text": left - 12, "right_text": right - 12}
        return _BADGE.format(language=self.language, **names, **widths)


_BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" xml:lang="{language}" width="{width}" height="20" role="img"
  aria-label="{left}: {right}">
  <title>{left}: {right}</title>
  <clipPath id="r"><rect width="{width}" height="20" rx="3"/></clipPath>
  <g clip-path="url(#r)">
    <rect width="{first}" height="20" fill="#4a4a4a"/>
    <rect x="{first}" width="{second}" height="20" fill="{colour}"/>
  </g>
  <g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
    <text x="6" y="14" textLength="{left_text}">{left}</text>
    <text x="{at}" y="14" textLength="{right_text}">{right}</text>
  </g>
</svg>
"""


#: White text on each of these has a contrast of at least 4.5.
BADGE_COLOURS = {"good": "#116329", "partly": "#8a5a00", "bad": "#a40e26", "out": "#57606a"}


def _width(text: str) -> int:
    """About what Verdana takes at 11 pixels; the text is then set to it exactly."""
    return round(sum(4.2 if character in "iljt.,:;'!| -" else 7.2 for character in text)) + 12
