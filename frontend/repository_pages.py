"""From a page of a repository host to the repository, and the ref and the path that the page shows; pure.

GitHub, GitLab, Bitbucket, Gitea and Forgejo, and Hugging Face.  A page of a repository that shows no state of it (its
issues, its wiki) is about the repository.
"""

import re
from dataclasses import dataclass

_GITLAB = re.compile(r"(.+?)/-(?:/(?P<kind>tree|blob|raw|blame|commits|commit|merge_requests)/(?P<rest>.+)|/.*)?")
_GITLAB_OLD = re.compile(r"(.+?)/(?P<kind>tree|blob|merge_requests)/(?P<rest>.+)")
_HUGGING_FACE = re.compile(
    r"(/(?:spaces/|datasets/)?[^/]+/[^/]+)/(?P<kind>tree|blob|raw|resolve|blame|edit|commits|commit)/(?P<rest>.+)"
)

#: Each repository of theirs lies at ``/owner/name``.
_TWO_NAMES = frozenset({"bitbucket.org", "codeberg.org", "gitea.com"})

_DIRECTORIES = frozenset({"tree", "commits"})

#: Refs that pages name whole.
_WHOLE_REF = re.compile(r"refs/(?:pull/\d+/(?:head|merge)|merge-requests/\d+/(?:head|merge)|pr/\d+)(?=/|$)")


class LinkError(ValueError):
    """A text that leads to no repository; the message is a sentence for the visitor.

    ``sentence`` is the message with names (``%(text)s``) in place of what it is about, to be found in a catalogue.
    """

    def __init__(self, sentence: str, **values: str) -> None:
        super().__init__(sentence % values)
        self.sentence, self.values = sentence, values


@dataclass(frozen=True, slots=True)
class Page:
    """What a page is about; ``rest`` is the ref that it shows, and the path behind it."""

    repository: str
    rest: str = ""
    is_directory: bool = False

    def ref_and_path(self, ref: str) -> tuple[str, str]:
        """Where the ref ends and the path begins: a ``ref`` that is known tells, or goes before the page's own."""
        rest = re.sub(r"^refs/(?:heads|tags)/", "", self.rest.strip("/"))
        if ref and (rest == ref or rest.startswith(f"{ref}/")):
            return ref, rest[len(ref) + 1 :]
        whole = _WHOLE_REF.match(rest)
        shown, _, path = (whole[0], "", rest[whole.end() + 1 :]) if whole else rest.partition("/")
        return ref or shown, path


def github_page(path: str) -> Page:
    """A page of GitHub, by its path, decoded; raises :class:`LinkError`."""
    owner, _, rest = path.strip("/").partition("/")
    repo, _, rest = rest.partition("/")
    repository = f"{owner}/{repo.removesuffix('.git')}"
    if not owner or repository.endswith("/"):
        raise LinkError("The address names a GitHub user and no repository.")
    kind, _, rest = rest.partition("/")
    if kind in ("tree", "blob", "raw", "edit", "blame", "commits", "commit"):
        return Page(repository, rest, is_directory=kind in _DIRECTORIES)
    if kind == "releases" and rest.startswith("tag/"):
        return Page(repository, rest.removeprefix("tag/"))
    if kind == "pull":
        return Page(repository, _of_pull_request(rest))
    return Page(repository)


def other_page(host: str, path: str) -> Page:
    """A page of any other host, by its path, decoded: the repository's own path, where the host's pages are known.

    Raises :class:`LinkError`.
    """
    path = "/" + path.strip("/")
    if path.startswith("/-/"):
        raise LinkError("%(url)s names a host and no repository.", url=repr(f"https://{host}{path}"[:200]))
    found = _GITLAB.fullmatch(path) or (_GITLAB_OLD.fullmatch(path) if host == "gitlab.com" else None)
    if found:
        return _gitlab_page(f"{found[1].removesuffix('.git')}.git", found["kind"], found["rest"])
    if host == "gitlab.com":
        # GitLab redirects to the form with this ending; naming it saves the detour.
        return Page(path if path.endswith(".git") else f"{path}.git")
    if host == "huggingface.co":
        return _hugging_face_page(path)
    if found := re.fullmatch(r"(/[^/]+/[^/]+)/(?:src|raw)/(?:branch|tag|commit)/(.+)", path):  # Gitea
        return Page(found[1], found[2], is_directory=not _has_suffix(found[2]))
    if found := re.fullmatch(r"(/[^/]+/[^/]+)/pulls/(\d+(?:/.*)?)", path):  # Gitea
        return Page(found[1], _of_pull_request(found[2]))
    if host == "bitbucket.org" and (found := re.fullmatch(r"(/[^/]+/[^/]+)/src/(.+)", path)):
        return Page(found[1], found[2], is_directory=not _has_suffix(found[2]))
    if host == "bitbucket.org" and re.fullmatch(r"/[^/]+/[^/]+/pull-requests/\d.*", path):
        raise LinkError("Bitbucket keeps no ref of a pull request: give the page of its branch instead.")
    if host in _TWO_NAMES:
        return Page("/".join(path.split("/")[:3]))
    return Page(path)


def _gitlab_page(repository: str, kind: str | None, rest: str | None) -> Page:
    if kind != "merge_requests":
        return Page(repository, rest or "", is_directory=kind in _DIRECTORIES)
    number = re.match(r"\d+(?=/|$)", rest or "")
    return Page(repository, f"refs/merge-requests/{number[0]}/head" if number else "")


def _hugging_face_page(path: str) -> Page:
    if found := _HUGGING_FACE.fullmatch(path):
        return Page(found[1], found["rest"], is_directory=found["kind"] in _DIRECTORIES)
    names = path.split("/")
    return Page("/".join(names[: 4 if names[1] in ("spaces", "datasets") else 3]))


def _of_pull_request(rest: str) -> str:
    """The ref of a pull request's page, by what stands behind ``pull/``: one of its commits, or where it is now."""
    if one := re.fullmatch(r"\d+/(?:commits|changes|files)/([0-9a-f]{40})/?", rest):
        return one[1]
    number = re.match(r"\d+(?=/|$)", rest)
    return f"refs/pull/{number[0]}/head" if number else ""


def _has_suffix(path: str) -> bool:
    return "." in path.rpartition("/")[2]
