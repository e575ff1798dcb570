"""The operators' log: decisions, transitions and acts, on the disk, filtered, without a word on visitors."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clients.log_file import LogFile
from gateway.core.log import DECISION, KINDS, TRANSITION, Entry, Query
from tests.gateway.harness import SPEC, Gateway, Starter, spec_of
from tests.gateway.test_operators import ADMIN, BOSS, OWNER, ask

CLIENT = "198.51.100.77"
ORIGIN = "https://docs.visitor.example"


async def entries(gateway: Gateway, query: str = "", token: str = BOSS) -> list[dict[str, Any]]:
    """What the log has."""
    status, answer = await ask(gateway, token, "GET", f"log{query}")
    assert status == 200, answer
    found = answer["entries"]
    assert isinstance(found, list)
    return found


async def test_the_log_tells_which_member_took_a_launch_and_why_and_nothing_of_the_visitor(start: Starter) -> None:
    gateway = await start.gateway(2, admin=ADMIN, listen={"trusted_proxies": ["127.0.0.0/8"]})
    await gateway.launch(SPEC, {"X-Forwarded-For": CLIENT, "Origin": ORIGIN})
    await gateway.launch(spec_of("other"))
    found = await entries(gateway, "?kind=decision")
    assert [item["repo"] for item in found] == ["git.example/org/other", "git.example/org/repo"]
    (decision,) = await entries(gateway, "?kind=decision&repo=git.example/org/repo")
    assert decision["name"] == "Chosen"
    assert decision["sentence"].startswith(f"{decision['member']} takes git.example/org/repo: it ")
    assert len(await entries(gateway, "?repo=https://git.example/org&kind=decision&limit=1")) == 1
    assert await entries(gateway, "?repo=git.example/or") == []
    text = (gateway.data_dir / "log.sqlite3-wal").read_bytes() + (gateway.data_dir / "log.sqlite3").read_bytes()
    assert decision["launch"].encode() in text
    assert CLIENT.encode() not in text
    assert b"visitor.example" not in text


async def test_transitions_bear_names_and_acts_tell_from_where_and_both_outlive_a_restart(start: Starter) -> None:
    gateway = await start.gateway(2, admin=ADMIN, listen={"trusted_proxies": ["127.0.0.0/8"]})
    members = gateway.members
    began = time.time() - 600
    url = f"{gateway.url}api/v1/admin/members/member-2/policy"
    headers = {"Authorization": f"Bearer {BOSS}", "X-Forwarded-For": "203.0.113.9"}
    async with gateway.http.put(url, json={"policy": "draining"}, headers=headers) as response:
        assert response.status == 200
    await gateway.until_state("member-2", "draining")
    await gateway.runner.cleanup()
    again = await start.gateway_of(members, admin=ADMIN)
    found = await entries(again, f"?member=member-2&since={began}")
    by_name = {item["name"]: item for item in found}
    act, transition = by_name["PUT members/member-2/policy"], by_name["MemberDraining"]
    assert (act["who"], act["role"], act["address"], act["outcome"]) == ("boss", "operator", "203.0.113.9", "done")
    assert (act["what"], act["key"], act["value"]) == ("policy", "member-2", {"policy": "draining"})
    assert (transition["before"], transition["after"]) == ("available", "draining")
    assert transition["reason"] == "An operator has set it to draining: it gets no new launches."
    assert [item["at"] for item in found] == sorted((item["at"] for item in found), reverse=True)
    assert await entries(again, "?who=boss&kind=transition") == []
    assert await entries(again, f"?since={time.time() + 60}") == []
    # A member's own operator reads what was done, not from where.
    assert all("address" not in item for item in await entries(again, "?kind=act", OWNER))
    for wrong in ("?kind=nonsense", "?limit=0", "?limit=1001", "?limit=x", "?since=yesterday", "?since=nan", "?wh=x"):
        assert (await ask(again, BOSS, "GET", f"log{wrong}"))[0] == 422, wrong


def test_the_file_keeps_the_latest_of_each_kind(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log.sqlite3", keep=3)
    file.add([Entry(DECISION, float(n), "Chosen", body={}) for n in range(10)])
    file.add([Entry(TRANSITION, 0.5, "MemberFull", "member-1", body={})])
    assert sorted(entry.at for entry in file.find(Query())) == [0.5, 7.0, 8.0, 9.0]
    file.close()


_words = st.sampled_from(["", "a", "a/b", "a/b/c", "a0", "a-b", "b"])
_entries = st.builds(
    Entry,
    st.sampled_from([DECISION, TRANSITION]),
    st.sampled_from([1.0, 2.0, 3.0]),
    st.just("name"),
    _words,
    _words,
    body=st.just({}),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for many files."""
    return tmp_path_factory.mktemp("logs")


@given(
    given=st.lists(_entries, max_size=8),
    query=st.builds(
        Query,
        kinds=st.frozensets(st.sampled_from(KINDS)),
        member=_words,
        repo=_words,
        since=st.sampled_from([0.0, 2.0]),
        limit=st.just(50),
    ),
)
def test_the_file_finds_what_the_rules_want(scratch: Path, given: list[Entry], query: Query) -> None:
    path = scratch / "log.sqlite3"
    path.unlink(missing_ok=True)
    file = LogFile(path)
    file.add(given)
    found = file.find(query)
    file.close()
    wanted = [entry for entry in given if query.wants(entry)]
    assert sorted(map(repr, found)) == sorted(map(repr, wanted))
