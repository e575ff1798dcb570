"""A tiny Git repository, always the same, as the files of a bare one: what members are checked with.

Source: "Git Internals - Git Objects" and "The Dumb Protocol" of Pro Git.
"""

import hashlib
import zlib
from collections.abc import Mapping
from functools import cache

#: Where it is served, below the gateway's public URL.
PATH = "canary.git"

#: Whose session it is, where visitors log in: no provider's user.
USER = "manybinder-check"

_README = b"# Canary\n\nA federation launches this to see that a member works. It needs a notebook server alone.\n"
_BRANCH = "refs/heads/main"
# Whatever changes here changes the commit, and every member builds it anew.
_SIGNED = b"manybinder <canary@manybinder.invalid> 1700000000 +0000"


@cache
def repository() -> tuple[str, Mapping[str, bytes]]:
    """The commit, and every file by its path in the bare repository."""
    files: dict[str, bytes] = {}

    def keep(kind: str, body: bytes) -> bytes:
        whole = f"{kind} {len(body)}\0".encode() + body
        digest = hashlib.sha1(whole, usedforsecurity=False)
        name = digest.hexdigest()
        files[f"objects/{name[:2]}/{name[2:]}"] = zlib.compress(whole)
        return digest.digest()

    tree = keep("tree", b"100644 README.md\0" + keep("blob", _README))
    about = b"\nA canary\n"
    text = b"tree %s\nauthor %s\ncommitter %s\n" % (tree.hex().encode(), _SIGNED, _SIGNED)
    commit = keep("commit", text + about).hex()
    files["HEAD"] = f"ref: {_BRANCH}\n".encode()
    files["info/refs"] = f"{commit}\t{_BRANCH}\n".encode()
    return commit, files
