"""Shares and durations as pages, the feed and the badges tell them; numbers with decimals are for a page to say."""

from contract.sentences import said


def percent(share: float) -> str:
    """A share for people, as a sentence; 100 % only if nothing is missing."""
    value = round(100 * share, 2)
    return said("%(number)s %%", number=99.99 if share < 1 and value == 100 else value)


def span(seconds: float) -> str:
    """A span for people, in its largest unit: whole, and the same in every language."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return in_seconds(max(0, int(seconds)))


def in_seconds(seconds: float) -> str:
    """A span for people to whole seconds, where minutes would be too coarse."""
    return f"{seconds:.0f} s"
