"""The one public URL of a federation: it admits a launch, decides which member takes it, and carries its events.

Imports run downward only: ``app → (web | engines) → clients → settings → core``; ``web`` and ``engines`` meet only in
the protocols of :mod:`gateway.core.ports`.  Nothing here imports ``member``.
"""
