"""Quantities as Kubernetes writes them (``100m``, ``2Gi``, ``1e3``).

Source: kubernetes.io, "Quantity" in the API reference.
"""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE])|[eE]([+-]?[0-9]+))?")

_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}

#: Beyond this a number is no quantity of anything, and would cost much to compute.
_MAX_EXPONENT = 30


def quantity(text: str | float) -> Decimal:
    """The number that a quantity stands for (bytes, cores, pieces); raises ``ValueError``."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None or abs(int(match[3] or 0)) > _MAX_EXPONENT:
        raise ValueError(f"not a quantity: {text!r}")
    if match[2] in _BINARY:
        return Decimal(match[1]) * Decimal(1024 ** _BINARY[match[2]])
    exponent = int(match[3]) if match[3] else _DECIMAL.get(match[2] or "", 0)
    return Decimal(match[1]).scaleb(exponent)
