"""Builders: from a repository at a commit to an image that sessions start from (:mod:`member.builders.base`).

Nothing of a repository is run or parsed in this process.  May import ``member.confine``, which knows no builder.
"""
