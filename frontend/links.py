"""From whatever people paste to a provider and a spec.

Understands pages and clone URLs of repository hosts, any Git server's URL, the scp-style form, ``org/repo``, DOIs and
pages of archives, viewers of notebooks, and launch links of any Binder.  Pure; whether a spec is good is for its
provider to say.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from frontend.archive_links import DOI_PROVIDERS, archive_spec
from frontend.badges import addresses
from frontend.repository_pages import LinkError, Page, github_page, other_page
from frontend.viewers import gist_spec, shown_address

__all__ = ["Link", "LinkError", "make_link", "opening", "parse_link"]

GITHUB = "github.com"

#: Providers whose specs are recognised in a launch link.
_LAUNCH_LINK = re.compile(
    r"/v2/(?P<provider>gh|git|gl|gist|zenodo|figshare|dataverse|hydroshare|ckan|swh)/(?P<spec>.+)"
)

_SHORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+")
_SCP_STYLE = re.compile(r"[A-Za-z0-9_][\w.-]*@(?P<host>[\w.-]+):(?P<path>[^\s]+)", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST_AND_PATH = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?/.+")
_LOCAL = re.compile(r"[./~\\]|[A-Za-z]:[\\/]|file:", re.IGNORECASE)

_DEFAULT_REF = "HEAD"


@dataclass(frozen=True, slots=True)
class Link:
    """A repository at a ref, and what to open in it.

    ``spec`` is percent-encoded, without its provider.  ``path`` is a file's or directory's path in the repository ("" =
    none named); ``urlpath`` what a launch link asked to open instead.
    """

    provider: str
    spec: str
    path: str = ""
    is_directory: bool = False
    urlpath: str = ""
    classic: bool = False

    @property
    def path_spec(self) -> str:
        """The spec with its provider, as it stands behind ``/build/`` and ``/v2/``."""
        return f"{self.provider}/{self.spec}"

    @property
    def query(self) -> dict[str, str]:
        """What a launch page's address says of what to open."""
        if self.urlpath:
            return {"urlpath": self.urlpath}
        if not self.path:
            return {}
        if self.classic:
            return {"filepath": self.path}
        return {"urlpath": f"lab/tree/{quote(self.path)}"} if self.is_directory else {"labpath": self.path}

    @property
    def launch_path(self) -> str:
        """The launch page's path and query, relative to a site's base path."""
        query = urlencode(self.query)
        return f"v2/{self.path_spec}" + (f"?{query}" if query else "")


def parse_link(text: str, ref: str = "", path: str = "") -> Link:
    """Read a pasted text.  ``ref`` and ``path``, where given, go before what the text says.

    Raises :class:`LinkError`.
    """
    text, ref, path = text.strip(), ref.strip(), path.strip().strip("/")
    if not text:
        raise LinkError("Give the address of a repository.")
    # Whoever pastes a badge means where it leads.
    launches = [address for address in addresses(text) if _LAUNCH_LINK.search(address.partition("?")[0])]
    if len(launches) == 1:
        text = launches[0]
    if any(ord(character) < 0x21 or ord(character) == 0x7F for character in text):
        raise LinkError("The address of a repository has no spaces in it.")
    if archived := archive_spec(text):
        return Link(*archived, path)
    if _SHORT.fullmatch(text) and ".." not in text and not text.endswith("/."):
        return _link(GITHUB, f"https://{GITHUB}/{text}", Page(text), ref, path)
    if "://" not in text and (scp := _SCP_STYLE.fullmatch(text)):
        return _link(scp["host"].lower(), text, Page(scp["path"].strip("/")), ref, path)
    if _LOCAL.match(text):
        raise LinkError("A path on this computer cannot be launched: give an address that everyone can reach.")
    if not _SCHEME.match(text):
        if not _HOST_AND_PATH.fullmatch(text):
            raise LinkError(
                "%(text)s is not the address of a repository (https://… or owner/name).", text=repr(text[:200])
            )
        text = f"https://{text}"
    return _from_url(text, ref, path)


def opening(link: Link, kind: str = "", content: str = "", branch: str = "") -> Link:
    """The link, opening its path otherwise, and perhaps with a repository of contents in its environment's.

    ``kind`` is ``lab``, ``notebook`` (the classic one) or ``url`` (the path is an address below the session's), empty:
    JupyterLab.  ``content``, an address to clone, is brought by nbgitpuller when the session opens, and the path is one
    in it.  Raises :class:`LinkError`.
    """
    content, branch = content.strip(), branch.strip()
    if kind not in ("", "lab", "notebook", "url"):
        raise LinkError("%(kind)s is no way to open a file.", kind=repr(kind[:80]))
    if not content:
        if kind == "url":
            return replace(link, path="", urlpath=link.path or link.urlpath)
        return replace(link, classic=kind == "notebook", urlpath="" if kind and link.path else link.urlpath)
    if not re.fullmatch(r"https?://[^\s/]+/\S+", content):
        raise LinkError("The repository of contents is given by an address that begins with https://.")
    name = content.rstrip("/").rpartition("/")[2].removesuffix(".git")
    opened = f"{'tree' if kind == 'notebook' else 'lab/tree'}/{name}/{link.path}".rstrip("/")
    query = {
        "repo": content,
        **({"branch": branch} if branch else {}),
        "urlpath": link.path if kind == "url" else opened,
    }
    return replace(link, path="", classic=False, urlpath=f"git-pull?{urlencode(query)}")


def make_link(description: Mapping[str, Any], repo: str, ref: str = "", path: str = "") -> Link:
    """The link for a provider that was chosen, by its entry in ``/api/repoproviders``.

    Raises :class:`LinkError` if nothing is given.
    """
    repo, ref, path = repo.strip(), ref.strip(), path.strip().strip("/")
    if not repo:
        raise LinkError("Give the address of a repository.")
    provider = str(description["id"])
    try:
        found = parse_link(repo, ref, path)
    except LinkError:
        found = None
    if found is not None and (found.provider == provider or {found.provider, provider} <= DOI_PROVIDERS):
        # What a DOI leads to is known better by whoever chose the provider.
        return replace(found, provider=provider)
    if detect := description.get("detect"):
        # The host is the provider's own, in a name for the group that JavaScript takes.
        own = re.match(detect["regex"].replace("(?<repo>", "(?P<repo>"), repo)
        repo = own["repo"] if own else repo
    spec = quote(repo, safe="") if description["repo"]["urlEncode"] else quote(repo.strip("/"))
    if description["ref"]["enabled"]:
        spec += f"/{quote(ref or description['ref'].get('default', _DEFAULT_REF))}"
    return Link(provider, spec, path)


def _from_url(url: str, ref: str, path: str) -> Link:
    try:
        url = shown_address(url)
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise LinkError("%(url)s is not a readable address.", url=repr(url[:200])) from error
    if not host:
        raise LinkError("%(url)s names no host.", url=repr(url[:200]))
    if gist := gist_spec(url):
        provider, spec = gist
        return Link(provider, f"{spec}/{quote(ref)}" if ref else spec, path)
    if launch := _LAUNCH_LINK.search(parts.path):
        return _from_launch_link(launch["provider"], launch["spec"], parts.query, ref, path)
    if not parts.path.strip("/"):
        raise LinkError("%(url)s names a host and no repository.", url=repr(url[:200]))
    plain = host.removeprefix("www.")
    if plain == GITHUB and port in (None, 22, 80, 443):
        return _link(GITHUB, url, github_page(unquote(parts.path)), ref, path)
    if parts.scheme.lower() not in ("http", "https"):
        return _link(plain, url, Page(parts.path), ref, path)
    page = other_page(plain, unquote(parts.path))
    authority = parts.netloc.lower()
    return _link(plain, f"{parts.scheme.lower()}://{authority}{quote(page.repository)}", page, ref, path)


def _from_launch_link(provider: str, spec: str, search: str, ref: str, path: str) -> Link:
    """A launch link of some Binder; a ref that is given replaces the link's own where its provider has refs."""
    spec = quote(spec.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    kept = {"gh": 2, "gist": 2, "git": 1, "gl": 1}.get(provider)
    if ref and kept:
        spec = "/".join([*spec.split("/")[:kept], quote(ref)])
    query = {name: values[0] for name, values in parse_qs(search).items()}
    found = path or query.get("labpath") or query.get("filepath") or ""
    return Link(provider, spec, found, urlpath="" if found else query.get("urlpath", ""))


def _link(host: str, url: str, page: Page, ref: str, path: str) -> Link:
    """Put ref and path together; a ref that is given may tell where a page's ends."""
    ref, page_path = page.ref_and_path(ref)
    ref = ref or _DEFAULT_REF
    quoted_ref = quote(ref)
    if host == GITHUB:
        repository = page.repository.removesuffix(".git").strip("/")
        if repository.count("/") != 1:
            raise LinkError(
                "%(url)s names no repository on GitHub (https://github.com/owner/name).", url=repr(url[:200])
            )
        provider, spec = "gh", f"{quote(repository)}/{quoted_ref}"
    else:
        provider, spec = "git", f"{quote(url, safe='')}/{quoted_ref}"
    if path:
        return Link(provider, spec, path)
    return Link(provider, spec, page_path, page.is_directory and bool(page_path))
