"""Export and import: everything that was decided moves, and nothing comes back that was taken back."""

import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from contract.signatures import private_pem
from gateway.core.admission import BAN
from gateway.core.operators import LOGIN, TOKEN
from gateway.core.records import Book, Record, stamp_after
from gateway.core.signing import SigningKeys
from gateway.core.state_file import StateFileError, merging, read_state, state_wire
from tests.gateway.harness import Gateway, Starter
from tests.gateway.test_operators import ADMIN, BOSS, ask, made

BAN_NAME = "owner:github.com/miner"


async def exported(gateway: Gateway) -> dict[str, Any]:
    """The file."""
    status, wire = await ask(gateway, BOSS, "POST", "export")
    assert status == 200, wire
    assert isinstance(wire, dict)
    return wire


async def imported(gateway: Gateway, wire: dict[str, Any], query: str = "") -> dict[str, Any]:
    """What an import answers."""
    status, answer = await ask(gateway, BOSS, "POST", f"import{query}", wire)
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


async def decided(gateway: Gateway) -> str:
    """Decide one thing of each kind; returns a token that was made."""
    for path, body in (
        ("bans", {"kind": "owner", "value": "github.com/miner", "reason": "coins"}),
        ("quotas", {"name": "github.com/org", "limit": 7}),
        ("members/member-1/policy", {"policy": "draining"}),
        ("members/member-1/weight", {"weight": 0.5}),
    ):
        assert (await ask(gateway, BOSS, "PUT", path, body))[0] == 200
    return str((await made(gateway, name="script", role="viewer"))["token"])


async def test_a_new_gateway_takes_over_all_that_another_has_decided(start: Starter) -> None:
    first = await start.gateway(1, admin=ADMIN)
    token = await decided(first)
    wire = await exported(first)
    assert (wire["format"], wire["schema"]) == ("manybinder-state", 1)
    assert token.split("_", 2)[2] not in json.dumps(wire)
    start.data_dir /= "another"
    second = await start.gateway_of(first.members, admin=ADMIN, signing_key=_key(first))
    assert (await ask(second, token, "GET", "whoami"))[0] == 401
    tried = await imported(second, wire, "?dry_run=true")
    assert (tried["dry_run"], tried["taken"], tried["new"]) == (True, len(wire["records"]), len(wire["records"]))
    assert (await ask(second, token, "GET", "whoami"))[0] == 401
    assert second.parts.records.book.all() == []
    await imported(second, wire)
    assert (await ask(second, token, "GET", "whoami"))[0] == 200
    assert {ban.name for ban in second.parts.admission.rules.bans} == {BAN_NAME}
    await second.until_state("member-1", "draining")
    _, log = await ask(second, BOSS, "GET", "log?kind=act&limit=1")
    assert "has imported" in log["entries"][0]["detail"]
    # The same once more is no news.
    again = await imported(second, wire, "?dry_run=true")
    assert (again["taken"], again["same"], again["conflicts"]) == (0, len(wire["records"]), [])
    await second.runner.cleanup()
    third = await start.gateway_of(first.members, admin=ADMIN, signing_key=_key(first))
    assert (await ask(third, token, "GET", "whoami"))[0] == 200


async def test_an_import_revives_nothing_and_tells_what_is_in_conflict(start: Starter) -> None:
    gateway = await start.gateway(1, admin=ADMIN)
    token = await decided(gateway)
    before = await exported(gateway)
    token_id = token.split("_")[1]
    assert (await ask(gateway, BOSS, "DELETE", f"tokens?id={token_id}"))[0] == 204
    assert (await ask(gateway, BOSS, "DELETE", f"bans?name={BAN_NAME}"))[0] == 204
    answer = await imported(gateway, before)
    assert (await ask(gateway, token, "GET", "whoami"))[0] == 401
    assert not gateway.parts.admission.rules.bans
    conflicts = {item["name"]: item for item in answer["conflicts"]}
    assert conflicts.keys() == {f"{TOKEN}/{token_id}", f"{BAN}/{BAN_NAME}"}
    assert all((item["kept"], item["here"]) == ("here", None) for item in conflicts.values())
    assert "digest" not in json.dumps(answer)
    # And what was revoked there is revoked here.
    after = await exported(gateway)
    start.data_dir /= "another"
    second = await start.gateway_of(gateway.members, admin=ADMIN, signing_key=_key(gateway))
    await imported(second, before)
    assert (await ask(second, token, "GET", "whoami"))[0] == 200
    answer = await imported(second, after)
    assert {item["kept"] for item in answer["conflicts"]} == {"file"}
    assert (await ask(second, token, "GET", "whoami"))[0] == 401
    assert not second.parts.admission.rules.bans


async def test_a_file_that_was_changed_or_is_not_ours_is_refused(start: Starter) -> None:
    gateway = await start.gateway(0, admin=ADMIN)
    wire = await exported(gateway)
    for changes, status, field in (
        ({"format": "something"}, 422, "format"),
        ({"schema": 2}, 422, "schema"),
        ({"made_at": 1.0}, 422, "sha256"),
        ({"records": []}, 422, "sha256"),
        ({"signature": "00"}, 409, "signature"),
        ({"signature": None}, 409, "signature"),
        ({"signature": "zz"}, 409, "signature"),
    ):
        found = await ask(gateway, BOSS, "POST", "import", {**wire, **changes})
        assert (found[0], found[1]["field"]) == (status, field), changes
    assert (await ask(gateway, BOSS, "POST", "import?dry_run=maybe", wire))[0] == 422
    start.data_dir /= "another"
    other = await start.gateway(0, admin=ADMIN)
    status, answer = await ask(other, BOSS, "POST", "import", wire)
    assert (status, "trust=true" in answer["detail"]) == (409, True)
    # Such a file could hold any token: it takes somebody who may make any.
    narrow = (await made(other, name="mover", role="operator", scopes=["state"]))["token"]
    assert (await ask(other, narrow, "POST", "import?trust=true", wire))[0] == 403
    assert (await imported(other, wire, "?trust=true"))["signed_here"] is False


async def test_an_import_reaches_every_replica(start: Starter) -> None:
    source = await start.gateway(1, admin=ADMIN)
    token = await decided(source)
    wire = await exported(source)
    start.data_dir /= "others"
    one, two = await start.replicas(2, await start.redis(), members=0, admin=ADMIN)
    await imported(one, wire, "?trust=true")
    assert (await ask(two, token, "GET", "whoami"))[0] == 200


def test_a_record_from_the_future_names_itself() -> None:
    keys, now = SigningKeys(Ed25519PrivateKey.generate()), time.time()
    book = Book([Record(BAN, "x", stamp_after(None, now + 10 * 365 * 86400, "r"), {})])
    with pytest.raises(StateFileError, match=r"records\[0\]\.stamp: is from the future"):
        read_state(state_wire(book, keys, now, "", ""), keys, now)


_values = st.none() | st.fixed_dictionaries({"n": st.integers(0, 2)})
_records = st.builds(
    Record,
    st.sampled_from([BAN, LOGIN]),
    st.sampled_from(["a", "b"]),
    st.integers(0, 3).map(lambda n: stamp_after(None, float(n), "r")),
    _values,
)


@given(st.lists(_records, max_size=6), st.lists(_records, max_size=6))
def test_the_later_writing_holds_whichever_side_it_is_on(here: list[Record], there: list[Record]) -> None:
    book, file = Book(here), Book(there)
    found = merging(book, file.all())
    merged = Book([*book.all(), *found.taken])
    for record in merged.all():
        sides = [side for side in (book.get(record.kind, record.key), file.get(record.kind, record.key)) if side]
        assert record.stamp == max(side.stamp for side in sides)
    # Once more changes nothing, and nothing of here was lost.
    assert merging(merged, file.all()).taken == []
    assert all(merged.named(record.name) is not None for record in [*here, *there])
    assert all(
        (merged.named(item.name).value == item.file) == (item.kept == "file")  # type: ignore[union-attr]
        for item in found.conflicts
    )


def _key(gateway: Gateway) -> str:
    return private_pem(gateway.key)
