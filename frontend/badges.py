"""The addresses in a pasted badge, in Markdown, reStructuredText or HTML; pure."""

import html
import re

_MARKUP = re.compile(r"[<\[]|\.\. |:target:")
_ADDRESS = re.compile(r"https?://[^\s<>\"'\[\]]+", re.IGNORECASE)


def addresses(text: str) -> list[str]:
    """Each once; none in a text that is itself an address, or is no markup."""
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE) or not _MARKUP.search(text):
        return []
    found = [html.unescape(address) if "<" in text else address for address in _ADDRESS.findall(text)]
    return list(dict.fromkeys(map(_without_bracket, found)))


def _without_bracket(address: str) -> str:
    """Markdown closes an address with a bracket, and an address may hold pairs of them."""
    while address.endswith(")") and address.count(")") > address.count("("):
        address = address[:-1]
    return address
