"""Any BinderHub as a member: what the client makes of upstream's answers, flaws included, and how it is let in."""

import asyncio
from contextlib import aclosing
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Failure, Phase
from gateway.clients.binderhub import secret_bytes
from gateway.clients.faults import Fault, MemberFault
from gateway.clients.orders import LaunchOrder
from gateway.core.fleet import Member
from tests.fakes.binderhub import COMMIT, POD_FAILED, SECRET, SPEC
from tests.gateway.binderhubkit import PUBLIC_URL, Pair, pair

__all__ = ["pair"]

ORDER = LaunchOrder(SPEC, "0" * 32, "token")


# Launches


@pytest.mark.parametrize("found", [True, False])
async def test_a_launch_with_upstreams_own_fields(pair: Pair, found: bool) -> None:
    pair.hub.knobs.found = found
    events = await pair.launch()
    assert [item.phase for item in events][-3:] == [Phase.LAUNCHING, Phase.LAUNCHING, Phase.READY]
    assert events[-1].fields["url"] == f"{pair.hub.url}user/org-repo-abcdefgh/"
    assert events[-1].fields["token"] == "notebook-token"
    assert events[-1].fields["image"] == "image:tag"
    assert events[-1].failure is None
    if not found:
        assert events[3].fields["progress"] == {"layer": 3}
    # Upstream keeps the stream of a fresh build open for a minute: the client does not.
    async with asyncio.timeout(5):
        while pair.hub.open_streams:
            await asyncio.sleep(0.01)


async def test_the_launch_token_is_for_members_of_manybinder_alone(pair: Pair) -> None:
    await pair.launch()
    assert "Authorization" not in pair.hub.headers[0]
    assert pair.hub.headers[0]["Accept"] == "text/event-stream"


async def test_phases_in_other_letters_or_none(pair: Pair) -> None:
    pair.hub.knobs.events = [
        {"phase": "Building", "message": "one"},
        {"message": "no phase"},
        "no JSON",
        {"phase": "Succeed", "message": "unknown", "failure": None},
        {"phase": "FAILED", "message": "The command returned a non-zero code: 1"},
    ]
    events = await pair.launch()
    assert [item.phase.value for item in events] == ["building", "unknown", "unknown", "unknown", "failed"]
    assert events[2].message == "no JSON\n"
    assert events[-1].failure == Failure.USER


async def test_repo2dockers_old_word_for_a_failure(pair: Pair) -> None:
    pair.hub.knobs.events = [{"phase": "building"}, {"phase": "Failure", "message": "broken"}]
    final = (await pair.launch())[-1]
    assert (final.phase, final.failure, final.message) == (Phase.FAILED, Failure.USER, "broken")


async def test_comments_keep_a_stream_alive_and_are_no_first_event(pair: Pair) -> None:
    pair.hub.knobs.keepalives = 5
    assert (await pair.launch())[-1].phase == Phase.READY
    pair.hub.knobs.keepalives = 100
    fault = await pair.fault()
    assert (fault.fault, str(fault)) == (Fault.HANG, "did not begin within 2 s")


async def test_a_failed_build_whose_stream_never_closes(pair: Pair) -> None:
    pair.hub.knobs.fails = "building", {"phase": "failed", "message": "Error during build: pip\n"}
    async with asyncio.timeout(5):
        final = (await pair.launch())[-1]
    assert (final.failure, final.message) == (Failure.USER, "Error during build: pip\n")


async def test_a_second_failure_is_not_heard(pair: Pair) -> None:
    pair.hub.knobs.quota_after_build = True
    events = await pair.launch()
    assert [item.phase for item in events].count(Phase.FAILED) == 1
    assert events[-1].failure == Failure.REFUSED
    assert events[-1].fields["retry_after_s"] == 30


async def test_the_reason_of_a_failed_build_may_come_after_the_pods_failure(pair: Pair) -> None:
    pair.hub.knobs.fails = "building", POD_FAILED
    pair.hub.knobs.reason_late = {"phase": "failed", "message": "No such package\n"}
    pair.hub.gate.set()
    events = await pair.launch()
    assert [item.phase.value for item in events[-2:]] == ["building", "failed"]
    assert (events[-1].failure, events[-1].message) == (Failure.USER, "No such package\n")


@pytest.mark.parametrize("closes", [True, False])
async def test_a_build_pod_that_fails_without_a_word(pair: Pair, closes: bool) -> None:
    pair.hub.knobs.fails = "building", POD_FAILED
    pair.hub.knobs.never_closes = not closes
    final = (await pair.launch())[-1]
    assert final.failure == Failure.MEMBER
    assert final.message == "The build has ended there without a word about why.\n"


async def test_what_says_whose_a_failure_is_stays_as_it_is(pair: Pair) -> None:
    last = {"phase": "failed", "message": "x", "failure": "gateway", "retry_after_s": 7}
    pair.hub.knobs.events = [last]
    final = (await pair.launch())[-1]
    assert (final.failure, final.fields["retry_after_s"]) == (Failure.GATEWAY, 7)
    pair.hub.knobs.events = [{**last, "failure": "nobody"}]
    assert (await pair.launch())[-1].failure == Failure.MEMBER


@pytest.mark.parametrize("events", [[], [{"phase": "building", "message": "one"}]])
async def test_an_end_without_a_final_event(pair: Pair, events: list[Any]) -> None:
    pair.hub.knobs.events = events
    assert (await pair.fault()).fault == Fault.CUT


@pytest.mark.parametrize(
    ("status", "fault", "retry_after_s"),
    [(403, Fault.STATUS, None), (429, Fault.REFUSED, 30), (307, Fault.STATUS, None), (502, Fault.STATUS, None)],
)
async def test_http_errors_and_redirects(pair: Pair, status: int, fault: Fault, retry_after_s: float | None) -> None:
    pair.hub.knobs.build_status = status
    caught = await pair.fault()
    assert (caught.fault, caught.retry_after_s) == (fault, retry_after_s)
    assert "/hub/login" not in pair.hub.asked


async def test_a_page_instead_of_a_stream(pair: Pair) -> None:
    # As at any address that upstream does not know.
    member = Member("m", f"{pair.hub.url}elsewhere/", kind="binderhub")
    with pytest.raises(MemberFault) as caught:
        await anext(pair.client().build(member, ORDER))
    assert caught.value.fault == Fault.ANSWER


async def test_nobody_there(pair: Pair) -> None:
    await pair.hub.stop()
    for secrets in ({}, {"m": SECRET}):
        pair.secrets = dict(secrets)
        assert (await pair.fault()).fault == Fault.CONNECT
    assert not (await pair.client().probe(pair.member, 1)).reachable
    [(what, serious)] = await pair.findings()
    assert (what, serious) == ("It could not be reached: connection refused.", True)


async def test_a_hub_that_hangs(pair: Pair) -> None:
    pair.secrets["m"] = SECRET
    pair.hub.knobs.hang = True
    assert (await pair.fault()).fault == Fault.HANG


async def test_leaving_a_stream_closes_the_connection_and_cancel_does_nothing(pair: Pair) -> None:
    pair.hub.knobs.fails = "building", {"phase": "building", "message": "goes on"}
    client = pair.client()
    async with aclosing(client.build(pair.member, ORDER)) as stream:
        assert (await anext(stream)).event.phase == Phase.WAITING
        assert pair.hub.open_streams == 1
    asked = len(pair.hub.asked)
    await client.cancel(pair.member, ORDER.launch_id)
    assert len(pair.hub.asked) == asked
    async with asyncio.timeout(5):
        while pair.hub.open_streams:
            await asyncio.sleep(0.01)


# Build tokens


@pytest.mark.parametrize("secret", [SECRET, bytes.fromhex(SECRET), f" {SECRET}\n"])
@pytest.mark.parametrize(
    "spec", [SPEC, f"git/https%3A%2F%2Fgit.example%2Forg%2Frepo/{COMMIT}", "gh/%C3%A4%20b/c%2Fd/e/f"]
)
@pytest.mark.parametrize("public_url", ["", PUBLIC_URL, "http://Gateway.example:80/base/"])
async def test_a_signed_token_frees_from_the_rate_limit(
    pair: Pair, secret: str | bytes, spec: str, public_url: str
) -> None:
    pair.secrets["m"] = secret
    pair.hub.knobs.rate_limit = 1
    pair.hub.knobs.found = True
    for _ in range(3):
        assert (await pair.launch(spec, pair.client(public_url)))[-1].phase == Phase.READY
    assert pair.hub.with_token == [True] * 3
    assert not any(path.startswith("/v2/") for path in pair.hub.asked)


async def test_the_token_says_what_upstreams_own_would(pair: Pair) -> None:
    pair.secrets["m"] = SECRET
    await pair.launch(client=pair.client(wall=lambda: 4_000_000_000.7))
    claims = jwt.decode(pair.hub.tokens[-1], options={"verify_signature": False})
    assert claims == {"exp": 4_000_000_300, "aud": SPEC, "origin": "binder.example.org"}
    assert pair.hub.headers[-1]["Origin"] == "https://binder.example.org"


async def test_a_secret_that_is_text(pair: Pair) -> None:
    text = "no hexadecimal number, and long enough"
    pair.secrets["m"], pair.hub.knobs.secret = text, text.encode().hex()
    assert (await pair.launch())[-1].phase == Phase.READY


async def test_a_wrong_secret_is_nobodys_refusal(pair: Pair) -> None:
    pair.secrets["m"] = "00" * 32
    final = (await pair.launch())[-1]
    assert (final.failure, final.message) == (Failure.MEMBER, "Invalid build token\n")
    # Secrets are looked up anew each time: operators change them while the gateway runs.
    pair.secrets["m"] = SECRET
    assert (await pair.launch())[-1].phase == Phase.READY


@pytest.mark.parametrize("old_page", [True, False])
@pytest.mark.parametrize("public_url", ["", PUBLIC_URL])
async def test_a_token_from_a_page_frees_from_the_rate_limit(pair: Pair, old_page: bool, public_url: str) -> None:
    pair.hub.knobs.rate_limit = 1
    pair.hub.knobs.old_page = old_page
    for _ in range(3):
        assert (await pair.launch(client=pair.client(public_url)))[-1].phase == Phase.READY
    assert pair.hub.with_token == [True] * 3
    assert pair.hub.asked[:2] == [f"/v2/{SPEC}", f"/build/{SPEC}"]


async def test_without_any_token_the_rate_limit_counts(pair: Pair) -> None:
    pair.hub.knobs.page_token = False
    pair.hub.knobs.rate_limit = 2
    for _ in range(2):
        assert (await pair.launch())[-1].phase == Phase.READY
    final = (await pair.launch())[-1]
    assert (final.failure, final.fields["retry_after_s"]) == (Failure.REFUSED, 3600)
    assert pair.hub.with_token == [False, False]


async def test_a_page_that_hangs_or_asks_for_a_login_is_gone_without(pair: Pair) -> None:
    pair.hub.knobs.page_hang = True
    assert (await pair.launch())[-1].phase == Phase.READY
    pair.hub.knobs.page_hang, pair.hub.knobs.login = False, True
    final = (await pair.launch())[-1]
    assert (final.failure, final.message) == (Failure.REFUSED, "Forbidden\n")


@given(st.binary(max_size=70))
def test_secrets_are_read_as_upstream_reads_them(secret: bytes) -> None:
    assert secret_bytes(secret) == secret_bytes(secret.hex()) == secret_bytes(secret.hex().upper() + "\n") == secret
    assert secret_bytes(f"x{secret.hex()}") == f"x{secret.hex()}".encode()
