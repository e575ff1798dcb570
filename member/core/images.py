"""Image names, by BinderHub's formula."""

import hashlib

import escapism

from contract.repos import RepoKey

_SAFE = "abcdefghijklmnopqrstuvwxyz0123456789"


def image_name(prefix: str, repo: RepoKey, commit: str) -> str:
    """``{prefix}{escaped repo}-{sha256(repo)[:6]}:{commit}``, lower case, ``_`` as ``-``.

    The formula is BinderHub's; the repo key stands for its slug, so that one repository has one image whichever
    provider it was reached by.
    """
    escaped = escapism.escape(repo, safe=_SAFE, escape_char="-").lower()
    digest = hashlib.sha256(repo.encode()).hexdigest()[:6]
    return f"{prefix}{escaped}-{digest}:{commit}".replace("_", "-").lower()
