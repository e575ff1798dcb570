"""Fetching what is in no Git repository: records, articles, datasets and archived directories.

repo2docker's content providers do it, in the sandbox (:mod:`member.builders.process.content`), and are told here what
to fetch from where: the version that was resolved, at the server that it was resolved by.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from contract.events import Failure, Phase
from member.builders.base import BuildFailedError, BuildRequest
from member.builders.process.site import Site
from member.builders.process.steps import OWN_CODE
from member.builders.process.words import content_failure
from providers import internet
from providers.ckan import read_dataset_url
from providers.settings import ProvidersSettings

#: Seconds for fetching; an archive may have to be prepared first.
_DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True)
class Source:
    """What the program in the sandbox is told; ``hosts`` may have internal addresses, any with ``anywhere``."""

    spec: Mapping[str, Any]
    hosts: tuple[str, ...] = ()
    anywhere: bool = False
    token: str = ""


def source_of(request: BuildRequest, settings: ProvidersSettings) -> Source | None:
    """From where to fetch; ``None`` for a Git repository.

    Raises :class:`BuildFailedError` for a URL that is none of its provider.
    """
    find = _SOURCES.get(request.provider)
    if find is None:
        return None
    try:
        return find(request, settings)
    except ValueError as error:
        message = f"{request.repo_url} is not what the provider {request.provider} gives."
        raise BuildFailedError(Failure.MEMBER, message) from error


async def fetch(site: Site, request: BuildRequest, source: Source) -> None:
    """Fetch into the home; raises :class:`BuildFailedError`."""
    script = Path(__file__).with_name("content.py")
    addresses = Path(internet.__file__)
    placed = {script: "/srv/content.py", addresses: "/srv/internet.py"}
    if site.bytecode.is_dir():
        placed[site.bytecode] = "/srv/pycache"
    seen = site.confinement.seen_at
    order = {
        "provider": request.provider,
        "spec": source.spec,
        "hosts": source.hosts,
        "anywhere": source.anywhere,
        "addresses": seen("/srv/internet.py", addresses),
    }
    prefix = f"pycache_prefix={seen('/srv/pycache', site.bytecode)}"
    argv = [sys.executable, "-I", "-X", prefix, seen("/srv/content.py", script), json.dumps(order)]
    await site.say(Phase.FETCHING, f"Fetching {request.repo_url}\n")
    status, lines = await site.run(
        argv,
        Phase.FETCHING,
        environ={"CONTENT_TOKEN": source.token},
        read_only=OWN_CODE,
        placed=placed,
        deadline_s=_DEADLINE_S,
    )
    if status:
        failure, message = content_failure(status, lines, request.repo_url)
        raise BuildFailedError(failure, message)


def _zenodo(request: BuildRequest, settings: ProvidersSettings) -> Source:
    base, record = _split(request.repo_url, "/records/")
    return Source({"base": base, "record": record}, tuple(map(_host, settings.zenodo.urls)))


def _figshare(request: BuildRequest, settings: ProvidersSettings) -> Source:
    api = settings.figshare.api_url
    article, found, version = request.commit.partition(".v")
    if not found:
        raise ValueError(request.commit)
    return Source({"api": api, "article": article, "version": version}, (_host(api),))


def _dataverse(request: BuildRequest, settings: ProvidersSettings) -> Source:
    base, persistent = _split(request.repo_url, "/citation?persistentId=")
    version = request.commit.partition(".v")[2]
    return Source(
        {"base": base, "dataset": unquote(persistent), "version": version},
        anywhere=settings.dataverse.allow_private_addresses,
    )


def _hydroshare(request: BuildRequest, settings: ProvidersSettings) -> Source:
    base, resource = _split(request.repo_url, "/resource/")
    return Source({"base": base, "resource": resource}, (_host(settings.hydroshare.url),))


def _ckan(request: BuildRequest, settings: ProvidersSettings) -> Source:
    url = read_dataset_url(request.repo_url)
    spec = {"base": url.base, "dataset": url.dataset, "activity": url.activity}
    return Source(spec, anywhere=settings.ckan.allow_private_addresses)


def _swh(request: BuildRequest, settings: ProvidersSettings) -> Source:
    swh = settings.swh
    spec = {"base": swh.url, "swhid": request.repo_url}
    return Source(spec, (_host(swh.url),), token=swh.access_token.get_secret_value())


_SOURCES: Mapping[str, Callable[[BuildRequest, ProvidersSettings], Source]] = {
    "zenodo": _zenodo,
    "figshare": _figshare,
    "dataverse": _dataverse,
    "hydroshare": _hydroshare,
    "ckan": _ckan,
    "swh": _swh,
}


def _split(url: str, by: str) -> tuple[str, str]:
    base, found, rest = url.partition(by)
    if not found or not rest or not base.startswith(("http://", "https://")):
        raise ValueError(url)
    return base, rest


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
