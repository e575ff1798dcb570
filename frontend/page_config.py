"""``window.pageConfig``: what a page tells its scripts, and other clients that read it, such as the command line."""

import json
import re
from typing import Any

_PAGE_CONFIG = re.compile(r"window\.pageConfig = (\{.*\});")


def parse_page_config(html: str) -> dict[str, Any]:
    """The configuration in a page of this service or of a BinderHub; raises ``ValueError`` if there is none."""
    found = _PAGE_CONFIG.search(html)
    if found is None:
        raise ValueError("the page holds no pageConfig")
    config = json.loads(found[1])
    if not isinstance(config, dict):
        raise ValueError("the page's pageConfig is no object")
    return config
