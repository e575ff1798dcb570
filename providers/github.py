"""GitHub, and GitHub Enterprise: ``gh/<owner>/<repository>/<ref>``.

A ref is resolved by the REST API, "Get a commit".  The answers' ETags are kept: asking again with one costs nothing of
the quota while nothing has changed.  A whole commit id is taken as it is, without a request: it names its content, so
there is nothing to look up, and a commit that does not exist is noticed by whoever fetches it.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from contract.json_types import loads_object
from contract.repos import repo_key
from providers.base import ProviderUnavailableError, RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.cache import Cache
from providers.refs import decode, is_commit, not_found, read_ref
from providers.settings import GitHubSettings

logger = logging.getLogger(__name__)

#: Seconds for which a 404 is believed; it carries no ETag, and the repository may be made any moment.
NOT_FOUND_TTL_S = 300.0

#: Seconds for which an ETag is kept.
ETAG_TTL_S = 7 * 86400.0

# A commit's description lists its files; more than this is no answer.
_MAX_BODY = 8 * 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")

_Key = tuple[str, str]


class GitHubProvider:
    """See the module.  ``wall_clock`` is Unix time, which GitHub counts its quota in."""

    prefix = "gh"

    def __init__(
        self,
        settings: GitHubSettings,
        session: aiohttp.ClientSession,
        *,
        cache_size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._session = session
        self._wall_clock = wall_clock
        self._known: Cache[_Key, tuple[str, str]] = Cache(cache_size, clock)
        self._absent: Cache[_Key, bool] = Cache(cache_size, clock)
        self._blocked_until = 0.0
        self.quota_remaining: int | None = None
        """Requests that the API still allows in its present hour, as it last said."""

    def parse(self, spec: str) -> RepoSpec:
        """Read ``owner/repository/ref``; raises :class:`SpecError`."""
        parts = spec.split("/", 2)
        if len(parts) < 3:
            hint = f' Did you mean "{spec}/HEAD"?' if len(parts) == 2 and all(parts) else ""
            raise SpecError(f'Spec is not of the form "user/repo/ref", provided: "{spec}".{hint}')
        owner, repo = decode(parts[0]), decode(parts[1]).removesuffix(".git")
        for name in (owner, repo):
            if not _NAME.fullmatch(name) or name in (".", ".."):
                raise SpecError(f"{name[:80]!r} cannot be the name of a GitHub user or repository.")
        url = f"https://{self._settings.host}/{owner}/{repo}"
        # GitHub compares names without regard to letter case, an Enterprise server too.
        return RepoSpec(self.prefix, f"{self.prefix}/{spec}", url, read_ref(parts[2]), repo_key(url.lower()))

    def identity(self, spec: RepoSpec) -> str:
        """The repository's key, which has no letter case."""
        return spec.repo

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find the commit; the branches ``master`` and ``main`` stand for the default branch where they are absent."""
        if is_commit(spec.ref):
            return self._resolved(spec, spec.ref)
        commit = await self._commit(spec, spec.ref)
        if commit is not None:
            return self._resolved(spec, commit)
        text = not_found(spec)
        if spec.ref in ("master", "main"):
            if spec.ref == "master":
                text += ' GitHub has changed default branches from "master" to "main".'
            text += " Tip: HEAD will always resolve to a repository's default branch."
            commit = await self._commit(spec, "HEAD")
            if commit is not None:
                note = f"{text}\nTrying again with HEAD instead of {spec.ref}. Please update your links."
                return self._resolved(spec, commit, note)
        raise RefNotFoundError(text)

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        host = self._settings.host
        return {
            "displayName": "GitHub",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/[^/]+/.+"},
            "detect": {"regex": f"^(https?://{re.escape(host)}/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "GitHub repository name or URL",
                "placeholder": f"example: binder-examples/requirements or https://{host}/binder-examples/requirements",
                "urlEncode": False,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    def _resolved(self, spec: RepoSpec, commit: str, *notes: str) -> Resolved:
        owner_and_repo = "/".join(spec.raw.split("/")[1:3])
        return Resolved(spec, commit, f"gh/{owner_and_repo}/{commit}", f"{spec.repo_url}/tree/{commit}", notes)

    async def _commit(self, spec: RepoSpec, ref: str) -> str | None:
        """The commit of a ref; ``None`` if there is none."""
        key = (spec.repo, ref)
        if self._absent.get(key):
            return None
        self._check_quota()
        known = self._known.get(key)
        path = URL(spec.repo_url).raw_path
        url = f"{self._settings.api_base}/repos{path}/commits/{quote(ref)}"
        status, headers, body = await self._get(url, known[0] if known else None)
        self._note_quota(headers)
        if status == 304 and known:
            return known[1]
        if status in (404, 422, 451):
            self._known.discard(key)
            self._absent.set(key, True, NOT_FOUND_TTL_S)
            return None
        if status != 200:
            raise self._refusal(status, headers)
        commit = _sha(body)
        if etag := headers.get("ETag"):
            self._known.set(key, (etag, commit), ETAG_TTL_S)
        return commit

    async def _get(self, url: str, etag: str | None) -> tuple[int, Mapping[str, str], bytes]:
        settings = self._settings
        # One of the commit's files is enough: only its id is wanted.
        address = URL(url, encoded=True).with_query(per_page="1")
        headers = {"Accept": "application/vnd.github+json", "User-Agent": "manybinder"}
        auth = None
        if token := settings.access_token.get_secret_value():
            headers["Authorization"] = f"Bearer {token}"
        elif settings.client_id:
            auth = aiohttp.BasicAuth(settings.client_id, settings.client_secret.get_secret_value())
        if etag:
            headers["If-None-Match"] = etag
        timeout = aiohttp.ClientTimeout(total=settings.timeout)
        try:
            async with self._session.get(
                address, headers=headers, auth=auth, timeout=timeout, max_redirects=3
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    body += chunk
                    if len(body) > _MAX_BODY:
                        raise ProviderUnavailableError("GitHub's answer is too long.")
                return response.status, response.headers, bytes(body)
        except TimeoutError as error:
            raise ProviderUnavailableError(f"GitHub did not answer within {settings.timeout:g} seconds.") from error
        except (aiohttp.ClientError, asyncio.IncompleteReadError, ValueError) as error:
            logger.warning("asking GitHub failed: %s", error)
            raise ProviderUnavailableError("GitHub cannot be reached.") from error

    def _note_quota(self, headers: Mapping[str, str]) -> None:
        remaining = _number(headers.get("X-RateLimit-Remaining"))
        if remaining is not None:
            self.quota_remaining = int(remaining)

    def _check_quota(self) -> None:
        """Ask nothing while GitHub is known to refuse: it lengthens the wait of those who go on."""
        wait_s = self._blocked_until - self._wall_clock()
        if wait_s > 0:
            raise _quota_error(wait_s)

    def _refusal(self, status: int, headers: Mapping[str, str]) -> ProviderUnavailableError:
        now = self._wall_clock()
        if status in (403, 429):
            wait_s = _number(headers.get("Retry-After"))
            reset = _number(headers.get("X-RateLimit-Reset"))
            if wait_s is None and (headers.get("X-RateLimit-Remaining") == "0" or status == 429):
                wait_s = reset - now if reset is not None else 60.0
            if wait_s is not None:
                wait_s = min(max(wait_s, 1.0), 3600.0)
                self._blocked_until = now + wait_s
                logger.error("GitHub's rate limit is exceeded; it is asked again in %.0f s", wait_s)
                return _quota_error(wait_s)
        if status == 401:
            logger.error("GitHub does not accept the credentials in the settings of the gh provider")
            return ProviderUnavailableError("GitHub does not accept the credentials of this service.")
        logger.warning("GitHub answered %d", status)
        return ProviderUnavailableError(f"GitHub answered with an error ({status}).")


def _quota_error(wait_s: float) -> ProviderUnavailableError:
    # In steps of five minutes, as BinderHub does: visitors need not come back all in the same second.
    minutes = 5 * (1 + int(wait_s // 60 // 5))
    text = f"GitHub rate limit exceeded. Try again in {minutes} minutes."
    return ProviderUnavailableError(text, retry_after_s=math.ceil(wait_s))


def _sha(body: bytes) -> str:
    try:
        commit = loads_object(body).get("sha")
    except ValueError as error:
        raise ProviderUnavailableError("GitHub's answer is not readable.") from error
    if not isinstance(commit, str) or not is_commit(commit):
        raise ProviderUnavailableError("GitHub's answer names no commit.")
    return commit


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
