"""Version skew between members and this gateway: shown, never a reason to leave a member out.

The forms that cross the wire are additive, so one minor version ahead or behind works together.
"""

import re
from collections.abc import Mapping

from contract.sentences import said

_NUMBERS = re.compile(r"(\d+)\.(\d+)")


def skew(versions: Mapping[str, str], own: str) -> str | None:
    """How a member's version differs from this gateway's, as a sentence; ``None`` where it does not, or is not known.

    ``versions`` are those that the member tells; another BinderHub has no version of manybinder, and no skew.
    """
    theirs = versions.get("manybinder")
    here, there = _NUMBERS.match(own), _NUMBERS.match(theirs or "")
    if theirs is None or theirs == own or here is None or there is None:
        return None
    if here.group(1) == there.group(1) and abs(int(here.group(2)) - int(there.group(2))) <= 1:
        return said(
            "It runs manybinder %(theirs)s beside this gateway's %(own)s, which works together.", theirs=theirs, own=own
        )
    return said(
        "It runs manybinder %(theirs)s, too far from this gateway's %(own)s to be sure that they work together.",
        theirs=theirs,
        own=own,
    )
