"""``window.pageConfig``: what a page tells its scripts, and other clients that read it, such as the command line."""

import json
import re
from typing import Any

_PAGE_CONFIG = re.compile(r"window\.pageConfig\s*=\s*(?=\{)")


def parse_page_config(html: str) -> dict[str, Any]:
    """The configuration in a page of this service or of a BinderHub; raises ``ValueError`` if there is none."""
    found = _PAGE_CONFIG.search(html)
    if found is None:
        raise ValueError("the page holds no pageConfig")
    try:
        # Only as far as the object goes: what follows it on the page is not ours to know.
        config: dict[str, Any] = json.JSONDecoder().raw_decode(html, found.end())[0]
    except RecursionError:
        raise ValueError("the page's pageConfig is nested too deeply") from None
    return config
