"""What several of these tests use."""

from tests.played import browser, page, service

__all__ = ["browser", "page", "service"]
