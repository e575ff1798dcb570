"""The federations of a member: whose orders and bans it takes, what each is told, how it learns of new keys."""

import asyncio
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Phase
from contract.joining import Notice, sign_notice
from contract.reports import CapacityReport, Sessions
from contract.signatures import BanList, LaunchClaims, SignatureRefusedError, sign_bans, sign_launch
from member import joined
from member.core.membership import Membership, federation_name, shared
from member.engines.capacity import Capacity
from member.engines.federations import Federations
from member.engines.health import Health
from member.joined import Joined, JoinedError
from member.settings import MemberSettings
from servicekit.config import ConfigError, parse
from servicekit.tasks import Tasks
from tests.member.member_harness import launch_claims, order, rig, until
from tests.member.web_harness import member_settings

NORTH, SOUTH = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NOW = 1_700_000_000.0


def joining(key: Ed25519PrivateKey = NORTH, **changes: Any) -> Joined:
    """A federation that was joined."""
    known = Joined(
        member="north-1",
        issuer="https://north.example/",
        report_url="https://north.example/api/v1/reports",
        keys=(key.public_key(),),
        keys_at=NOW,
        report_key=Ed25519PrivateKey.generate(),
        share=0.5,
    )
    return replace(known, **changes)


def south() -> Joined:
    """Another one."""
    url = "https://south.example/"
    return joining(SOUTH, member="south-9", issuer=url, report_url=f"{url}api/v1/reports", share=0.25)


def claims(member: str = "north-1", **changes: Any) -> LaunchClaims:
    """An order."""
    return launch_claims(**{"member": member, "issued_at": NOW, "expires_at": NOW + 60, **changes})


@pytest.fixture
def both(tmp_path: Path) -> Federations:
    """A member of two federations."""
    for known in (joining(), south()):
        joined.keep(tmp_path, known)
    return Federations([], tmp_path, wall=lambda: NOW)


def test_each_federation_orders_in_the_name_that_it_knows(both: Federations) -> None:
    assert both.any
    assert both.require_launch_token
    assert both.verify_launch(sign_launch(claims(), NORTH)).member == "north-1"
    assert both.verify_launch(sign_launch(claims("south-9"), SOUTH)).member == "south-9"
    for key, member, said in (
        (NORTH, "south-9", "for another member"),
        (SOUTH, "north-1", "for another member"),
        (Ed25519PrivateKey.generate(), "north-1", "not by a key that is known"),
    ):
        with pytest.raises(SignatureRefusedError, match=said):
            both.verify_launch(sign_launch(claims(member), key))


@pytest.mark.parametrize("seconds", [10.0, 600.0, 315_360_000.0])
def test_a_gateway_whose_clock_is_off_is_refused(both: Federations, seconds: float) -> None:
    early = claims(issued_at=NOW + seconds, expires_at=NOW + seconds + 60)
    with pytest.raises(SignatureRefusedError, match="from the future"):
        both.verify_launch(sign_launch(early, NORTH))
    late = claims(issued_at=NOW - seconds - 60, expires_at=NOW - seconds)
    with pytest.raises(SignatureRefusedError, match="has expired"):
        both.verify_launch(sign_launch(late, NORTH))


def test_how_far_clocks_may_differ_is_a_setting(tmp_path: Path) -> None:
    joined.keep(tmp_path, joining())
    federations = Federations([], tmp_path, leeway=30.0, wall=lambda: NOW)
    assert federations.verify_launch(sign_launch(claims(issued_at=NOW + 29), NORTH))
    with pytest.raises(SignatureRefusedError, match="from the future"):
        federations.verify_launch(sign_launch(claims(issued_at=NOW + 31), NORTH))


def test_a_launch_token_is_good_once_as_long_as_it_is_good_at_all(tmp_path: Path) -> None:
    joined.keep(tmp_path, joining())
    clock = [NOW]
    federations = Federations([], tmp_path, wall=lambda: clock[0])
    token = sign_launch(claims(), NORTH)
    federations.verify_launch(token)
    for clock[0] in (NOW, NOW + 30, NOW + 67):
        with pytest.raises(SignatureRefusedError, match="used before"):
            federations.verify_launch(token)
    clock[0] = NOW + 70
    with pytest.raises(SignatureRefusedError, match="has expired"):
        federations.verify_launch(token)


def test_a_launch_token_that_an_earlier_process_may_have_taken_is_refused(tmp_path: Path) -> None:
    joined.keep(tmp_path, joining())
    clock = [NOW]
    token = sign_launch(claims(), NORTH)
    Federations([], tmp_path, wall=lambda: clock[0]).verify_launch(token)
    clock[0] = NOW + 20
    restarted = Federations([], tmp_path, wall=lambda: clock[0])
    with pytest.raises(SignatureRefusedError, match="older than this process"):
        restarted.verify_launch(token)
    # Of a gateway whose clock is a little behind.
    assert restarted.verify_launch(sign_launch(claims(issued_at=NOW + 13), NORTH))


def test_a_launch_token_that_is_written_differently_is_the_same_token(both: Federations) -> None:
    token = sign_launch(claims(), NORTH)
    both.verify_launch(token)
    # Base64 may be read with padding, with odd last bits and with other characters between (RFC 4648, section 3).
    with pytest.raises(SignatureRefusedError, match="used before"):
        both.verify_launch(f"{token}==")
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for same in (token[:-1] + digits[digits.index(token[-1]) ^ 1], f"{token}!!!!", f"{token[:-2]}!!!!{token[-2:]}"):
        with pytest.raises(SignatureRefusedError):
            both.verify_launch(same)


def test_no_federation_launches_in_the_name_of_another(both: Federations) -> None:
    assert both.verify_launch(sign_launch(claims(launch_host="https://north.example/"), NORTH))
    with pytest.raises(SignatureRefusedError, match="in the name of another federation"):
        both.verify_launch(sign_launch(claims(launch_host="https://south.example/"), NORTH))


def test_no_federation_bans_in_the_name_of_another(both: Federations) -> None:
    told = both.verify_bans(sign_bans(BanList("north-1", "https://north.example/", NOW, ()), NORTH))
    assert told.issuer == "https://north.example/"
    with pytest.raises(SignatureRefusedError, match="another federation"):
        both.verify_bans(sign_bans(BanList("north-1", "https://south.example/", NOW, ()), NORTH))


def notice(key: Ed25519PrivateKey, *keys: Ed25519PrivateKey, at: float = NOW + 1, member: str = "north-1") -> str:
    """What the gateway in the north tells of its keys."""
    public = tuple(each.public_key() for each in keys)
    return sign_notice(Notice(member, "https://north.example/", public, "active", at), key)


def test_new_keys_are_learned_from_notices_that_the_old_one_has_signed(tmp_path: Path) -> None:
    path = joined.keep(tmp_path, joining())
    federations = Federations([], tmp_path, wall=lambda: NOW)
    new, strange = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

    def known() -> set[Ed25519PrivateKey]:
        good = set()
        for key in (NORTH, new, strange):
            try:
                federations.verify_launch(sign_launch(claims(), key))
            except SignatureRefusedError:
                continue
            good.add(key)
        return good

    for refused in (
        notice(strange, strange),
        notice(NORTH, NORTH, new, member="south-9"),
        notice(NORTH, NORTH, new, at=NOW - 1),
        notice(NORTH, NORTH, new, at=NOW + 10),
        notice(NORTH, NORTH, new, at=NOW + 315_360_000),
        "rubbish",
    ):
        federations.heard("north.example", refused)
        assert known() == {NORTH}
    federations.heard("north.example", notice(NORTH, NORTH, new))
    assert known() == {NORTH, new}
    federations.heard("north.example", notice(new, new, at=NOW + 2))
    assert known() == {new}
    # What comes late, and names the old key again, does not bring it back.
    federations.heard("north.example", notice(new, NORTH, new, at=NOW + 1))
    assert known() == {new}
    # It is kept, for this member's eyes only.
    federations = Federations([], tmp_path, wall=lambda: NOW)
    assert known() == {new}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_is_joined_and_left_while_the_member_runs_is_seen(tmp_path: Path) -> None:
    tasks, told = Tasks(), list[str]()

    class Reports:
        """Reports of which there is one."""

        def __init__(self, federation: str) -> None:
            self._federation = federation

        async def run(self) -> None:
            """Report."""
            told.append(self._federation)
            try:
                await asyncio.sleep(3600)
            finally:
                told.remove(self._federation)

    configured = joining(member="member-1", share=0.25).membership(3.0, 8.0)
    federations = Federations([replace(configured, federation="set")], tmp_path)
    federations.start(tasks, Reports)
    await until(lambda: told == ["set"])
    joined.keep(tmp_path, south())
    await until(lambda: sorted(told) == ["set", "south.example"])
    assert federations.get("south.example")
    joined.forget(tmp_path, south())
    await until(lambda: told == ["set"])
    assert federations.get("south.example") is None
    await tasks.close()


def test_a_file_that_is_broken_is_told_and_the_others_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    joined.keep(tmp_path, joining())
    for name, text in (("a", "{"), ("b", '{"schema": 1}'), ("c", '{"schema": 2}'), ("d", "\udcff")):
        (joined.directory(tmp_path) / f"{name}.json").write_bytes(text.encode(errors="surrogateescape"))
    federations = Federations([], tmp_path)
    assert [item.federation for item in federations.memberships] == ["north.example"]
    assert all(f"{name}.json" in caplog.text for name in "abcd")
    (tmp_path / "file").write_text("")
    with pytest.raises(JoinedError, match="cannot write"):
        joined.keep(tmp_path / "file", joining())


@given(
    limit=st.none() | st.integers(0, 1000),
    free=st.none() | st.integers(0, 1000),
    own=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    share=st.floats(0.01, 1.0),
)
def test_a_federation_is_told_its_share_and_never_more_than_there_is(
    limit: int | None, free: int | None, own: tuple[int, int], share: float
) -> None:
    sessions = Sessions(running=own[0] + 3, pending=own[1], limit=limit, free=free)
    report = CapacityReport("name", "boot", 1, NOW, "http://member/", sessions=sessions)
    membership = joining(share=share).membership(3.0, 8.0)
    told = shared(report, membership, Sessions(*own), {"repo": 1})
    assert told.member == "north-1"
    if share >= 1:
        assert told.sessions == sessions
        return
    assert (told.sessions.running, told.sessions.pending) == own
    if told.sessions.free is not None and free is not None:
        assert told.sessions.free <= free
    if limit is not None:
        assert told.sessions.limit is not None
        assert told.sessions.limit <= max(1, limit * share + 1e-6)
        assert told.sessions.free is not None
        assert told.sessions.free <= told.sessions.limit


def test_who_is_about_to_leave_asks_for_no_more_launches() -> None:
    report = CapacityReport("name", "boot", 1, NOW, "http://member/")
    membership = joining(leaving=True, share=1.0).membership(3.0, 8.0)
    assert shared(report, membership, Sessions(), {}).draining


def test_names_of_federations_are_names_of_files() -> None:
    urls = ("https://binder.example/", "http://127.0.0.1:8585/", "https://x.example/a/b/", "http://[::1]:8/")
    assert [federation_name(url) for url in urls] == ["binder.example", "127.0.0.1-8585", "x.example-a-b", "--1-8"]


SETTINGS = """
schema: 1
name: member-1
listen: {port: 9001}
public_url: http://127.0.0.1:9001/
data_dir: /tmp/nowhere
hub: {url: "http://127.0.0.1:9/", public_url: "http://127.0.0.1:9/", api_token: t}
"""


def federation(url: str, share: float) -> str:
    """One of several in the settings."""
    keys = "launch_keys_files: [/k], report_key: k"
    return f"  - {{report_url: '{url}api/v1/reports', {keys}, share: {share}, member: m}}\n"


def test_several_federations_stand_in_the_settings_with_their_shares() -> None:
    good = federation("https://a.example/", 0.5) + federation("https://b.example/", 0.5)
    settings = parse(MemberSettings, f"{SETTINGS}federations:\n{good}", "test", {})
    assert [name for name, _ in settings.all_federations] == ["federations[0]", "federations[1]"]
    for text, said in (
        (federation("https://a.example/", 0.6) + federation("https://b.example/", 0.5), "come to 1.1"),
        (federation("https://a.example/", 0.5) * 2, "a.example is there more than once"),
        (good + "federation: {report_url: 'https://c/', launch_keys_files: [/k], report_key: k}\n", "excludes"),
        (federation("https://a.example/", 0), "federations[0].share"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse(MemberSettings, f"{SETTINGS}federations:\n{text}", "test", {})
        assert said in str(caught.value)


def test_a_membership_of_the_settings_keeps_the_keys_of_the_settings(tmp_path: Path) -> None:
    configured: Membership = replace(joining().membership(3.0, 8.0), federation="north.example")
    federations = Federations([configured], tmp_path, wall=time.time)
    federations.heard("north.example", notice(NORTH, Ed25519PrivateKey.generate()))
    assert federations.memberships == (configured,)


async def test_each_federation_hears_of_its_own_sessions_and_repositories(tmp_path: Path) -> None:
    async with rig() as engines:
        capacity = Capacity(
            member_settings(tmp_path, sessions={"limit": 10}),
            hub=engines.client,
            health=Health(engines.client, engines.builder),
            builder=engines.builder,
            builds=engines.builds,
            launches=engines.launches,
            versions=dict,
            prefixes=(),
        )
        for name, host in (("a", "north"), ("b", "north"), ("c", "south")):
            events = await engines.launch(order(name, launch_host=f"https://{host}.example/"))
            assert events[-1].phase is Phase.READY
        north = await capacity.report_to(joining().membership(3.0, 8.0))
        of_south = await capacity.report_to(south().membership(3.0, 8.0))
        whole = await capacity.report_to(joining(share=1.0).membership(3.0, 8.0))
    assert (north.member, north.sessions.running, north.sessions.limit) == ("north-1", 2, 5)
    # Less where this machine is full otherwise.
    assert north.sessions.free is not None
    assert north.sessions.free <= 3
    assert (of_south.member, of_south.sessions.running, of_south.sessions.limit) == ("south-9", 1, 2)
    assert sorted(north.sessions_by_repo) == ["git.example/org/a", "git.example/org/b"]
    assert list(of_south.sessions_by_repo) == ["git.example/org/c"]
    assert (whole.sessions.running, whole.sessions.limit, len(whole.sessions_by_repo)) == (3, 10, 3)
    assert north.seq < of_south.seq < whole.seq
