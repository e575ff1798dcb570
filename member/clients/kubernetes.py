"""The Kubernetes API: JSON objects in and out, errors as the API tells them, lists, watches and logs.

Over the official client, which brings configuration, credentials (read anew when they are rotated), TLS and the
connection pool.  Its models are left out on purpose: they cost much time, and drop what a newer cluster adds.

Source: kubernetes.io, "Kubernetes API Concepts"; names of resources and fields are those of the API reference.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from contract.json_types import loads_object

#: Seconds that one request may take; watches and logs last as long as there is something to hear.
REQUEST_TIMEOUT_S = 20.0

#: Seconds that a watch may be silent beyond the time for which it was asked.
_WATCH_GRACE_S = 10.0

#: Seconds that a log may be silent before it is asked for again.
_LOG_SILENCE_S = 25.0

#: Objects in one answer to a list.
_PAGE = 500

#: Bytes of one log line that are read; the rest of it is dropped.
MAX_LINE = 256 * 1024

_MERGE_PATCH = "application/merge-patch+json"

#: What counts what is made, Kubernetes' and OpenShift's.
_QUOTAS = ("resourcequotas", "clusterresourcequotas")

#: Resources that are not in the core group, with their group and version.
_GROUPS = {"leases": "coordination.k8s.io/v1"}


class KubernetesError(Exception):
    """The API did not do what it was asked; the text is a sentence for the operator.

    ``status`` is the HTTP status, 0 where no answer came; ``reason`` the API's own word (``AlreadyExists``,
    ``Conflict``, ``Expired`` …); ``retry_after_s`` when it may be asked again, if it said so; ``about`` the resource
    of which it speaks, if it said so, which need not be the one that was asked for.
    """

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float | None = None, about: str = ""
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.retry_after_s, self.about = status, reason, retry_after_s, about

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later: no answer, too many requests, or the server's trouble.

        So is a quota that is counted for others at the same moment (kubernetes/kubernetes, issue 67761).
        """
        counted = self.reason == "Conflict" and self.about in _QUOTAS
        return self.status in (0, 429) or self.status >= 500 or counted

    @property
    def exceeds_quota(self) -> bool:
        """Whether a ResourceQuota has no room for what was to be made; the API's answer has a 403 for that too."""
        return "exceeded quota" in str(self)


class Listing(NamedTuple):
    """All objects of a list, and the version from which a watch continues it."""

    items: list[dict[str, Any]]
    resource_version: str


class Change(NamedTuple):
    """One event of a watch: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``."""

    type: str
    object: dict[str, Any]


class Kubernetes:
    """Talks to one cluster with one identity."""

    def __init__(self, api: Any) -> None:
        self._api = api

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None) -> "Kubernetes":
        """Use a kubeconfig file, or (without one) the service account of the pod that this process runs in.

        Raises :class:`KubernetesError` where there is no usable one; nothing is asked of the cluster yet.
        """
        # Only a member in Kubernetes needs it, and it takes a second to import.
        from kubernetes.aio import client
        from kubernetes.aio import config as loading

        config: Any = loading  # it has no types

        configuration = client.Configuration()
        # Watches and logs hold a connection each.
        configuration.connection_pool_maxsize = 0
        # Python 3.13 and later want more of an authority's certificate than many clusters' have (RFC 5280's extensions,
        # key identifiers first of all).  Who signed what, and for which host, is checked all the same.
        configuration.disable_strict_ssl_verification = True
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=configuration)
            else:
                await config.load_kube_config(
                    config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
                )
            return cls(client.ApiClient(configuration))
        except (config.ConfigException, OSError, ValueError) as error:
            where = f"{kubeconfig} cannot be used" if kubeconfig else "this process does not run in a pod of a cluster"
            raise KubernetesError(0, "", f"{where}: {error}") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def get(self, plural: str, namespace: str | None, name: str) -> dict[str, Any]:
        """One object; raises :class:`KubernetesError`, with status 404 where it is not."""
        return await self._json("GET", _path(plural, namespace, name))

    async def create(self, plural: str, namespace: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object; raises :class:`KubernetesError`, with reason ``AlreadyExists`` where its name is taken."""
        return await self._json("POST", _path(plural, namespace), body=body)

    async def patch(self, plural: str, namespace: str | None, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change fields of an object (a JSON merge patch: ``None`` removes a field).

        With ``metadata.resourceVersion`` in the body only in this very state; reason ``Conflict`` if not.
        """
        return await self._json("PATCH", _path(plural, namespace, name), body=body, content_type=_MERGE_PATCH)

    async def delete(
        self,
        plural: str,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_s: int | None = None,
    ) -> None:
        """Delete an object, if it is the very one, in the very state, that is said; reason ``Conflict`` if not."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        wanted = {"uid": uid, "resourceVersion": resource_version}
        if preconditions := {name: value for name, value in wanted.items() if value is not None}:
            body["preconditions"] = preconditions
        await self._json("DELETE", _path(plural, namespace, name), body=body)

    async def list_all(self, plural: str, namespace: str | None, *, labels: str = "", fields: str = "") -> Listing:
        """All objects that match both selectors, in the state of one moment; ``namespace`` ``None``: of all."""
        query = _selectors(labels, fields)
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            page = await self._json(
                "GET",
                _path(plural, namespace),
                [*query, ("limit", str(_PAGE)), *([("continue", token)] if token else [])],
            )
            items += page.get("items") or []
            meta = page.get("metadata") or {}
            token = str(meta.get("continue") or "")
            if not token:
                return Listing(items, str(meta.get("resourceVersion", "")))

    async def watch(
        self,
        plural: str,
        namespace: str | None,
        resource_version: str,
        *,
        labels: str = "",
        fields: str = "",
        window_s: float,
        on_open: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Change, None]:
        """What changes after a version, for about ``window_s``; then it ends, and another watch may go on from there.

        ``on_open`` is called once the API has taken the watch, which may have nothing to tell for long.
        Raises :class:`KubernetesError`, with status 410 where the version is too old: list again.
        """
        query = [
            *_selectors(labels, fields),
            ("watch", "true"),
            ("resourceVersion", resource_version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(max(1, round(window_s)))),
        ]
        within = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=window_s + _WATCH_GRACE_S)
        async with contextlib.aclosing(self._lines(_path(plural, namespace), query, within, None, on_open)) as lines:
            async for line in lines:
                try:
                    event = loads_object(line)
                    kind, changed = str(event["type"]), event["object"]
                except (ValueError, KeyError) as error:
                    raise KubernetesError(0, "", "the Kubernetes API broke off in the middle of a watch") from error
                if kind == "ERROR":
                    raise _of_status(int(changed.get("code") or 500), changed, f"watch {plural}")
                yield Change(kind, changed)

    async def log(
        self, namespace: str, pod: str, container: str, *, since: str = "", follow: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """Lines of a container's log, each with its time (RFC 3339) in front, from the first one or from ``since``.

        ``since`` counts in whole seconds: lines of that second come again.  With ``follow`` it ends with the
        container; it may end earlier (a node that restarts, a connection that breaks, a long silence).
        """
        query = [("container", container), ("timestamps", "true")]
        if follow:
            query.append(("follow", "true"))
        if since:
            query.append(("sinceTime", since))
        # A connection that has died silently looks like a container that is silent: the reader asks again, for both.
        within = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=_LOG_SILENCE_S)
        async with contextlib.aclosing(
            self._lines(_path("pods", namespace, pod, "log"), query, within, MAX_LINE)
        ) as lines:
            async for line in lines:
                yield line

    async def _lines(
        self,
        path: str,
        query: list[tuple[str, str]],
        within: aiohttp.ClientTimeout,
        max_line: int | None,
        on_open: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[bytes, None]:
        response = await self._send("GET", path, query, None, within)
        try:
            if response.status >= 300:
                raise await _refusal(response, f"GET {path}")
            on_open()
            pending = b""
            async for chunk in response.content.iter_any():
                *lines, pending = (pending + chunk).split(b"\n")
                if max_line is not None:
                    pending = pending[:max_line]
                for line in lines:
                    if line:
                        yield line[:max_line]
            if pending:
                yield pending
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(0, "", f"the Kubernetes API broke off: {_describe(error)}") from error
        finally:
            response.close()

    async def _json(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        within = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        response = await self._send(method, path, query or [], body, within, content_type)
        try:
            if response.status >= 300:
                raise await _refusal(response, f"{method} {path}")
            return loads_object(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(0, "", f"the Kubernetes API broke off: {_describe(error)}") from error
        except ValueError as error:
            raise KubernetesError(0, "", f"the answer to {method} {path} is no JSON object") from error
        finally:
            response.release()

    async def _send(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        body: Mapping[str, Any] | None,
        within: aiohttp.ClientTimeout,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            verb, url, sent_headers, sent, post = await self._api.param_serialize(
                method, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            answer = await self._api.call_api(verb, url, sent_headers, sent, post, _request_timeout=within)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(0, "", f"the Kubernetes API does not answer: {_describe(error)}") from error
        response: aiohttp.ClientResponse = answer.response
        return response


def _path(plural: str, namespace: str | None, *parts: str) -> str:
    within = f"/namespaces/{namespace}" if namespace is not None else ""
    group = f"/apis/{_GROUPS[plural]}" if plural in _GROUPS else "/api/v1"
    return "/".join([f"{group}{within}/{plural}", *parts])


def _selectors(labels: str, fields: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value]


async def _refusal(response: aiohttp.ClientResponse, request: str) -> KubernetesError:
    """The error of an answer that is not a success: a Status object, or plain text from what stands in between."""
    text = await response.text(errors="replace")
    try:
        status = loads_object(text)
    except ValueError:
        status = {"message": text.strip()[:300]}
    return _of_status(response.status, status, request, response.headers.get("Retry-After"))


def _of_status(code: int, status: Mapping[str, Any], request: str, retry_after: str | None = None) -> KubernetesError:
    details = status.get("details") or {}
    told = retry_after if retry_after is not None else details.get("retryAfterSeconds")
    try:
        retry_after_s = None if told is None else float(told)
    except ValueError:
        retry_after_s = None  # an HTTP date, from a proxy
    message = str(status.get("message") or "no reason given")
    return KubernetesError(
        code,
        str(status.get("reason") or ""),
        f"Kubernetes answered HTTP {code} to {request}: {message}",
        retry_after_s,
        str(details.get("kind") or ""),
    )


def _describe(error: BaseException) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
