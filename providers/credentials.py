"""Credentials with which Git clones from a server of the settings; a visitor names none.

They are bound to the server's address: Git asks a helper of ours for them when that server, and no other one, wants
them; so neither a submodule nor a redirect leads them elsewhere.  They stand in the environment of the one Git that
fetches, under BinderHub's name, and in no argument.

Source: git-config(1), "credential.<url>.*" and "GIT_CONFIG_COUNT"; gitcredentials(7).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from providers.settings import ProvidersSettings

#: BinderHub's and repo2docker's name.
VARIABLE = "GIT_CREDENTIAL_ENV"

_HELPER = f'!f() {{ test "$1" != get || printf "%s\\n" "${VARIABLE}"; }}; f'

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class GitCredentials:
    """What ``server`` (``https://host[:port]``) wants, in the form of git-credential(1)."""

    server: str
    text: str

    @property
    def config(self) -> Mapping[str, str]:
        """Git's configuration; it holds no secret."""
        return {f"credential.{self.server}.helper": _HELPER}

    @property
    def environ(self) -> dict[str, str]:
        """What Git's environment must hold beside this configuration."""
        return {VARIABLE: self.text}

    @property
    def whole_environ(self) -> dict[str, str]:
        """Both as an environment, for a Git whose arguments are another's."""
        counted = {"GIT_CONFIG_COUNT": str(len(self.config))}
        for n, (key, value) in enumerate(self.config.items()):
            counted |= {f"GIT_CONFIG_KEY_{n}": key, f"GIT_CONFIG_VALUE_{n}": value}
        return counted | self.environ


def git_credentials(provider: str, url: str, settings: ProvidersSettings) -> GitCredentials | None:
    """The credentials for a repository's URL, where its provider has any for the server."""
    for server, text in _known(provider, settings):
        if _place(server) == _place(url):
            return GitCredentials(server, text)
    return None


def _known(provider: str, settings: ProvidersSettings) -> list[tuple[str, str]]:
    match provider:
        case "gh":
            return _own(settings.gh.host, settings.gh.git_credentials.get_secret_value())
        case "gl":
            return _own(settings.gl.host, settings.gl.git_credentials.get_secret_value())
        case "git":
            return [(entry.url, entry.text) for entry in settings.git.git_credentials]
    return []


def _own(host: str, text: str) -> list[tuple[str, str]]:
    return [(f"https://{host}", text)] if text else []


def _place(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)
