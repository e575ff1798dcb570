"""What had better not be printed, as far as one can tell by names."""

import re

#: Names of variables and keys whose values are most likely secret.
_SECRET = re.compile(r"(?i)token|secret|passw|credential|api_?key|private_?key|auth$|access_?key|cryptkeeper")

#: Of these, what is an address, or the name of something.
_NO_SECRET = re.compile(r"(?i)(ur[il]|file|path|class|claim|endpoint|existingsecret|pullsecrets?|secretname|_names?)$")
#: What a text gives a value to.
_ASSIGNED = re.compile(r"([A-Za-z_][\w.-]*)[\"']?\]?\s*[:=]\s*[\"']?[^\s\"'=]")


def is_secret(name: str) -> bool:
    """Whether what bears such a name had better not be printed."""
    return _SECRET.search(name) is not None and _NO_SECRET.search(name) is None


def holds_secret(written: str) -> bool:
    """Whether a text seems to set something that is secret."""
    return any(is_secret(name) for name in _ASSIGNED.findall(written))
