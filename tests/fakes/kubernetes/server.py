"""The HTTP side: verbs, watches, logs, and the faults that a test may ask for."""

import asyncio
import base64
import binascii
import contextlib
import copy
import json
import random
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.fakes.kubernetes import admission, selectors
from tests.fakes.kubernetes.certificates import Certificate
from tests.fakes.kubernetes.logs import Logs
from tests.fakes.kubernetes.status import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    expired,
    forbidden,
    not_found,
)
from tests.fakes.kubernetes.store import GROUPS, KINDS, Change, Object, Store, now

TOKEN = "the-clusters-token"
USER = "system:serviceaccount:binder:member"


_CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without"
    " the continue parameter."
)

_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass
class FakeKubernetes:
    """Use as an asynchronous context manager; ``url`` is the API server's address.

    Requests are counted in ``asked`` by verb and resource, as RBAC has them (``watch pods``, ``get pods/log``).
    """

    token: str = TOKEN
    store: Store = field(default_factory=Store)
    logs: Logs = field(default_factory=Logs)
    certificate: Certificate | None = None
    """With which it speaks TLS, as all real ones do."""
    asked: Counter[str] = field(default_factory=Counter)

    # Faults.
    errors: dict[str, list[tuple[int, float | None]]] = field(default_factory=dict)
    """By request: what the next ones are answered with, a status and ``Retry-After``.

    429 is in plain text; 409 is a quota's, which was counted for somebody else meanwhile.
    """
    lost_answers: dict[str, int] = field(default_factory=dict)
    """By request: so many are done, and their connections cut before the answer."""
    forbidden: set[str] = field(default_factory=set)
    """Requests for which RBAC gives no right."""
    delay_s: float = 0.0
    """Before each answer."""
    bookmarks: bool = True
    """Whether watches get any; nobody may count on it."""
    expired_as_status: bool = False
    """Whether a watch from a version that is too old is refused outright, instead of in its stream."""
    lose: Callable[[Change], bool] | None = None
    """Which changes no watch is told."""
    deaf: bool = False
    """Whether all watches stay silent, without an end."""
    watch_limit_s: float = 3600.0
    """Watches end after so long, whatever was asked."""

    _requests: list[web.Request] = field(default_factory=list)
    _snapshots: dict[str, tuple[int, list[Object]]] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard])
        app.router.add_route("GET", "/version", self._version)
        groups = ["/api/v1", *(f"/apis/{group}" for group in sorted(set(GROUPS.values())))]
        for path in (f"{group}{within}/{{plural}}" for group in groups for within in ("", "/namespaces/{namespace}")):
            app.router.add_get(path, self._list_or_watch)
            app.router.add_post(path, self._create)
            app.router.add_get(f"{path}/{{name}}", self._get)
            app.router.add_put(f"{path}/{{name}}", self._update)
            app.router.add_patch(f"{path}/{{name}}", self._patch)
            app.router.add_delete(f"{path}/{{name}}", self._delete)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}/log", self._log)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.url = f"http{'s' if self.certificate else ''}://127.0.0.1:{listening.getsockname()[1]}"
        context = self.certificate.context if self.certificate else None
        await web.SockSite(self._runner, listening, ssl_context=context).start()
        self.namespace("default")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def namespace(self, name: str) -> None:
        """Make a namespace, with what controllers put there."""
        self.store.put("namespaces", "", {"metadata": {"name": name}, "status": {"phase": "Active"}})
        self.store.put("serviceaccounts", name, {"metadata": {"name": "default"}})

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig file for this cluster."""
        cluster = {"server": self.url}
        if self.certificate:
            cluster["certificate-authority-data"] = self.certificate.authority
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "member", "user": {"token": self.token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "member", "namespace": "default"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def change(self, plural: str, namespace: str, name: str, **parts: Any) -> Object:
        """Merge parts into an object, as a controller or a kubelet would."""
        item = self.store.get(plural, namespace, name)
        assert item is not None, f"there is no {plural} {name}"
        return self.store.put(plural, namespace, _merged(item, parts))

    def cut(self) -> int:
        """Break all open watches and logs off, as a proxy that restarts does; how many there were."""
        for request in list(self._requests):
            if request.transport is not None:
                request.transport.abort()
        return len(self._requests)

    def end_pages(self) -> None:
        """Forget the lists that were begun and not read to their end."""
        self._snapshots.clear()

    # -- what every request passes

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization", "").lower() != f"bearer {self.token}".lower():
            return StatusError(401, "Unauthorized", "Unauthorized").response()
        plural, namespace = request.match_info.get("plural", "pods"), request.match_info.get("namespace")
        verb = _verb(request)
        what = f"{verb} {plural}{'/log' if request.path.endswith('/log') else ''}"
        self.asked[what] += 1
        try:
            root = f"/apis/{GROUPS[plural]}/" if plural in GROUPS else "/api/v1/"
            if plural not in KINDS or ("plural" in request.match_info and not request.path.startswith(root)):
                return StatusError(404, "NotFound", "the server could not find the requested resource").response()
            if what in self.forbidden:
                return forbidden(USER, verb, plural, namespace).response()
            if self.errors.get(what):
                return _error(*self.errors[what].pop(0))
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            response: web.StreamResponse = await handler(request)
        except StatusError as error:
            response = error.response()
        except selectors.BadSelectorError as error:
            response = bad_request(str(error)).response()
        if self.lost_answers.get(what, 0) > 0 and request.transport is not None:
            self.lost_answers[what] -= 1
            request.transport.abort()
        return response

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.0"})

    # -- verbs

    async def _list_or_watch(self, request: web.Request) -> web.StreamResponse:
        plural, namespace = request.match_info["plural"], request.match_info.get("namespace")
        by_label = selectors.labels(request.query.get("labelSelector", ""))
        by_field = selectors.fields(plural, request.query.get("fieldSelector", ""))

        def matches(item: Object) -> bool:
            return by_label(item) and by_field(item)

        if _is_set(request, "watch"):
            return await self._watch(request, plural, namespace, matches)
        return self._list(request, plural, namespace, matches)

    def _list(
        self, request: web.Request, plural: str, namespace: str | None, matches: Callable[[Object], bool]
    ) -> web.Response:
        limit = int(request.query.get("limit", "0"))
        if token := request.query.get("continue", ""):
            try:
                snapshot, _, offset = base64.b64decode(token).decode().partition(":")
                version, items = self._snapshots[snapshot]
                start = int(offset)
            except (KeyError, ValueError, binascii.Error):
                raise StatusError(410, "Expired", _CONTINUE_EXPIRED) from None
        else:
            version, start = self.store.version, 0
            items = [copy.deepcopy(item) for item in self.store.all(plural, namespace) if matches(item)]
            snapshot = str(len(self._snapshots))
            self._snapshots[snapshot] = (version, items)
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        shown = items[start : start + limit] if limit else items[start:]
        if start + len(shown) < len(items):
            meta["continue"] = base64.b64encode(f"{snapshot}:{start + len(shown)}".encode()).decode()
            meta["remainingItemCount"] = len(items) - start - len(shown)
        # Items of a list do not repeat their kind.
        bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in shown]
        return web.json_response(
            {
                "kind": f"{KINDS[plural][0]}List",
                "apiVersion": GROUPS.get(plural, "v1"),
                "metadata": meta,
                "items": bare,
            }
        )

    async def _watch(
        self, request: web.Request, plural: str, namespace: str | None, matches: Callable[[Object], bool]
    ) -> web.StreamResponse:
        asked = request.query.get("resourceVersion", "")
        if asked and not asked.isdecimal():
            raise bad_request(f'resourceVersion: Invalid value: "{asked}": strconv.ParseUint: invalid syntax')
        at = int(asked or 0)
        too_old = 0 < at < self.store.oldest
        if too_old and self.expired_as_status:
            raise expired(at, self.store.oldest)
        given = float(request.query.get("timeoutSeconds") or random.uniform(1800, 3600))
        end = asyncio.get_running_loop().time() + min(given, self.watch_limit_s)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if too_old:
            await _send(response, "ERROR", expired(at, self.store.oldest).body())
            return response
        self._requests.append(request)
        try:
            if not at:
                at = self.store.version
                for item in filter(matches, self.store.all(plural, namespace)):
                    await _send(response, "ADDED", item)
            with contextlib.suppress(TimeoutError):
                while True:
                    changed = self.store.changed
                    if not self.deaf:
                        at = await self._tell(response, at, plural, namespace, matches)
                    async with asyncio.timeout_at(end):
                        await changed.wait()
            if self.bookmarks and not self.deaf and _is_set(request, "allowWatchBookmarks"):
                version = GROUPS.get(plural, "v1")
                mark = {"kind": KINDS[plural][0], "apiVersion": version, "metadata": {"resourceVersion": str(at)}}
                await _send(response, "BOOKMARK", mark)
        finally:
            self._requests.remove(request)
        return response

    async def _tell(
        self,
        response: web.StreamResponse,
        at: int,
        plural: str,
        namespace: str | None,
        matches: Callable[[Object], bool],
    ) -> int:
        """Send what has changed after a version; the version up to which all was sent."""
        newest = self.store.version
        for change in self.store.since(at):
            if change.version > newest or change.plural != plural or namespace not in (None, change.namespace):
                continue
            if self.lose is not None and self.lose(change):
                continue
            before = change.old is not None and matches(change.old)
            after = change.type != "DELETED" and matches(change.new)
            if before or after:
                # What stops to match is gone as far as this watch is concerned.
                kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
                await _send(response, kind, change.new)
        return newest

    async def _create(self, request: web.Request) -> web.Response:
        plural, namespace = request.match_info["plural"], request.match_info.get("namespace", "")
        item = await _body(request)
        name = admission.check(self.store, plural, namespace, item)
        if self.store.get(plural, namespace, name) is not None:
            raise already_exists(plural, name)
        made = self.store.put(plural, namespace, item)
        if plural == "namespaces":
            asyncio.get_running_loop().call_later(0.2, self.namespace, name)
        return web.json_response(made, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._there(request))

    async def _update(self, request: web.Request) -> web.Response:
        old, item = self._there(request), await _body(request)
        return web.json_response(self._replace(request, old, item))

    async def _patch(self, request: web.Request) -> web.Response:
        if request.content_type not in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            raise StatusError(
                415,
                "UnsupportedMediaType",
                f"the body of the request was in an unknown format - {request.content_type}",
            )
        old = self._there(request)
        return web.json_response(self._replace(request, old, _merged(old, await _body(request))))

    def _replace(self, request: web.Request, old: Object, item: Object) -> Object:
        plural, name = request.match_info["plural"], request.match_info["name"]
        version = item["metadata"].get("resourceVersion")
        if version not in (None, old["metadata"]["resourceVersion"]):
            raise conflict(plural, name, _MODIFIED)
        uid, there = item["metadata"].get("uid"), old["metadata"]["uid"]
        if uid not in (None, there) and request.method == "PATCH":
            why = f'metadata.uid: Invalid value: "{uid}": field is immutable'
            raise StatusError(422, "Invalid", f'{KINDS[plural][0]} "{name}" is invalid: {why}', name=name)
        if uid not in (None, there):
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {there}"
            raise conflict(plural, name, why)
        return self.store.put(plural, request.match_info.get("namespace", ""), item)

    async def _delete(self, request: web.Request) -> web.Response:
        item = self._there(request)
        plural, namespace = request.match_info["plural"], request.match_info.get("namespace", "")
        meta = item["metadata"]
        options = await _body(request) if request.can_read_body else {}
        for name, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = (options.get("preconditions") or {}).get(name)
            if wanted not in (None, meta[name]):
                why = f"Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {meta[name]}"
                raise conflict(plural, meta["name"], why)
        if plural == "namespaces":
            self._remove_namespace(meta["name"])
        if plural != "pods":
            self.store.remove(plural, namespace, meta["name"])
            details = {"name": meta["name"], "kind": plural, "uid": meta["uid"]}
            return web.json_response(
                {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
            )
        grace = options.get("gracePeriodSeconds", item["spec"].get("terminationGracePeriodSeconds", 30))
        ended = item.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if ended or not item["spec"].get("nodeName") or grace == 0:
            return web.json_response(self.store.remove(plural, namespace, meta["name"]))
        if "deletionTimestamp" in meta:
            return web.json_response(item)
        marks = {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
        return web.json_response(self.change(plural, namespace, meta["name"], metadata=marks))

    def _remove_namespace(self, name: str) -> None:
        for plural, namespace, item in list(self.store.objects):
            if namespace == name:
                self.store.remove(plural, namespace, item)

    def _there(self, request: web.Request) -> Object:
        plural, name = request.match_info["plural"], request.match_info["name"]
        item = self.store.get(plural, request.match_info.get("namespace", ""), name)
        if item is None:
            raise not_found(plural, name)
        return copy.deepcopy(item)

    # -- logs

    async def _log(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        pod = self.store.get("pods", namespace, name)
        if pod is None:
            raise not_found("pods", name)
        container = request.query.get("container") or pod["spec"]["containers"][0]["name"]
        if container not in {item["name"] for item in pod["spec"]["containers"]}:
            raise bad_request(f"container {container} is not valid for pod {name}")
        if not pod["spec"].get("nodeName"):
            return web.Response(status=204)
        waiting = admission.waiting_reason(pod, container)
        if waiting:
            raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {waiting}')
        self._requests.append(request)
        try:
            return await self.logs.serve(request, pod["metadata"]["uid"])
        finally:
            self._requests.remove(request)


def _is_set(request: web.Request, name: str) -> bool:
    """As the API reads a boolean: whatever is given and does not say no (clients send ``True``, ``true`` or ``1``)."""
    return request.query.get(name, "false").lower() not in ("false", "0")


def _verb(request: web.Request) -> str:
    named = "name" in request.match_info
    match request.method:
        case "GET" if not named and _is_set(request, "watch"):
            return "watch"
        case "GET":
            return "get" if named else "list"
        case method:
            return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(method, method)


def _error(status: int, retry_after: float | None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 429:
        # API priority and fairness answers in plain text.
        text = "Too many requests, please try again later.\n"
        return web.Response(status=429, text=text, headers=headers)
    if status == 409:
        error = conflict("resourcequotas", "all", _MODIFIED)
    else:
        error = StatusError(status, "InternalError", "an error on the server has prevented the request from succeeding")
    response = error.response()
    response.headers.update(headers)
    return response


def _merged(old: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = copy.deepcopy(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


async def _body(request: web.Request) -> Object:
    try:
        body = await request.json()
    except ValueError:
        raise bad_request("couldn't get version/kind; json parse error") from None
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized")
    return body


async def _send(response: web.StreamResponse, kind: str, item: Object) -> None:
    await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")
