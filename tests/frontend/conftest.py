"""What several of these tests use."""

from played import browser, page, service

__all__ = ["browser", "page", "service"]
