"""What several of these tests use."""

from tests.chromium import browser, page
from tests.played import service

__all__ = ["browser", "page", "service"]
