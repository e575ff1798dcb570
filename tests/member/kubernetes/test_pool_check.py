"""``manybinder member check --config``: each pool of nodes builds, pushes and pulls, or it is said which does not."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from manybinder import cluster_check
from manybinder.errors import CommandError, Exit
from manybinder.services import load
from member.builders.kubernetes.pool_check import Finding, PoolCheck
from member.settings import MemberSettings
from tests.charts.pod_security import offences
from tests.fakes.kubernetes import Kubelet, node, quota
from tests.fakes.kubernetes.store import Change
from tests.fakes.oci_registry import OCI
from tests.member.kubernetes.kube_harness import NAMESPACE, Cluster, cluster, settings_tree
from tests.member.member_harness import COMMIT
from tests.member.web_harness import member_of

LABEL = "pool"

#: A build that ends well: it is the test that has the registry get the image.
BUILD = ["/bin/sh", "-c", "echo built", "builder"]


@contextlib.asynccontextmanager
async def pools(tmp_path: Path, **pulls: bool) -> AsyncIterator[Cluster]:
    """A cluster with a pool for builds and two for sessions, of which each can pull or not."""
    taint = {"key": "hub.jupyter.org/dedicated", "value": "user", "effect": "NoSchedule"}
    foreign = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    async with cluster(tmp_path) as there:
        there.api.store.remove("nodes", "", "node-1")
        nodes = [
            node("b-1", labels={LABEL: "builds", "for": "builds"}),
            node("u-1", labels={LABEL: "users", "for": "users"}, taints=[taint]),
            node("u-2", labels={LABEL: "users", "for": "users"}, taints=[taint]),
            node("u-3", labels={LABEL: "large", "for": "users"}),
            node("gone", labels={LABEL: "gone", "for": "users"}, ready=False),
            node("closed", labels={LABEL: "closed", "for": "users"}, cordoned=True),
            node("gpu", labels={LABEL: "gpu", "for": "users"}, taints=[foreign]),
        ]
        for item in nodes:
            there.api.store.put("nodes", "", item)

        def can(image: str) -> bool:
            where = {pod["spec"].get("nodeName") for pod in there.api.store.all("pods", "hub")}
            return all(pulls.get(str(name).replace("-", "_"), True) for name in where)

        async with Kubelet(there.api, NAMESPACE), Kubelet(there.api, "hub", images=can):
            yield there


def tree_of(there: Cluster, tmp_path: Path, **builder: Any) -> dict[str, Any]:
    given = {"command": BUILD, "node_selector": {"for": "builds"}, **builder}
    sessions = {"namespace": "hub", "node_selector": {"for": "users"}, "image_pull_secrets": ["pull"]}
    return settings_tree(there.kubeconfig, there.registry.url, tmp_path, **{"sessions": sessions, **given})


def settings(there: Cluster, tmp_path: Path, **builder: Any) -> MemberSettings:
    return MemberSettings.model_validate(tree_of(there, tmp_path, **builder))


async def findings(there: Cluster, given: MemberSettings, *, pushes: bool = True) -> list[Finding]:
    check = PoolCheck(given, label=LABEL, repo_url="https://git.example/check", commit=COMMIT, pull_timeout_s=60)
    if pushes:
        there.registry.manifests = _Any()
    return [finding async for finding in check.run()]


class _Any(dict[str, str]):
    """A registry that has got whatever was pushed."""

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ARG002 - the base class's
        return OCI


async def test_each_pool_pushes_or_pulls(tmp_path: Path) -> None:
    async with pools(tmp_path) as there:
        made: list[dict[str, Any]] = []
        there.api.lose = lambda change: made.append(change.new) or False  # type: ignore[func-returns-value]
        found = await findings(there, settings(there, tmp_path))
        assert [(item.what, item.ok) for item in found] == [
            ("push on builds (b-1)", True),
            ("pull on large (u-3)", True),
            ("pull on users (u-1, u-2)", True),
        ]
        pods = {pod["metadata"]["name"]: pod for pod in made if pod["kind"] == "Pod"}
        pulled = [pod for pod in pods.values() if pod["metadata"]["namespace"] == "hub"]
        (pushed,) = [pod for pod in pods.values() if pod["metadata"]["namespace"] == NAMESPACE]
        for pod in pulled:
            # It may run where only pods of the restricted standard may.
            assert offences(pod["spec"]) == []
            (container,) = pod["spec"]["containers"]
            assert container["image"] == pushed["metadata"]["annotations"]["manybinder.org/image"]
            assert container["imagePullPolicy"] == "Always"
            assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
        assert there.api.store.all("pods", "hub") == []


async def test_nodes_without_the_label_are_a_pool_of_their_own(tmp_path: Path) -> None:
    async with pools(tmp_path) as there:
        for name, purpose in (("b-2", "builds"), ("u-4", "users")):
            there.api.store.put("nodes", "", node(name, labels={"for": purpose}))
        built: set[str] = set()

        def see(change: Change) -> bool:
            if change.new["kind"] == "Pod" and (at := change.new["spec"].get("nodeName")):
                built.add(at)
            return False

        there.api.lose = see
        found = await findings(there, settings(there, tmp_path))
        assert [(item.what, item.ok) for item in found] == [
            ("push on builds (b-1)", True),
            ("push on nodes without the label (b-2)", True),
            ("pull on large (u-3)", True),
            ("pull on users (u-1, u-2)", True),
            ("pull on nodes without the label (u-4)", True),
        ]
        # The fake takes the first node that it may: u-1 of its pool.
        assert built == {"b-1", "b-2"}
        assert [item.words for item in found[2:]] == ["u-3 pulled it", "u-1 pulled it", "u-4 pulled it"]


async def test_a_pool_that_cannot_pull_is_named(tmp_path: Path) -> None:
    async with pools(tmp_path, u_3=False) as there:
        check = PoolCheck(
            settings(there, tmp_path), label=LABEL, repo_url="https://git.example/x", commit=COMMIT, pull_timeout_s=2
        )
        there.registry.manifests = _Any()
        found = {item.what: item async for item in check.run()}
        assert not found["pull on large (u-3)"].ok
        assert "the image cannot be pulled (" in found["pull on large (u-3)"].words
        assert found["pull on users (u-1, u-2)"].ok


async def test_what_a_build_says_before_it_fails_is_shown(tmp_path: Path) -> None:
    async with pools(tmp_path) as there:
        command = ["/bin/sh", "-c", "echo no credentials; exit 3", "builder"]
        found = await findings(there, settings(there, tmp_path, command=command), pushes=False)
        assert [item.ok for item in found] == [False, False, False]
        assert "no credentials" in found[0].words
        assert "exit status 3" in found[0].words
        assert found[1].words == "no image was pushed that could be pulled"


async def test_a_right_that_is_missing_is_told(tmp_path: Path) -> None:
    async with pools(tmp_path) as there:
        given = settings(there, tmp_path, sessions={"namespace": "elsewhere", "node_selector": {"for": "users"}})
        found = await findings(there, given)
        assert found[0].ok
        assert not found[1].ok
        assert 'namespaces "elsewhere" not found' in found[1].words


@pytest.mark.parametrize("full", [False, True], ids=["no right", "no room"])
async def test_whether_another_account_could_pull_is_told(tmp_path: Path, *, full: bool) -> None:
    async with pools(tmp_path) as there:
        there.registry.manifests = _Any()
        given = settings(there, tmp_path)
        check = PoolCheck(given, label=LABEL, repo_url="https://git.example/x", commit=COMMIT, pull_timeout_s=2)
        found = []
        async for item in check.run():
            found.append(item)
            if full:
                there.api.store.put("resourcequotas", "hub", quota("none", {"pods": "0"}, {"pods": "0"}))
            else:
                there.api.forbidden.add("create pods")
        assert [item.ok for item in found] == [True, False, False]
        for item in found[1:]:
            assert ("exceeded quota" in item.words, "`helm test`" in item.words) == (full, not full)


def binder(final: str = "ready") -> tuple[web.Application, list[str]]:
    """A member's API and a session below one address, and what was asked of them: just enough to launch."""
    app, asked = web.Application(), []

    async def health(_: web.Request) -> web.Response:
        checks = [{"service": "JupyterHub API", "ok": True, "message": ""}]
        return web.json_response({"ok": True, "checks": checks})

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html></html>", content_type="text/html")

    async def build(request: web.Request) -> web.Response:
        asked.append(request.rel_url.raw_path.removeprefix("/build/"))
        told = {"phase": final, "message": "no room\n", "url": f"{request.url.origin()}/user/x", "token": "secret"}
        return web.Response(text=f"data: {json.dumps(told)}\n\n", content_type="text/event-stream")

    async def status(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token secret"
        return web.json_response({}, headers={"Access-Control-Allow-Origin": "*"})

    async def kernels(_: web.Request) -> web.Response:
        return web.json_response({"id": "k"}, status=201)

    async def channels(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        wanted = await socket.receive_json()
        first, second = wanted["content"]["code"].removeprefix("print(").removesuffix(")").split(" * ")
        head = {"parent_header": wanted["header"], "header": {"msg_type": "stream"}}
        await socket.send_json({**head, "content": {"text": f"{int(first) * int(second)}\n"}})
        await socket.receive()
        return socket

    async def shutdown(_: web.Request) -> web.Response:
        asked.append("shut down")
        return web.Response()

    app.router.add_get("/health", health)
    app.router.add_get("/v2/{spec:.+}", page)
    app.router.add_get("/build/{spec:.+}", build)
    app.router.add_get("/user/x/api/status", status)
    app.router.add_post("/user/x/api/kernels", kernels)
    app.router.add_get("/user/x/api/kernels/k/channels", channels)
    app.router.add_post("/user/x/api/shutdown", shutdown)
    return app, asked


async def test_a_launch_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app, asked = binder("failed")
    async with pools(tmp_path) as there, TestServer(app) as server:
        there.registry.manifests = _Any()
        given = settings(there, tmp_path).model_copy(update={"public_url": str(server.make_url("/"))})
        arguments = {"repo": "https://git.example/x", "commit": COMMIT, "label": LABEL}
        assert await cluster_check.check(given, **arguments, as_json=False) is Exit.FAILED
        assert capsys.readouterr().out.splitlines()[-1] == "✗ launch: no room"
        assert len(asked) == 1
        people = given.model_copy(update={"auth_enabled": True})
        assert await cluster_check.check(people, **arguments, as_json=False) is Exit.DONE
        assert "not tried: visitors log in" in capsys.readouterr().out.splitlines()[-1]


async def test_a_member_whose_federation_alone_launches_there_is_not_found_at_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with pools(tmp_path) as there, member_of(tmp_path / "joined", required=True) as member:
        there.registry.manifests = _Any()
        given = settings(there, tmp_path).model_copy(update={"public_url": member.url})
        arguments = {"repo": "https://git.example/x", "commit": COMMIT, "label": LABEL}
        assert await cluster_check.check(given, **arguments, as_json=False) is Exit.DONE
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("✓ launch: not tried: only its federation launches here; `manybinder admin")


async def test_the_command_tells_it_all_and_fails_where_something_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, launched = binder()
    async with pools(tmp_path) as there, TestServer(app) as server:
        there.registry.manifests = _Any()
        tree = tree_of(there, tmp_path) | {"schema": 1, "public_url": str(server.make_url("/"))}
        config = tmp_path / "member.yaml"
        config.write_text(yaml.safe_dump(tree))
        given = load(MemberSettings, config)
        arguments = {"repo": "https://git.example/x", "commit": COMMIT, "label": LABEL}
        assert await cluster_check.check(given, **arguments, as_json=False) is Exit.DONE
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "✓ JupyterHub API: works"
        assert [line[0] for line in lines] == ["✓"] * 7
        assert lines[-3].startswith("✓ launch: https://git.example/x became a session at ")
        assert lines[-1] == "✓ websocket: a kernel computes, through its websocket"
        # What it has started is shut down again.
        assert launched == [f"git/https%3A%2F%2Fgit.example%2Fx/{COMMIT}", "shut down"]
        assert await cluster_check.check(given, **{**arguments, "label": "none"}, as_json=True) is Exit.DONE
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert told[1]["what"] == "push on nodes without the label (b-1)"
        with pytest.raises(CommandError, match="belongs to no federation"):
            await cluster_check.check(given, repo="", commit="", label=LABEL, as_json=False)
        with pytest.raises(CommandError, match="give the commit"):
            await cluster_check.check(given, repo="https://git.example/x", commit="", label=LABEL, as_json=False)
