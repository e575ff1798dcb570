"""The description of an API, beside what is served."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

#: Where addresses begin that are pages and what is in them, at gateways and members.
PAGES = ("/v2", "/repo/", "/static", "/badge", "/assets", "/logo", "/favicon", "/robots", "/about", "/launch")


def described(description: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The methods and paths that a description names."""
    return {
        (method.upper(), path)
        for path, methods in description["paths"].items()
        for method in methods
        if method != "parameters"
    }


def served(app: web.Application, *pages: str) -> set[tuple[str, str]]:
    """The methods and paths that an application has, but for HEAD and for what begins as :data:`PAGES` or these do."""
    routes = {
        (route.method, (route.resource.canonical if route.resource else "").replace(":.+", ""))
        for route in app.router.routes()
        if route.method != "HEAD"
    }
    return {(method, path) for method, path in routes if path != "/" and not path.startswith((*PAGES, *pages))}
