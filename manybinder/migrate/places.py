"""Where a BinderHub and its Hub are, as far as its configuration says it."""

import re
from urllib.parse import urlsplit

from manybinder.migrate import convert as to
from manybinder.migrate.reading import Source
from manybinder.migrate.rows import UnfitError


def binder_url(source: Source) -> str:
    """Where a chart's ingress or route has the BinderHub; "" where nothing says it."""
    ingress, route = source.section("ingress"), source.section("httpRoute")
    https = ingress.get("https")
    secure = bool(ingress.get("tls")) or (isinstance(https, dict) and bool(https.get("enabled")))
    path = source.trait("BinderHub", "base_url")
    base = f"/{path.strip('/')}/".replace("//", "/") if isinstance(path, str) else "/"
    for section, hosts, scheme in ((ingress, "hosts", "https" if secure else "http"), (route, "hostnames", "https")):
        found = section.get(hosts)
        if section.get("enabled") and isinstance(found, list) and found and isinstance(found[0], str):
            return f"{scheme}://{found[0]}{base}"
    return ""


def hub_url(source: Source) -> str:
    """Where browsers reach the Hub; "" where nothing says it."""
    try:
        return to.address(source.trait("BinderHub", "hub_url"))
    except UnfitError:
        return ""


def name_at(url: str) -> str:
    """A member's name, from the first part of its host."""
    return slug((urlsplit(url).hostname or "").partition(".")[0])


def slug(text: str) -> str:
    """A member's name that is like a text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "member-1"
