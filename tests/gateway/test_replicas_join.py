"""Replicas of a member that join a federation at one time, with one token: they keep one key, in a Secret."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.joining import parse_join_token
from contract.signatures import fingerprint, private_pem
from gateway.app import make_app
from manybinder import membership
from manybinder.errors import CommandError, Exit
from member import joined
from member.clients.kubernetes import Kubernetes
from member.joined import JoinedError
from member.joined_secret import JoinedSecret
from member.settings import MemberSettings
from tests.fakes.kubernetes import FakeKubernetes
from tests.federation import free_port
from tests.gateway.harness import Starter, gateway_settings
from tests.gateway.joining import OPEN, ask, join_token

SECRET = "manybinder-federations"


@pytest.fixture
async def api() -> AsyncIterator[FakeKubernetes]:
    async with FakeKubernetes() as made:
        yield made


def replica(api: FakeKubernetes, directory: Path, url: str) -> MemberSettings:
    """One replica's settings, with a data directory of its own."""
    directory.mkdir()
    tree = {
        "name": "local",
        "listen": {"port": 9001},
        "public_url": url,
        "data_dir": str(directory),
        "hub": {"url": url, "public_url": url, "api_token": "t"},
        "builder": {"kind": "kubernetes", "kubeconfig": str(api.kubeconfig(directory / "kubeconfig"))},
        "joined": {"secret": SECRET},
    }
    return MemberSettings.model_validate(tree)


async def test_replicas_that_join_at_one_time_are_one_member(
    start: Starter, api: FakeKubernetes, tmp_path: Path
) -> None:
    port, key = free_port(), Ed25519PrivateKey.generate()
    settings = gateway_settings(tmp_path / "gateway", key, [], **OPEN, public_url=f"http://127.0.0.1:{port}/")
    gateway = await start.serving(await make_app(settings), key, settings.data_dir, port=port)
    fake = await start.member("newcomer")
    text = await join_token(gateway)
    token = parse_join_token(text)
    replicas = [replica(api, tmp_path / f"replica-{n}", fake.url) for n in range(3)]
    ends = await asyncio.gather(*(membership.join(one, gateway.url, token, 1.0) for one in replicas))
    assert ends == [Exit.DONE] * 3
    # One that starts later, with nothing on its disk, finds that all is done.
    late = replica(api, tmp_path / "late", fake.url)
    assert await membership.join(late, gateway.url, token, 1.0) is Exit.DONE
    kept = [joined.read_all(one.data_dir) for one in (*replicas, late)]
    keys = {fingerprint(item.report_key.public_key()) for (item,) in kept}
    assert len(keys) == 1
    (member,) = (await ask(gateway, "GET", "members")).body["members"]
    assert member["joined"]["keys"] == list(keys)
    # And so does one that has looked before the others had joined.
    slow = replica(api, tmp_path / "slow", fake.url)
    (secret,) = api.store.all("secrets", "default")
    api.store.put("secrets", "default", {**secret, "data": {}})
    async with membership._open(slow) as looked:
        api.store.put("secrets", "default", {**api.store.all("secrets", "default")[0], "data": secret["data"]})
        assert await membership._join(slow, gateway.url, token, 1.0, looked) is Exit.DONE
    assert joined.read_all(slow.data_dir)[0].token == kept[0][0].token
    # What is no longer needed is nowhere.
    (secret,) = api.store.all("secrets", "default")
    assert sorted(secret["data"]) == [f"127.0.0.1-{port}.json"]
    # Draining one of them drains the member.
    assert await membership.drain(late, wanted=True) is Exit.DONE
    async with files(api, replicas[0].data_dir) as there:
        await there.settle()
        assert joined.is_draining(replicas[0].data_dir)
    assert await membership.drain(replicas[0], wanted=False) is Exit.DONE
    async with files(api, late.data_dir) as there:
        await there.settle()
        assert not joined.is_draining(late.data_dir)


@contextlib.asynccontextmanager
async def files(api: FakeKubernetes, data_dir: Path) -> AsyncIterator[JoinedSecret]:
    """The files of a replica that runs."""
    data_dir.mkdir(exist_ok=True)
    client = await Kubernetes.connect(api.kubeconfig(data_dir / "kubeconfig"))
    made = JoinedSecret(client, "default", SECRET, data_dir)
    try:
        yield made
    finally:
        await made.close()


def known(**changes: object) -> joined.Joined:
    key = Ed25519PrivateKey.generate()
    url = "https://binder.example.org/a~b/"
    made = joined.Joined("m", url, f"{url}api/v1/reports", (key.public_key(),), 1.0, key)
    return replace(made, **changes)  # type: ignore[arg-type]


async def test_what_one_replica_changes_the_others_have(api: FakeKubernetes, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    async with files(api, here) as one, files(api, there) as other:
        await one.settle()
        assert api.store.all("secrets", "default") == []  # nothing to keep, nothing made
        first = known()
        joined.keep(here, first)
        # A Secret of that name that was made for it beforehand is as good.
        api.store.put("secrets", "default", {"metadata": {"name": SECRET}, "data": {"notes": "eA=="}})
        await one.settle()
        await other.settle()
        assert [private_pem(item.report_key) for item in joined.read_all(there)] == [private_pem(first.report_key)]
        # Both change at one time: nothing of either is lost.
        joined.keep(here, replace(first, leaving=True))
        joined.fresh_key(there, "rotate-x")
        await asyncio.gather(one.settle(), other.settle())
        await asyncio.gather(one.settle(), other.settle())
        for place in (here, there):
            (item,) = joined.read_all(place)
            assert item.leaving
        assert private_pem(joined.fresh_key(here, "rotate-x")) == private_pem(joined.fresh_key(there, "rotate-x"))
        joined.forget(there, first)
        joined.forget_key(there, "rotate-x")
        await other.settle()
        await one.settle()
        assert joined.read_all(here) == []
        (secret,) = api.store.all("secrets", "default")
        assert secret["data"] == {"notes": "eA=="}


async def test_what_an_old_disk_holds_does_not_come_back(api: FakeKubernetes, tmp_path: Path) -> None:
    async with files(api, tmp_path / "new") as one:
        joined.keep(tmp_path / "new", known())
        await one.settle()
        joined.forget(tmp_path / "new", known())
        await one.settle()
    joined.keep(tmp_path / "old", known())
    async with files(api, tmp_path / "old") as other:
        await other.settle()
        assert joined.read_all(tmp_path / "old") == []


async def test_an_answer_that_was_lost_writes_nothing_twice(api: FakeKubernetes, tmp_path: Path) -> None:
    async with files(api, tmp_path / "here") as one:
        joined.keep(tmp_path / "here", first := known())
        api.lost_answers = {"create secrets": 1, "patch secrets": 1}
        await one.settle()
        joined.keep(tmp_path / "here", replace(first, leaving=True))
        await one.settle()
        assert [item.leaving for item in joined.read_all(tmp_path / "here")] == [True]
        (secret,) = api.store.all("secrets", "default")
        assert len(secret["data"]) == 1


@pytest.mark.looptime
@pytest.mark.parametrize("status", [409, 503])
async def test_what_the_api_is_too_busy_for_is_written_a_little_later(
    api: FakeKubernetes, tmp_path: Path, status: int
) -> None:
    async with files(api, tmp_path / "here") as one:
        joined.keep(tmp_path / "here", known())
        api.errors["create secrets"] = [(status, None)] * 4
        begun = asyncio.get_running_loop().time()
        await one.settle()
        assert asyncio.get_running_loop().time() - begun > 5
        (secret,) = api.store.all("secrets", "default")
        assert len(secret["data"]) == 1
        # Who waits is told in the end.
        joined.fresh_key(tmp_path / "here", "another")
        api.errors["patch secrets"] = [(status, None)] * 1000
        with pytest.raises(JoinedError, match=f"HTTP {status}"):
            await one.settle()
        assert asyncio.get_running_loop().time() - begun < 60


async def test_a_right_that_is_missing_is_told(api: FakeKubernetes, tmp_path: Path) -> None:
    api.forbidden.add("get secrets")
    async with files(api, tmp_path / "here") as one:
        with pytest.raises(JoinedError, match=r"Secret manybinder-federations: .* cannot get resource"):
            await one.settle()
    with pytest.raises(CommandError, match="cannot get resource"):
        await membership.drain(replica(api, tmp_path / "replica", "http://127.0.0.1:1/"), wanted=True)
