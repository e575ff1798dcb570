"""From the address of a page that shows a notebook to the address of what it shows; pure.

nbviewer, Colab, GitHub's editor, raw files of GitHub, links of nbgitpuller, and gists.
"""

import re
from urllib.parse import parse_qs, unquote, urlsplit

_GITHUB_PATH = re.compile(r"/(?:github|gh)/(?P<rest>[^/]+/[^/]+(?:/(?:blob|tree)/.+)?)/?")
_GIST_PATH = re.compile(r"/(?:gist/)?(?P<user>[A-Za-z0-9-]+)/(?P<id>[0-9a-f]{5,64})(?:\.git)?(?:/.*)?")
_URL_PATH = re.compile(r"/(?P<kind>urls?)/(?P<rest>.+)")
_RAW_PATH = re.compile(r"/(?P<owner>[^/]+)/(?P<repo>[^/]+)/(?:refs/(?:heads|tags)/)?(?P<rest>.+)")

_NBVIEWERS = frozenset({"nbviewer.org", "nbviewer.jupyter.org", "nbviewer.ipython.org"})
_GISTS = frozenset({"gist.github.com", "gist.githubusercontent.com"})

#: Viewers that show viewers; more is nobody's honest link.
_DEPTH = 3


def shown_address(url: str) -> str:
    """What a viewer's page shows, as an address at its source; any other address as it is.

    Raises ``ValueError`` for what is no address.
    """
    for _ in range(_DEPTH):
        if (shown := _shown(url)) == url:
            break
        url = shown
    return url


def _shown(url: str) -> str:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().removeprefix("www.")
    if host in _NBVIEWERS:
        return _in_nbviewer(parts.path) or url
    if host == "github.dev":
        return f"https://github.com{parts.path}"
    if host in ("colab.research.google.com", "vscode.dev") and (found := _GITHUB_PATH.fullmatch(parts.path)):
        return f"https://github.com/{found['rest']}"
    if host == "raw.githubusercontent.com" and (found := _RAW_PATH.fullmatch(parts.path)):
        return f"https://github.com/{found['owner']}/{found['repo']}/blob/{found['rest']}"
    if parts.path.rstrip("/").endswith("/git-pull"):
        return _pulled(parts.query) or url
    return url


def gist_spec(url: str) -> tuple[str, str] | None:
    """The provider and the spec of a gist's page, percent-encoded, without its ref; ``None`` for any other address."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host not in _GISTS or not (found := _GIST_PATH.fullmatch(parts.path)):
        return None
    return "gist", f"{found['user']}/{found['id']}"


def _in_nbviewer(path: str) -> str | None:
    if found := _GITHUB_PATH.fullmatch(path):
        return f"https://github.com/{found['rest']}"
    if path.startswith("/gist/") and (found := _GIST_PATH.fullmatch(path)):
        return f"https://gist.github.com/{found['user']}/{found['id']}"
    if found := _URL_PATH.fullmatch(path):
        # nbviewer writes the scheme into the word: /url/ is http, /urls/ is https.
        scheme = "https" if found["kind"] == "urls" else "http"
        return f"{scheme}://{found['rest']}"
    return None


def _pulled(query: str) -> str | None:
    """The repository of a link of nbgitpuller, with its branch; what it opens lies below the repository's name."""
    given = {name: values[0] for name, values in parse_qs(query).items()}
    repo = given.get("repo", "")
    if not repo.startswith(("http://", "https://")):
        return None
    branch = given.get("branch")
    if not branch or "github.com" not in repo:
        return repo
    name = repo.rstrip("/").rpartition("/")[2].removesuffix(".git")
    opened = unquote(given.get("urlpath", "") or given.get("subPath", ""))
    inside = re.sub(rf"^(?:lab|doc|retro|notebooks|edit)?/?(?:tree/)?{re.escape(name)}/?", "", opened)
    repo = repo.rstrip("/").removesuffix(".git")
    if inside and inside != opened:
        return f"{repo}/{'blob' if '.' in inside.rpartition('/')[2] else 'tree'}/{branch}/{inside}"
    return f"{repo}/tree/{branch}"
