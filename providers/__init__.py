"""Repo providers: from a visitor's spec to a repository, and from a ref to a commit.

Used by the gateway, and by a member that is visited directly.  Imports ``contract``, ``servicekit`` and libraries;
knows no gateway and no member.  Nothing here trusts a spec: it names hosts that this service then talks to, so every
address is checked before anything connects to it, and Git runs without the configuration and the secrets of this
machine.
"""
