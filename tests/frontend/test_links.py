"""What people paste, and the launch that it leads to."""

from urllib.parse import quote, unquote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.links import Link, LinkError, make_link, parse_link
from providers.git import GitProvider
from providers.github import GitHubProvider
from providers.registry import Providers
from providers.settings import GitHubSettings, GitSettings, ProvidersSettings


def git(url: str, ref: str = "HEAD", path: str = "", *, is_directory: bool = False) -> Link:
    return Link("git", f"{quote(url, safe='')}/{quote(ref)}", path, is_directory)


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("binder-examples/requirements", Link("gh", "binder-examples/requirements/HEAD")),
        ("  binder-examples/requirements\n", Link("gh", "binder-examples/requirements/HEAD")),
        ("github.com/o/r", Link("gh", "o/r/HEAD")),
        ("https://github.com/o/r", Link("gh", "o/r/HEAD")),
        ("https://www.GitHub.com/O/R.git/", Link("gh", "O/R/HEAD")),
        ("http://github.com/o/r?tab=readme#top", Link("gh", "o/r/HEAD")),
        ("https://github.com/o/r/tree/main", Link("gh", "o/r/main")),
        ("https://github.com/o/r/tree/main/notebooks/a b", None),
        ("https://github.com/o/r/tree/main/notebooks/a%20b", Link("gh", "o/r/main", "notebooks/a b", True)),
        ("https://github.com/o/r/blob/v1.0/index.ipynb", Link("gh", "o/r/v1.0", "index.ipynb")),
        ("https://github.com/o/r/commit/0123456", Link("gh", "o/r/0123456")),
        ("https://github.com/o/r/releases/tag/v1", Link("gh", "o/r/v1")),
        ("https://github.com/o/r/issues/1", Link("gh", "o/r/HEAD")),
        ("https://github.com/o/r/pull/12", Link("gh", "o/r/refs/pull/12/head")),
        ("https://github.com/o/r/pull/12/files#diff-1", Link("gh", "o/r/refs/pull/12/head")),
        ("https://github.com/o/r/pull/12/commits", Link("gh", "o/r/refs/pull/12/head")),
        (f"https://github.com/o/r/pull/12/commits/{'a' * 40}", Link("gh", f"o/r/{'a' * 40}")),
        ("https://github.com/o/r/pull/new/dev", Link("gh", "o/r/HEAD")),
        ("https://github.com/o/r/pulls", Link("gh", "o/r/HEAD")),
        ("https://github.com/o/r/wiki/Home", Link("gh", "o/r/HEAD")),
        ("https://github.com/o/r/actions/runs/12", Link("gh", "o/r/HEAD")),
        ("https://github.com/o/r/settings", Link("gh", "o/r/HEAD")),
        ("https://github.com/o/r/blob/refs/heads/main/a.ipynb", Link("gh", "o/r/main", "a.ipynb")),
        ("https://github.com/o/r/tree/refs/pull/12/head/dir", Link("gh", "o/r/refs/pull/12/head", "dir", True)),
        ("git@github.com:o/r.git", Link("gh", "o/r/HEAD")),
        ("ssh://git@github.com/o/r.git", Link("gh", "o/r/HEAD")),
        ("git://github.com/o/r.git", Link("gh", "o/r/HEAD")),
        ("https://gitlab.com/g/sub/r", git("https://gitlab.com/g/sub/r.git")),
        ("https://gitlab.com/g/r.git", git("https://gitlab.com/g/r.git")),
        ("https://gitlab.com/g/r/-/tree/dev/dir", git("https://gitlab.com/g/r.git", "dev", "dir", is_directory=True)),
        ("https://gitlab.com/g/r/-/issues", git("https://gitlab.com/g/r.git")),
        (
            "https://gitlab.com/g/s/r/-/merge_requests/5",
            git("https://gitlab.com/g/s/r.git", "refs/merge-requests/5/head"),
        ),
        ("https://gitlab.com/g/r/merge_requests/5", git("https://gitlab.com/g/r.git", "refs/merge-requests/5/head")),
        (
            "https://git.example.org/g/r/-/merge_requests/5/diffs?commit_id=1",
            git("https://git.example.org/g/r.git", "refs/merge-requests/5/head"),
        ),
        ("https://gitlab.com/g/r/-/merge_requests", git("https://gitlab.com/g/r.git")),
        ("https://git.example.org/g/r/-/issues/3", git("https://git.example.org/g/r.git")),
        ("https://gitlab.com/-/snippets/3", None),
        ("https://codeberg.org/o/r/pulls/7/files", git("https://codeberg.org/o/r", "refs/pull/7/head")),
        ("https://codeberg.org/o/r/issues/7", git("https://codeberg.org/o/r")),
        ("https://bitbucket.org/o/r/issues", git("https://bitbucket.org/o/r")),
        ("https://bitbucket.org/o/r/pull-requests/3/diff", None),
        ("https://huggingface.co/spaces/o/n", git("https://huggingface.co/spaces/o/n")),
        ("https://huggingface.co/spaces/o/n/blob/main/x", git("https://huggingface.co/spaces/o/n", "main", "x")),
        ("https://huggingface.co/datasets/o/n/viewer", git("https://huggingface.co/datasets/o/n")),
        ("https://huggingface.co/o/n/discussions/1", git("https://huggingface.co/o/n")),
        (
            "https://huggingface.co/o/n/tree/refs%2Fpr%2F1/d",
            git("https://huggingface.co/o/n", "refs/pr/1", "d", is_directory=True),
        ),
        ("https://git.example.org/g/r/-/blob/main/a.ipynb", git("https://git.example.org/g/r.git", "main", "a.ipynb")),
        ("https://codeberg.org/o/r/src/branch/main/a.ipynb", git("https://codeberg.org/o/r", "main", "a.ipynb")),
        ("https://bitbucket.org/o/r/src/main/dir", git("https://bitbucket.org/o/r", "main", "dir", is_directory=True)),
        ("http://127.0.0.1:8000/repo.git", git("http://127.0.0.1:8000/repo.git")),
        ("http://[::1]:8000/repo.git", git("http://[::1]:8000/repo.git")),
        ("git@git.example.org:o/r.git", git("git@git.example.org:o/r.git")),
        ("ssh://git@git.example.org:2222/o/r.git", git("ssh://git@git.example.org:2222/o/r.git")),
        ("https://mybinder.org/v2/gh/o/r/main?urlpath=lab%2Ftree", Link("gh", "o/r/main", urlpath="lab/tree")),
        (
            "https://mybinder.org/v2/git/https%3A%2F%2Fh%2Fr/main?labpath=a",
            Link("git", "https%3A%2F%2Fh%2Fr/main", "a"),
        ),
        ("https://mybinder.org/v2/zenodo/10.5281/zenodo.3242074/", Link("zenodo", "10.5281/zenodo.3242074")),
        (f"https://mybinder.org/v2/swh/swh:1:rev:{'e' * 40}", Link("swh", f"swh:1:rev:{'e' * 40}")),
        ("10.5281/zenodo.3242074", Link("zenodo", "10.5281/zenodo.3242074")),
        ("https://doi.org/10.5281/zenodo.3242074", Link("zenodo", "10.5281/zenodo.3242074")),
        ("https://zenodo.org/records/3242074?preview=1", Link("zenodo", "10.5281/zenodo.3242074")),
        ("https://zenodo.org/doi/10.5281/zenodo.3242073", Link("zenodo", "10.5281/zenodo.3242073")),
        ("doi:10.6084/m9.figshare.9782777.v2", Link("figshare", "10.6084/m9.figshare.9782777.v2")),
        ("https://figshare.com/articles/code/A_title/9784088/1", Link("figshare", "10.6084/m9.figshare.9784088.v1")),
        ("https://figshare.com/articles/A_title/9784088", Link("figshare", "10.6084/m9.figshare.9784088")),
        ("https://doi.org/10.7910/DVN/TJCLKP", Link("dataverse", "10.7910/DVN/TJCLKP")),
        (
            "https://dataverse.harvard.edu/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP&version=1.0",
            Link("dataverse", "10.7910/DVN/TJCLKP"),
        ),
        (f"https://www.hydroshare.org/resource/{'8f' * 16}/", Link("hydroshare", "8f" * 16)),
        (f"swh:1:dir:{'d' * 40};origin=https://x.org", Link("swh", f"swh:1:dir:{'d' * 40}")),
        (f"https://archive.softwareheritage.org/swh:1:rev:{'e' * 40};path=/", Link("swh", f"swh:1:rev:{'e' * 40}")),
    ],
)
def test_what_is_pasted(text: str, link: Link | None) -> None:
    if link is None:
        with pytest.raises(LinkError):
            parse_link(text)
    else:
        assert parse_link(text) == link


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "x",
        "a b",
        "/home/me/repo",
        "./repo",
        "../o/r",
        "~/repo",
        "C:\\repo",
        "file:///repo",
        "https://",
        "https://github.com",
        "https://github.com/o",
        "https://example.org/",
        "http://[::1/x",
        "https://h:99999/r",
        "git@github.com:o",
    ],
)
def test_what_leads_nowhere(text: str) -> None:
    with pytest.raises(LinkError, match=r"\.$|\)\.$"):
        parse_link(text)


def test_a_ref_and_a_path_that_are_given_go_first() -> None:
    page = "https://github.com/o/r/blob/feature/x/dir/a.ipynb"
    assert parse_link(page, ref="feature/x") == Link("gh", "o/r/feature/x", "dir/a.ipynb")
    assert parse_link("https://github.com/o/r/pull/12", ref="v1") == Link("gh", "o/r/v1")
    assert parse_link(page, ref="v1") == Link("gh", "o/r/v1", "x/dir/a.ipynb")
    assert parse_link("o/r", path="/a b.ipynb") == Link("gh", "o/r/HEAD", "a b.ipynb")
    assert parse_link("https://mybinder.org/v2/gh/o/r/main?labpath=a", ref="v1") == Link("gh", "o/r/v1", "a")


@pytest.mark.parametrize("text", ["o/r", "o/r/", "https://git.corp.example/o/r", "http://git.corp.example/o/r/"])
async def test_a_provider_that_is_chosen_knows_its_own_host(text: str) -> None:
    async with aiohttp.ClientSession() as session:
        description = GitHubProvider(GitHubSettings(host="git.corp.example"), session).description()
    assert make_link(description, text, "v1", "a b.ipynb") == Link("gh", "o/r/v1", "a b.ipynb")


def test_a_git_server_that_is_chosen_gets_what_was_typed() -> None:
    description = GitProvider(GitSettings()).description()
    assert make_link(description, "git@github.com:o/r.git") == git("git@github.com:o/r.git")


def test_the_launch_path() -> None:
    assert parse_link("o/r", path="a b.ipynb").launch_path == "v2/gh/o/r/HEAD?labpath=a+b.ipynb"
    assert Link("gh", "o/r/main", "d e", is_directory=True).launch_path == "v2/gh/o/r/main?urlpath=lab%2Ftree%2Fd%2520e"


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,10}", fullmatch=True)
REFS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}(/[A-Za-z0-9]{1,5}){0,2}", fullmatch=True)


@given(
    NAMES, NAMES, REFS, st.sampled_from(["{}", "https://{}", "https://{}.git", "ssh://git@{}.git", "https://www.{}/"])
)
def test_every_spelling_of_a_github_repository_is_one_spec(owner: str, repo: str, ref: str, form: str) -> None:
    text = form.format(f"github.com/{owner}/{repo}")
    assert parse_link(text, ref).spec == f"{owner}/{repo}/{ref}"


@given(NAMES, st.lists(NAMES, min_size=1, max_size=4), REFS)
def test_a_git_url_comes_back_whole(host: str, path: list[str], ref: str) -> None:
    url = f"https://{host.lower()}.example/{'/'.join(path)}.git"
    link = parse_link(url, ref)
    quoted_url, _, quoted_ref = link.spec.partition("/")
    assert (link.provider, unquote(quoted_url), unquote(quoted_ref)) == ("git", url, ref)


@given(st.text(), st.text(max_size=10), st.text(max_size=10))
def test_any_text_is_a_link_or_a_sentence(text: str, ref: str, path: str) -> None:
    try:
        link = parse_link(text, ref, path)
    except LinkError:
        pass  # a sentence is in it, as the tests above see
    else:
        assert link.launch_path.isascii()
        assert link.launch_path.startswith("v2/")


RECORDS = st.sampled_from(
    ["10.5281/zenodo.3242074", "10.5072/zenodo.1", "10.6084/m9.figshare.9782777", "10.6084/m9.figshare.9782777.v2"]
)


@given(RECORDS, st.sampled_from(["", "doi:", "https://doi.org/", "http://dx.doi.org/", " "]))
def test_a_doi_in_any_form_leads_to_one_spec(doi: str, before: str) -> None:
    link = parse_link(f"{before}{doi}")
    assert link.spec == doi
    assert link.provider in doi
    assert parse_link(f"https://mybinder.org/{link.launch_path}") == link


CHOSEN = [
    ("gl", "https://gitlab.com/group/sub/project", "gl/group%2Fsub%2Fproject/HEAD"),
    ("gl", "group/project", "gl/group%2Fproject/HEAD"),
    ("gist", "https://gist.github.com/user/0af9", "gist/user/0af9/HEAD"),
    ("gist", "user/0af9", "gist/user/0af9/HEAD"),
    ("zenodo", "10.5281/zenodo.3242074", "zenodo/10.5281/zenodo.3242074"),
    ("figshare", "https://doi.org/10.25384/sage.7892621.v1", "figshare/10.25384/sage.7892621.v1"),
    ("dataverse", "10.7910/DVN/TJCLKP", "dataverse/10.7910/DVN/TJCLKP"),
    ("hydroshare", "8f" * 16, f"hydroshare/{'8f' * 16}"),
    ("ckan", "https://demo.ckan.org/dataset/my-sample", "ckan/https%3A%2F%2Fdemo.ckan.org%2Fdataset%2Fmy-sample"),
    ("swh", f"swh:1:dir:{'d' * 40}", f"swh/swh:1:dir:{'d' * 40}"),
    ("swh", f"https://archive.softwareheritage.org/swh:1:dir:{'d' * 40}", f"swh/swh:1:dir:{'d' * 40}"),
]


@pytest.mark.parametrize(("provider", "text", "path_spec"), CHOSEN)
async def test_a_provider_that_was_chosen_reads_what_was_pasted(provider: str, text: str, path_spec: str) -> None:
    async with aiohttp.ClientSession() as session:
        providers = Providers(ProvidersSettings(), session)
        (description,) = [item for item in providers.descriptions() if item["id"] == provider]
        link = make_link(description, text)
        spec = providers.parse(link.path_spec)
        assert spec == providers.parse(path_spec)
        assert parse_link(f"https://mybinder.org/{link.launch_path}") == link
        await providers.close()
