"""Archives of research: doi.org, Zenodo, Figshare, a Dataverse, HydroShare, a CKAN and Software Heritage.

Each answers with the fields of the real API that matter, and more that do not, and serves its files.  Sources: the
factsheet "DOI resolution documentation" of doi.org; the API documentation of Zenodo and InvenioRDM, of Figshare (v2),
Dataverse (Native API), HydroShare (hsapi) and CKAN (Action API); the Software Heritage Web API; and what repo2docker's
content providers and BinderHub's repo providers ask for.
"""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from aiohttp import web

from tests.fakes.faulty import FaultyServer, answer

Files = Mapping[str, str]


def zipped(files: Files, below: str = "") -> bytes:
    """The files as a zip archive, below a directory of it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{below}{name}", text)
    return packed.getvalue()


@dataclass
class FakeDOI(FaultyServer):
    """``dois`` maps DOIs, in lower case, to where they lead."""

    dois: dict[str, str] = field(default_factory=dict)

    def routes(self, app: web.Application) -> None:
        """The REST API of the proxy."""
        app.router.add_get("/api/handles/{doi:.+}", self._handle)

    async def _handle(self, request: web.Request) -> web.Response:
        doi = request.match_info["doi"]
        if doi not in self.dois:
            return answer({"responseCode": 100, "handle": doi}, 404)
        url = {"index": 1, "type": "URL", "data": {"format": "string", "value": self.dois[doi]}, "ttl": 86400}
        return answer({"responseCode": 1, "handle": doi, "values": [url]})


@dataclass
class FakeZenodo(FaultyServer):
    """``records`` maps ids to files; ``concepts`` the id of all versions to that of the latest."""

    records: dict[str, dict[str, bytes]] = field(default_factory=dict)
    concepts: dict[str, str] = field(default_factory=dict)
    restricted: set[str] = field(default_factory=set)

    def routes(self, app: web.Application) -> None:
        """Records, and their files."""
        app.router.add_get("/api/records/{id}", self._record)
        app.router.add_get("/api/records/{id}/files", self._files)
        app.router.add_get("/api/records/{id}/files/{name}/content", self._content)

    async def _record(self, request: web.Request) -> web.Response:
        record = request.match_info["id"]
        if record in self.concepts:
            return web.Response(status=302, headers={"Location": f"{self.url}/api/records/{self.concepts[record]}"})
        if record not in self.records:
            return answer({"status": 404, "message": "The persistent identifier does not exist."}, 404)
        right = "restricted" if record in self.restricted else "open"
        return answer({
            "id": int(record),
            "doi": f"10.5281/zenodo.{record}",
            "metadata": {"access_right": right, "resource_type": {"type": "software"}},
            "links": {"files": f"{self.url}/api/records/{record}/files"},
        })  # fmt: skip

    async def _files(self, request: web.Request) -> web.Response:
        record = request.match_info["id"]
        base = f"{self.url}/api/records/{record}/files"
        entries = [
            {"key": name, "size": len(content), "links": {"content": f"{base}/{name}/content"}}
            for name, content in self.records[record].items()
        ]
        return answer({"enabled": True, "entries": entries})

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.records[request.match_info["id"]][request.match_info["name"]])


@dataclass
class FakeFigshare(FaultyServer):
    """``articles`` maps ids to versions, and those to files."""

    articles: dict[str, dict[int, dict[str, bytes]]] = field(default_factory=dict)

    def routes(self, app: web.Application) -> None:
        """Articles, and their files."""
        app.router.add_get("/v2/articles/{id}/versions", self._versions)
        app.router.add_get("/v2/articles/{id}/versions/{version}", self._version)
        app.router.add_get("/files/{id}/{version}/{name}", self._content)

    async def _versions(self, request: web.Request) -> web.Response:
        article = request.match_info["id"]
        if article not in self.articles:
            return answer({"message": "Entity not found: article", "code": "EntityNotFound"}, 404)
        url = f"{self.url}/v2/articles/{article}/versions"
        return answer([{"version": version, "url": f"{url}/{version}"} for version in self.articles[article]])

    async def _version(self, request: web.Request) -> web.Response:
        article, version = request.match_info["id"], request.match_info["version"]
        files = [
            {"name": name, "is_link_only": False, "download_url": f"{self.url}/files/{article}/{version}/{quote(name)}"}
            for name in self.articles[article][int(version)]
        ]
        return answer({"id": int(article), "version": int(version), "files": files})

    async def _content(self, request: web.Request) -> web.Response:
        info = request.match_info
        return web.Response(body=self.articles[info["id"]][int(info["version"])][info["name"]])


@dataclass
class FakeDataverse(FaultyServer):
    """``datasets`` maps ``doi:…`` to versions ("1.0") with files; ``files`` those of files to their datasets."""

    datasets: dict[str, dict[str, Files]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def routes(self, app: web.Application) -> None:
        """The Native API and the Data Access API."""
        app.router.add_get("/api/datasets/:persistentId", self._dataset)
        app.router.add_get("/api/files/:persistentId", self._file)
        app.router.add_get("/api/datasets/:persistentId/versions/{version}/files", self._listing)
        app.router.add_get("/api/access/datafile/{id}", self._content)

    async def _dataset(self, request: web.Request) -> web.Response:
        persistent = request.query.get("persistentId", "")
        if persistent not in self.datasets:
            return self._absent(f"Dataset with Persistent ID {persistent} not found.")
        major, minor = list(self.datasets[persistent])[-1].split(".")
        authority, _, identifier = persistent.removeprefix("doi:").partition("/")
        return answer({
            "status": "OK",
            "data": {
                "id": 42,
                "protocol": "doi",
                "authority": authority,
                "identifier": identifier,
                "persistentUrl": f"https://doi.org/{authority}/{identifier}",
                "latestVersion": {"versionNumber": int(major), "versionMinorNumber": int(minor), "files": []},
            },
        })  # fmt: skip

    async def _file(self, request: web.Request) -> web.Response:
        dataset = self.files.get(request.query.get("persistentId", ""))
        if dataset is None:
            return self._absent("File not found.")
        return answer({"status": "OK", "data": {"datasetVersion": {"datasetPersistentId": dataset}}})

    async def _listing(self, request: web.Request) -> web.Response:
        version = request.match_info["version"]
        names = sorted(self.datasets[request.query["persistentId"]][version])
        listed = [_datafile(name, f"{version}:{n}") for n, name in enumerate(names)]
        return answer({"status": "OK", "data": listed})

    async def _content(self, request: web.Request) -> web.Response:
        version, _, number = request.match_info["id"].partition(":")
        versions = next(iter(self.datasets.values()))
        return web.Response(text=versions[version][sorted(versions[version])[int(number)]])

    def _absent(self, message: str) -> web.Response:
        return answer({"status": "ERROR", "message": message}, 404)


def _datafile(name: str, file_id: str) -> dict[str, Any]:
    directory, _, label = name.rpartition("/")
    listed = {"label": label, "dataFile": {"id": file_id}}
    return {**listed, "directoryLabel": directory} if directory else listed


@dataclass
class FakeHydroShare(FaultyServer):
    """``resources`` maps ids to files."""

    resources: dict[str, Files] = field(default_factory=dict)
    changed: str = "2019-09-25T16:36:07.905Z"

    def routes(self, app: web.Application) -> None:
        """The REST API, and archives."""
        app.router.add_get("/hsapi/resource/{id}/scimeta/elements/", self._elements)
        app.router.add_get("/django_s3/download/bags/{name}.zip", self._bag)

    async def _elements(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.resources:
            return answer({"detail": "No resource was found"}, 404)
        dates = [{"type": "created", "start_date": "2019-09-25T16:09:17Z"}]
        return answer({"title": "Something", "dates": [*dates, {"type": "modified", "start_date": self.changed}]})

    async def _bag(self, request: web.Request) -> web.Response:
        resource = request.match_info["name"]
        files = {f"data/contents/{name}": text for name, text in self.resources[resource].items()}
        return web.Response(body=zipped({**files, "bagit.txt": "BagIt-Version: 0.97"}, f"{resource}/"))


@dataclass
class FakeCKAN(FaultyServer):
    """``datasets`` maps names to files; ``activities`` the ids of earlier states to times."""

    datasets: dict[str, Files] = field(default_factory=dict)
    activities: dict[str, str] = field(default_factory=dict)
    changed: str = "2024-02-27T14:15:54.573058"

    def routes(self, app: web.Application) -> None:
        """The Action API, below a path of the server's."""
        app.router.add_get("/data/api/3/action/package_show", self._package)
        app.router.add_get("/data/api/3/action/activity_data_show", self._activity)
        app.router.add_get("/data/files/{dataset}/{name}", self._content)

    async def _package(self, request: web.Request) -> web.Response:
        name = request.query.get("id", "")
        return self._described(name, self.changed) if name in self.datasets else self._absent()

    async def _activity(self, request: web.Request) -> web.Response:
        at = self.activities.get(request.query.get("id", ""))
        return self._described(next(iter(self.datasets)), at) if at else self._absent()

    def _described(self, name: str, changed: str) -> web.Response:
        files = [
            {"id": str(n), "url": f"{self.url}/data/files/{name}/{file}"} for n, file in enumerate(self.datasets[name])
        ]
        result = {"name": name, "metadata_modified": changed, "resources": files}
        return answer({"help": "…", "success": True, "result": result})

    def _absent(self) -> web.Response:
        error = {"__type": "Not Found Error", "message": "Not found"}
        return answer({"help": "…", "success": False, "error": error}, 404)

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(text=self.datasets[request.match_info["dataset"]][request.match_info["name"]])


@dataclass
class FakeSoftwareHeritage(FaultyServer):
    """``directories`` maps hashes to files; ``revisions`` and ``releases`` to directories and revisions."""

    directories: dict[str, Files] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    releases: dict[str, str] = field(default_factory=dict)

    def routes(self, app: web.Application) -> None:
        """The Web API, and the vault."""
        app.router.add_get("/api/1/resolve/{swhid}/", self._resolve)
        app.router.add_get("/api/1/release/{sha}/", self._release)
        app.router.add_get("/api/1/revision/{sha}/", self._revision)
        app.router.add_route("*", "/api/1/vault/directory/{sha}/", self._vault)
        app.router.add_get("/api/1/vault/directory/{sha}/raw/", self._raw)

    async def _resolve(self, request: web.Request) -> web.Response:
        swhid = request.match_info["swhid"]
        kind, sha = swhid.split(":")[2:]
        if sha not in {"dir": self.directories, "rev": self.revisions, "rel": self.releases}[kind]:
            return self._absent(sha)
        return answer({"object_type": kind, "object_id": sha, "browse_url": f"{self.url}/{swhid}"})

    async def _release(self, request: web.Request) -> web.Response:
        sha = request.match_info["sha"]
        if sha not in self.releases:
            return self._absent(sha)
        return answer({"id": sha, "target": self.releases[sha], "target_type": "revision", "name": "v1"})

    async def _revision(self, request: web.Request) -> web.Response:
        sha = request.match_info["sha"]
        return answer({"id": sha, "directory": self.revisions[sha], "parents": []})

    async def _vault(self, request: web.Request) -> web.Response:
        sha = request.match_info["sha"]
        return answer({"status": "done", "fetch_url": f"{self.url}/api/1/vault/directory/{sha}/raw/"})

    async def _raw(self, request: web.Request) -> web.Response:
        sha = request.match_info["sha"]
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, text in self.directories[sha].items():
                entry = tarfile.TarInfo(f"{sha}/{name}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        return web.Response(body=packed.getvalue())

    def _absent(self, sha: str) -> web.Response:
        return answer({"exception": "NotFoundExc", "reason": f"Object {sha} not found."}, 404)
