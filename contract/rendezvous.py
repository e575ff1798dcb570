"""Rendezvous hashing: who of several gets a key, so that the same one gets it again while the others come and go.

A score depends on its place and the key alone: a place that goes moves only what it had.
"""

import hashlib
import math


def score(size: float, key: str, place: str) -> float:
    """The place with the highest score gets the key; over many keys, in proportion to ``size`` (which is above 0).

    Source: Schindelhauer and Schomaker, "Weighted distributed hash tables" (SPAA 2005), the logarithmic method.
    """
    return size / -math.log(uniform(key, place))


def uniform(key: str, place: str) -> float:
    """A number that is evenly spread over (0, 1), both ends excluded, and the same on every machine."""
    text = f"{len(key)}:{key}{place}".encode(errors="surrogateescape")
    digest = hashlib.sha256(text).digest()
    # 52 bits and a half: all of them, and their distance from 1, are exact in a float.
    return ((int.from_bytes(digest[:8]) >> 12) + 0.5) / 2**52
