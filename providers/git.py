"""Any Git server: ``git/<percent-encoded URL>/<ref>``.

A whole commit id is taken as it is: no Git server can be asked about one without fetching it.  Anything else is looked
up with ``git ls-remote``.  Redirections are followed here and not by Git, so that each address is checked before
anything connects to it; the URL that they lead to is the one to clone.
"""

import asyncio
import contextlib
import functools
import logging
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from contract.repos import repo_key
from contract.sentences import said
from providers import lsremote
from providers.addresses import HostNotFoundError, PinnedResolver, public_addresses
from providers.base import ProviderUnavailableError, RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.credentials import git_credentials
from providers.git_url import GitURL, parse_git_url
from providers.refs import decode, is_commit, not_found, read_ref
from providers.settings import GitSettings, ProvidersSettings

logger = logging.getLogger(__name__)

_MAX_REDIRECTS = 3
_REFS_PATH = "/info/refs?service=git-upload-pack"

# What Git (in English, of which its environment makes sure) says of a repository that is absent or not public ...
_ABSENT = re.compile(
    r"not found|does not appear to be a git repository|returned error: 40[0-9]|returned error: 410"
    r"|authentication failed|could not read username|could not resolve host"
    r"|access denied|permission denied|repository not exported|could not read from remote repository",
    re.IGNORECASE,
)
# ... of a server that was not reached, which ssh follows up with the last of the above ...
_UNREACHED = re.compile(r"^ssh: connect to host |^(kex|ssh)_exchange_identification:", re.MULTILINE)
# ... and of one that has moved.
_MOVED = re.compile(r"returned error: 30[1278]")

#: ``http.curloptResolve``, without which an address that was checked cannot be held on to, is as old as this.
_PINNING_GIT = (2, 37)


class GitProvider:
    """See the module."""

    prefix = "git"

    def __init__(self, settings: GitSettings) -> None:
        self._settings = settings
        self._credentials = ProvidersSettings(git=settings)
        self._room = asyncio.Semaphore(settings.concurrent)

    def parse(self, spec: str) -> RepoSpec:
        """Read ``percent-encoded-url/ref``; raises :class:`SpecError`."""
        quoted_url, _, ref = spec.partition("/")
        if not quoted_url or not ref or quoted_url.endswith(":"):
            hint = " The repository's URL must be percent-encoded (https%3A%2F%2F…)." if "://" in spec else ""
            raise SpecError(f'Spec is not of the form "url-escaped-url/ref", provided: "{spec[:200]}".{hint}')
        url = str(parse_git_url(decode(quoted_url), self._settings.allowed_protocols))
        return RepoSpec(self.prefix, f"{self.prefix}/{spec}", url, read_ref(ref), repo_key(url))

    def identity(self, spec: RepoSpec) -> str:
        """The URL: what another scheme or user leads to need not be the same."""
        return spec.repo_url

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find the commit of a branch, a tag or ``HEAD``."""
        try:
            if is_commit(spec.ref):
                async with asyncio.timeout(self._settings.timeout):
                    url = parse_git_url(spec.repo_url, self._settings.allowed_protocols)
                    await self._checked_addresses(url, spec)
                return self._resolved(spec, spec.ref, spec.repo_url)
            async with self._place(), asyncio.timeout(self._settings.timeout):
                commit, repo_url = await self._look_up(spec)
        except (TimeoutError, lsremote.GitTimeoutError) as error:
            host = URL(spec.repo_url).host
            raise ProviderUnavailableError(
                f"{host} did not answer within {self._settings.timeout:g} seconds."
            ) from error
        return self._resolved(spec, commit, repo_url)

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        return {
            "displayName": said("Git repository"),
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/.+"},
            "repo": {
                "label": "Arbitrary git repository URL",
                "placeholder": "example: http://git.example.com/repo",
                "urlEncode": True,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places for those who ask a server; raises :class:`ProviderUnavailableError` if none comes free."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._room.acquire()
        except TimeoutError as error:
            text = "This service asks many Git servers just now. Please try again in a minute."
            raise ProviderUnavailableError(text, retry_after_s=60.0) from error
        try:
            yield
        finally:
            self._room.release()

    def _resolved(self, spec: RepoSpec, commit: str, repo_url: str) -> Resolved:
        quoted_url = spec.raw.split("/")[1]
        # No page of an unknown server is known to show a commit; the repository has to do.
        found = replace(spec, repo_url=repo_url, repo=repo_key(repo_url))
        return Resolved(found, commit, f"git/{quoted_url}/{commit}", repo_url)

    async def _look_up(self, spec: RepoSpec) -> tuple[str, str]:
        """The commit of a ref, and the URL at which the repository is now."""
        url = parse_git_url(spec.repo_url, self._settings.allowed_protocols)
        for _ in range(_MAX_REDIRECTS + 1):
            addresses = await self._checked_addresses(url, spec)
            result = await self._ls_remote(url, addresses, spec.ref)
            if result.status == 0:
                commit = choose(result.output, spec.ref)
                if commit is None:
                    hint = ""
                    if re.fullmatch(r"[0-9a-f]{4,39}", spec.ref):
                        hint = " If it is a commit, give all 40 characters of its id."
                    raise RefNotFoundError(not_found(spec) + hint)
                return commit, str(url)
            if url.scheme in ("http", "https") and _MOVED.search(result.errors):
                url = await self._moved_to(url, addresses, spec)
                continue
            logger.info("git ls-remote %s: %s", url, result.errors.strip())
            if _ABSENT.search(result.errors) and not _UNREACHED.search(result.errors):
                raise RefNotFoundError(not_found(spec))
            raise ProviderUnavailableError(f"The server {url.host} did not say which refs it has.")
        raise RefNotFoundError(f"{not_found(spec)} (It redirects too often.)")

    async def _checked_addresses(self, url: GitURL, spec: RepoSpec) -> list[str] | None:
        """The addresses to connect to; ``None`` where any may be."""
        if self._settings.allow_private_addresses:
            return None
        try:
            return await public_addresses(url.host, url.effective_port)
        except HostNotFoundError as error:
            raise RefNotFoundError(f"{not_found(spec)} (There is no host {url.host}.)") from error

    async def _ls_remote(self, url: GitURL, addresses: list[str] | None, ref: str) -> lsremote.GitResult:
        config = ["http.followRedirects=false"]
        env = lsremote.environment(sorted(self._settings.allowed_protocols))
        if (credentials := git_credentials(self.prefix, str(url), self._credentials)) is not None:
            config += [f"{key}={value}" for key, value in credentials.config.items()]
            env |= credentials.environ
        if addresses is not None:
            url = _pin(url, addresses, config, env)
        patterns = ["HEAD"] if ref == "HEAD" else [ref, f"{ref}^{{}}"]
        try:
            if addresses is not None and await asyncio.to_thread(_git_version) < _PINNING_GIT:
                raise ProviderUnavailableError("The Git of this service is too old; it needs 2.37 or newer.")
            return await lsremote.ls_remote(
                str(url), patterns, config=config, env=env, timeout_s=self._settings.timeout
            )
        except lsremote.GitOutputError as error:
            raise ProviderUnavailableError(f"The server {url.host} answered with too much.") from error
        except OSError as error:
            logger.exception("Git cannot be run")
            raise ProviderUnavailableError("Git cannot be run by this service.") from error

    async def _moved_to(self, url: GitURL, addresses: list[str] | None, spec: RepoSpec) -> GitURL:
        """Where a server says that the repository is."""
        resolver = PinnedResolver(addresses) if addresses is not None else None
        address = URL(str(url).rstrip("/") + _REFS_PATH, encoded=True)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as session,
                session.get(address, allow_redirects=False, headers={"User-Agent": "git/2 (manybinder)"}) as response,
            ):
                location = urljoin(str(address), response.headers.get("Location", ""))
        except (aiohttp.ClientError, ValueError) as error:
            raise ProviderUnavailableError(f"The server {url.host} redirects, and does not say where to.") from error
        target, found, _ = location.partition("/info/refs")
        if not found:  # to a page for people, such as one to log in
            raise RefNotFoundError(not_found(spec))
        if url.scheme == "https" and not target.startswith("https://"):
            raise SpecError(f"The server {url.host} redirects to a connection that is not encrypted.")
        return parse_git_url(target, self._settings.allowed_protocols & {"http", "https"})


def choose(output: str, ref: str) -> str | None:
    """The commit of a ref in what ``git ls-remote`` printed: a branch before a tag, a tag's commit before its object.

    ``git ls-remote`` lists every ref whose name ends with the one asked for, so that "main" finds "feature/main" too.
    """
    listed = {}
    for line in output.splitlines():
        object_id, _, name = line.partition("\t")
        if is_commit(object_id):
            listed[name] = object_id
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}", f"refs/remotes/{ref}"):
        if name in listed:
            return listed.get(f"{name}^{{}}", listed[name])
    return None


def _pin(url: GitURL, addresses: list[str], config: list[str], env: dict[str, str]) -> GitURL:
    """Hold Git to addresses, each protocol in its own way; returns the URL to give it."""
    if url.scheme == "ssh":
        env["GIT_SSH_COMMAND"] = lsremote.ssh_command(addresses[0], url.host)
        return url
    if url.scheme == "git":
        env["GIT_OVERRIDE_VIRTUAL_HOST"] = url.authority
        return replace(url, host=addresses[0])
    listed = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    config.append(f"http.curloptResolve={url.host}:{url.effective_port}:{listed}")
    return url


@functools.cache
def _git_version() -> tuple[int, ...]:
    """The version of the Git on PATH; raises ``OSError`` if there is none."""
    output = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    match = re.search(r"(\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2])) if match else (0, 0)
