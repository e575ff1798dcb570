"""What several of these tests use."""

from tests.played import service

__all__ = ["service"]
