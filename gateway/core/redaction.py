"""What of a launch may be shown to everybody: in the archive of launches, and in every public list.

People paste links that hold more than they mean to publish: a password in a URL, a token in its query, the id of a
secret gist.  So a spec is public only if it is of a form in which each part is known; nothing is searched for and cut
out, and what is of no such form is not shown at all.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from providers.base import RepoSpec

#: A spec longer than this many characters is not looked into.
MAX_LENGTH = 2000

#: Rounds of decoding after which a text is given up; an honest spec is encoded once, or twice by mistake.
_MAX_LAYERS = 8

_NAME = r"[A-Za-z0-9_.-]{1,100}"
_HOST = r"(?:[\w.-]+|\[[0-9a-f:.]+\])"
# No "@" and ":" (a user and a password), no "?", "#", "=", "&" and ";" (values of a query or a session).
_PATH = r"/*[^@:?#=&;\\/][^@:?#=&;\\]*"
# The one user name that tells nothing is "git", which every host gives to everybody who comes by ssh.
_URL = re.compile(rf"(?:(?:https?|git)://|ssh://(?:git@)?){_HOST}(?::\d{{1,5}})?/{_PATH}", re.IGNORECASE)
_SCP_STYLE = re.compile(rf"git@{_HOST}:{_PATH}", re.IGNORECASE)
_DOI = re.compile(r"(?:doi:)?10\.\d{3,9}/[A-Za-z0-9_./()-]+", re.IGNORECASE)
_RESOURCE_ID = re.compile(r"[0-9a-f]{32}")
_SWHID = re.compile(r"swh:1:(?:dir|rev|rel):[0-9a-f]{40}")
_GIST = re.compile(rf"(?:{_NAME}/)?[0-9a-f]{{5,64}}(?:/[0-9a-f]{{40}}|/HEAD|/main|/master)?")
_NAMESPACE = re.compile(rf"{_NAME}(?:/{_NAME})+")
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
_REF = re.compile(r"[^@:?=&;\\\s]+")

# Tokens that can be told by how they begin, wherever they stand.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"gh[oprsu]_[A-Za-z0-9]{16}"  # GitHub
    r"|github_pat_\w{16}"
    r"|gl(?:pat|dt|rt|rtr|cbt|ptt|ft|soat|oas|imt|agent|ffct)-[\w-]{16}"  # GitLab
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"  # Amazon
    r"|AIza[\w-]{30}"  # Google
    r"|xox[a-z]-[\w-]{10}"  # Slack
    r"|hf_[A-Za-z0-9]{30}"  # Hugging Face
    r"|dckr_pat_[\w-]{16}"  # Docker
    r"|npm_[A-Za-z0-9]{36}"
    r"|pypi-AgE[\w-]{16}"
    r"|AT(?:ATT|BB|CTT)[\w-]{16}"  # Atlassian
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10}"  # JSON Web Tokens
    r")"
)


def public_spec(spec: RepoSpec, *, known_public: bool = False) -> str | None:
    """The spec with its prefix, percent-encoded as it came, if everybody may see it; else ``None``.

    ``known_public`` says that the provider lists the repository publicly.  It matters where whoever knows an address
    may read what is behind it, and the address is the secret: for gists.
    """
    form = _FORMS.get(spec.provider)
    prefix, slash, rest = spec.raw.partition("/")
    if form is None or prefix != spec.provider or not slash or len(spec.raw) > MAX_LENGTH:
        return None
    if spec.provider in _SECRET_BY_ADDRESS and not known_public:
        return None
    whole = _plain(spec.raw)
    if whole is None or _TOKEN.search(whole):
        return None
    return spec.raw if form(rest) else None


def public_url(url: str) -> str | None:
    """A repository's URL as it came, if it holds nothing but its place: no user, query or token; else ``None``."""
    plain = _plain(url) if len(url) <= MAX_LENGTH else None
    return url if plain is not None and _is_place(plain) and not _TOKEN.search(plain) else None


def _plain(text: str) -> str | None:
    """A text percent-decoded as often as it can be; ``None`` if it is no readable text then.

    Letters that look like ASCII to a reader or a resolver (a full-width "@") become ASCII.
    """
    for _ in range(_MAX_LAYERS):
        try:
            decoded = unicodedata.normalize("NFKC", unquote(text, errors="strict"))
        except UnicodeDecodeError:
            return None
        if decoded == text:
            return text if text.isprintable() else None
        text = decoded
    return None


def _matches(pattern: re.Pattern[str], text: str) -> bool:
    plain = _plain(text)
    return plain is not None and pattern.fullmatch(plain) is not None


def _is_place(plain: str) -> bool:
    return _URL.fullmatch(plain) is not None or _SCP_STYLE.fullmatch(plain) is not None


def _is_ref(text: str) -> bool:
    plain = _plain(text)
    return plain is not None and "//" not in plain and _REF.fullmatch(plain) is not None


def _is_github(rest: str) -> bool:
    *repository, ref = rest.split("/", 2)
    return len(repository) == 2 and _matches(_REPOSITORY, "/".join(repository)) and _is_ref(ref)


def _is_git(rest: str) -> bool:
    url, _, ref = rest.partition("/")
    plain = _plain(url)
    return plain is not None and _is_place(plain) and _is_ref(ref)


def _is_gitlab(rest: str) -> bool:
    namespace, _, ref = rest.partition("/")
    return _matches(_NAMESPACE, namespace) and _is_ref(ref)


def _is_gist(rest: str) -> bool:
    return _matches(_GIST, rest)


def _is_record(rest: str) -> bool:
    """A DOI, or the address of a record."""
    plain = _plain(rest)
    return plain is not None and any(form.fullmatch(plain) for form in (_DOI, _RESOURCE_ID, _URL))


def _is_swhid(rest: str) -> bool:
    # Qualifiers say where somebody has found it, which is nobody's concern.
    return _matches(_SWHID, rest)


#: Who knows the address of one may read it, and not everybody is meant to.
_SECRET_BY_ADDRESS = frozenset({"gist"})

#: A provider that is not here has no public specs, so that a new one is considered before it has.
_FORMS: Mapping[str, Callable[[str], bool]] = {
    "gh": _is_github,
    "gist": _is_gist,
    "git": _is_git,
    "gl": _is_gitlab,
    "zenodo": _is_record,
    "figshare": _is_record,
    "dataverse": _is_record,
    "hydroshare": _is_record,
    "ckan": _is_record,
    "swh": _is_swhid,
}
