"""Names of Git refs and commits.

Source: git-check-ref-format(1).
"""

import re
from urllib.parse import unquote

from providers.base import RepoSpec, SpecError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|\.$|/$|^[-/.]")

#: Longer than any name that Git itself would store as a file.
MAX_REF = 512


def is_commit(ref: str) -> bool:
    """Whether the ref is a whole commit id (SHA-1, lower case)."""
    return _COMMIT.fullmatch(ref) is not None


def read_ref(encoded: str) -> str:
    """The ref in a spec, decoded and checked; a commit id comes in lower case.

    Raises :class:`SpecError` for a name that no ref can have: it might be an option, a pattern or an expression.
    """
    ref = decode(encoded)
    if is_commit(ref.lower()):
        return ref.lower()
    if not ref or ref == "@" or len(ref) > MAX_REF or _FORBIDDEN.search(ref):
        raise SpecError(f"{ref[:80]!r} cannot be the name of a branch, a tag or a commit.")
    return ref


def decode(encoded: str) -> str:
    """Percent-decode a part of a spec; raises :class:`SpecError` if it is no UTF-8."""
    try:
        return unquote(encoded, errors="strict")
    except UnicodeDecodeError as error:
        raise SpecError(f"{encoded[:80]!r} is not percent-encoded UTF-8.") from error


def not_found(spec: RepoSpec) -> str:
    """BinderHub's sentence for a repository or ref that is not there."""
    return f"Could not resolve ref for {spec_name(spec)}. Double check your URL and that your repo is public."


def spec_name(spec: RepoSpec) -> str:
    """A spec as BinderHub writes it in messages: ``gh:org/repo/main``."""
    return spec.raw.replace("/", ":", 1)
