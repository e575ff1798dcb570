"""Fetches what is in no Git repository into the current directory, with repo2docker's content providers.

Runs in the sandbox as a plain script, because it reads what anybody may have written: it imports the standard library,
what repo2docker brings, and one file of this project, whose path it is given.  Ends with ``EX_DATAERR`` where the
visitor can mend it, with ``EX_UNAVAILABLE`` where the server did not give what it should; the last line says why.
"""

import functools
import importlib.util
import json
import os
import shutil
import socket
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

import requests
from repo2docker import contentproviders
from repo2docker.utils import deep_get

#: Seconds that a server may stay silent.
_SILENCE_S = 60

#: Seconds between two looks whether an archive has been prepared.
_LOOK_S = 10

#: Seconds in which it has to be.
_PREPARED_S = 600

_MAX_REDIRECTS = 5


class _RefusedError(Exception):
    """What the visitor can mend; the text is a sentence."""


class _Careful:
    """For providers of files: none is written outside of the directory."""

    def fetch_file(self, file_ref: Any, host: Any, output_dir: str, unzip: bool = False) -> Iterator[str]:
        name = PurePosixPath(str(deep_get(file_ref, host["filename"])))
        if name.is_absolute() or ".." in name.parts:
            raise _RefusedError(f"It holds a file whose name leads elsewhere: {str(name)[:200]!r}.")
        yield from super().fetch_file(file_ref, host, output_dir, unzip=unzip)  # type: ignore[misc]


class _Zenodo(_Careful, contentproviders.Zenodo):  # type: ignore[misc]
    pass


class _Figshare(_Careful, contentproviders.Figshare):  # type: ignore[misc]
    pass


class _Dataverse(_Careful, contentproviders.Dataverse):  # type: ignore[misc]
    """Of the version that was resolved, where repo2docker takes the latest."""

    version = ""

    def get_datafiles(self, url: str) -> Any:
        base, _, dataset = url.partition("/citation?persistentId=")
        path = f"/api/datasets/:persistentId/versions/{quote(self.version)}/files"
        response = self._request(f"{base}{path}?persistentId={quote(dataset, safe=':/')}")
        return response.json()["data"]


class _HydroShare(contentproviders.Hydroshare):  # type: ignore[misc]
    """Waits for the archive wherever it is served from, where repo2docker knows one place."""

    def fetch(self, spec: Any, output_dir: str, **_: Any) -> Iterator[str]:
        url = f"{spec['base']}/django_s3/download/bags/{quote(spec['resource'])}.zip"
        deadline = time.monotonic() + _PREPARED_S
        with tempfile.TemporaryFile() as bag:
            yield f"Requesting {url}"
            while not self._download(url, bag):
                if time.monotonic() > deadline:
                    raise OSError("HydroShare did not prepare the archive in time; please try again later")
                yield "The archive is being prepared."
                time.sleep(_LOOK_S)
            self._unpack(bag, spec["resource"], Path(output_dir))
        yield "Unpacked."

    def _download(self, url: str, bag: Any) -> bool:
        """Whether the answer was the archive, and not a page that asks for patience."""
        bag.seek(0)
        bag.truncate()
        with self.urlopen(url, stream=True) as response:
            for chunk in response.iter_content(2**20):
                bag.write(chunk)
        return zipfile.is_zipfile(bag)

    def _unpack(self, bag: Any, resource: str, output: Path) -> None:
        """What is below ``data/contents`` is the resource; the rest describes the archive."""
        with tempfile.TemporaryDirectory(dir=output) as unpacked, zipfile.ZipFile(bag) as archive:
            below = f"{resource}/data/contents/"
            for name in archive.namelist():
                if name.startswith(below):
                    archive.extract(name, unpacked)
            contents = Path(unpacked, below)
            for path in sorted(contents.iterdir()) if contents.is_dir() else ():
                shutil.move(path, output / path.name)


def main() -> None:
    """Fetch what the JSON object in the first argument says."""
    order = json.loads(sys.argv[1])
    if not order["anywhere"]:
        _keep_out(order["addresses"], {*order["hosts"], *(urlsplit(url).hostname for url in getproxies().values())})
    # Whatever links an archive holds, nothing is written outside of the directory.
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.tar_filter)
    try:
        for line in _lines(order["provider"], order["spec"]):
            print(line.rstrip(), flush=True)  # noqa: T201 - the output is what the visitor sees
    except _RefusedError as error:
        _end(str(error), os.EX_DATAERR)
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        absent = status in (401, 403, 404, 410, 451)
        _end(f"The server answered with {status}.", os.EX_DATAERR if absent else os.EX_UNAVAILABLE)
    except Exception as error:  # noqa: BLE001 - whatever a hostile server provokes becomes one sentence
        _end(" ".join(str(error).split())[:500] or type(error).__name__, os.EX_UNAVAILABLE)


def _end(message: str, status: int) -> None:
    print(message, flush=True)  # noqa: T201
    sys.exit(status)


def _keep_out(path: str, hosts: set[str | None]) -> None:
    """Find no address for a name that has an internal one, unless it is one of the hosts."""
    spec = importlib.util.spec_from_file_location("internet", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    internet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(internet)
    look_up = socket.getaddrinfo

    @functools.wraps(look_up)
    def checked(host: Any, *args: Any, **options: Any) -> Any:
        found = look_up(host, *args, **options)
        if host not in hosts and not all(internet.text_is_public(str(address[0])) for *_, address in found):
            raise _RefusedError(f"{host} is an internal address; what is fetched must be on the public internet.")
        return found

    socket.getaddrinfo = checked


def _lines(provider: str, spec: dict[str, Any]) -> Iterator[str]:
    made, order = _MADE[provider](spec)
    session = made.session
    session.max_redirects = _MAX_REDIRECTS
    # Not every provider looks at the status of what it goes on to read.
    session.hooks["response"].append(lambda response, *_, **__: response.raise_for_status())
    session.request = functools.partial(session.request, timeout=_SILENCE_S)
    yield from made.fetch(order, str(Path.cwd()), yield_output=True)


def _zenodo(spec: dict[str, Any]) -> tuple[Any, Any]:
    host = {
        "api": f"{spec['base']}/api/records/",
        "files": "links.files",
        "filepath": "entries",
        "filename": "key",
        "download": "links.content",
    }
    return _Zenodo(), {"record": spec["record"], "host": host}


def _figshare(spec: dict[str, Any]) -> tuple[Any, Any]:
    host = {"api": f"{spec['api']}/articles/", "filepath": "files", "filename": "name", "download": "download_url"}
    return _Figshare(), {"article": spec["article"], "version": spec["version"], "host": host}


def _dataverse(spec: dict[str, Any]) -> tuple[Any, Any]:
    provider = _Dataverse()
    provider.version = spec["version"]
    return provider, f"{spec['base']}/citation?persistentId={spec['dataset']}"


def _hydroshare(spec: dict[str, Any]) -> tuple[Any, Any]:
    return _HydroShare(), spec


def _ckan(spec: dict[str, Any]) -> tuple[Any, Any]:
    api = f"{spec['base']}/api/3/action/"
    return contentproviders.CKAN(), {"dataset_id": spec["dataset"], "activity_id": spec["activity"], "api_url": api}


def _swh(spec: dict[str, Any]) -> tuple[Any, Any]:
    provider = contentproviders.Swhid()
    provider.base_url = f"{spec['base']}/api/1"
    if token := os.environ.get("CONTENT_TOKEN"):
        provider.set_auth_token(token)
    kind, sha = spec["swhid"].split(":")[2:]
    return provider, {"swhid": spec["swhid"], "swhid_obj": {"type": kind, "hash": sha, "version": "1"}}


_MADE = {
    "zenodo": _zenodo,
    "figshare": _figshare,
    "dataverse": _dataverse,
    "hydroshare": _hydroshare,
    "ckan": _ckan,
    "swh": _swh,
}


if __name__ == "__main__":
    main()
