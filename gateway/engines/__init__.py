"""The gateway's background work: the fleet's snapshot (its only writer), probes, reports, launches.

Answers no request itself: ``web`` reads the snapshot, and calls engines through :mod:`gateway.core.ports`.
"""
