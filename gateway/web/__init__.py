"""Answers requests, from the snapshot and from the journals of launches.

Holds no state of its own and imports no engine.
"""
