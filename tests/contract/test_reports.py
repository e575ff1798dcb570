"""Capacity reports: what is believed, and what is refused with the path of the field at fault."""

import contextlib
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from contract.reports import (
    MAX_IMAGES,
    Builds,
    CapacityReport,
    Check,
    Image,
    ReportError,
    Sessions,
    Usage,
    images_digest,
    parse_report,
)
from contract.repos import RepoKey
from contract.signatures import sign_report, verify_report

REPORT = CapacityReport(
    member="a",
    boot_id="b",
    seq=3,
    sent_at=1700000000.5,
    public_url="https://a.example/",
    sessions=Sessions(running=2, pending=1, limit=10, free=7),
    sessions_by_repo={"github.com/o/r": 2},
    builds=Builds(1, 2, 3),
    memory_bytes=Usage(1.0, 2.0),
    images=(Image(RepoKey("github.com/o/r"), "c" * 40), Image(RepoKey("x"), "d", "registry")),
    images_digest="e",
    launches_seen=("f",),
    session_owners=("g",),
    checks=(Check("Hub", True), Check("Builder", False, "no")),
    labels={"cloud": "x"},
    providers=("gh", "git"),
    builder="process",
    confined=True,
    draining=True,
    versions={"manybinder": "1"},
)


def _wire() -> dict[str, Any]:
    wire: dict[str, Any] = json.loads(json.dumps(REPORT.to_wire()))
    return wire


def test_a_report_comes_back_as_it_was() -> None:
    assert parse_report(_wire()) == REPORT


def test_what_a_newer_member_adds_is_passed_over() -> None:
    assert parse_report({**_wire(), "schema": 2, "mood": "fine", "sessions": {**_wire()["sessions"], "x": 1}}).seq == 3


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"schema": 0}, "schema"),
        ({"member": ""}, "member"),
        ({"member": 3}, "member"),
        ({"seq": -1}, "seq"),
        ({"seq": True}, "seq"),
        ({"sent_at": math.nan}, "sent_at"),
        ({"sent_at": math.inf}, "sent_at"),
        ({"sent_at": "now"}, "sent_at"),
        ({"sent_at": 10**400}, "sent_at"),
        ({"seq": 10**400}, "seq"),
        ({"sessions": {"running": -1}}, "sessions.running"),
        ({"sessions": {"limit": 1, "free": 2}}, "sessions.free"),
        ({"sessions": []}, "sessions"),
        ({"memory_bytes": {"used": -1}}, "memory_bytes.used"),
        ({"cpu": {"used": math.nan}}, "cpu.used"),
        ({"images": [{"repo": "x"}]}, "images[0].commit"),
        ({"images": [3]}, "images[0]"),
        ({"images": [{"repo": "x", "commit": "c"}] * (MAX_IMAGES + 1)}, "images"),
        ({"checks": [{"service": "x", "ok": 1}]}, "checks[0].ok"),
        ({"sessions_by_repo": {"x": -3}}, "sessions_by_repo.x"),
        ({"providers": [1]}, "providers[0]"),
        ({"labels": {"x": 1}}, "labels.x"),
        ({"draining": "no"}, "draining"),
        # Half of a pair (a lone surrogate), which JSON can bear and UTF-8 cannot.
        ({"builder": "\ud800"}, "builder"),
        ({"versions": {"x": "\ud800"}}, "versions.x"),
        ({"labels": {"\ud800": "x"}}, "labels.a key"),
        ({"labels": {"x" * 5000: "y"}}, "labels.a key"),
        ({"providers": ["\ud800"]}, "providers[0]"),
        ({"versions": {str(n): "1" for n in range(101)}}, "versions"),
    ],
)
def test_what_is_absurd_is_refused_by_its_path(change: dict[str, Any], path: str) -> None:
    with pytest.raises(ReportError) as caught:
        parse_report({**_wire(), **change})
    assert caught.value.path == path


@given(
    st.dictionaries(
        st.sampled_from(list(_wire())), st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists)
    )
)
def test_no_report_crashes_the_reader(change: dict[str, Any]) -> None:
    with contextlib.suppress(ReportError):
        assert parse_report({**_wire(), **change}).seq >= 0


TEXTS = st.text(min_size=1, max_size=5) | st.just("x" * 5000)


@given(
    images=st.lists(st.builds(Image, TEXTS.map(RepoKey), st.just("c")), max_size=4),
    by_repo=st.dictionaries(TEXTS, st.integers(0, 9), max_size=4),
    checks=st.lists(st.builds(Check, st.just("Hub"), st.booleans(), TEXTS), max_size=4),
)
def test_no_address_and_no_message_costs_a_member_its_report(
    images: list[Image], by_repo: dict[str, int], checks: list[Check]
) -> None:
    report = replace(REPORT, images=tuple(images), sessions_by_repo=by_repo, checks=tuple(checks))
    told = parse_report(report.to_wire())
    assert told == parse_report(json.loads(json.dumps(report.to_wire())))
    assert told.images == tuple(image for image in images if len(image.repo) < 100)
    assert told.sessions_by_repo == {repo: count for repo, count in by_repo.items() if len(repo) < 100}
    assert [check.ok for check in told.checks] == [check.ok for check in checks]


def test_a_report_fits_into_a_request_whatever_visitors_launch() -> None:
    names = [f"git.example/{n}-".ljust(length, "x") for n in range(500) for length in (400, 2000)]
    images = tuple(Image(RepoKey(name), "c" * 40) for name in names)
    checks = tuple(Check("Hub", False, "x" * 5000) for _ in range(200))
    by_repo = dict.fromkeys(names, 1)
    big = replace(REPORT, images=images, sessions_by_repo=by_repo, checks=checks, launches_seen=("f" * 32,) * 2000)
    key = Ed25519PrivateKey.generate()
    token = sign_report(big.to_wire(), key)
    assert len(token) < 1024**2  # what aiohttp takes for a request's body
    told = parse_report(verify_report(token, [key.public_key()]))
    assert len(told.images) == len(told.sessions_by_repo) == MAX_IMAGES


def test_lists_are_capped_and_the_digest_covers_all() -> None:
    images = tuple(Image(RepoKey(f"r{n}"), "c") for n in range(MAX_IMAGES + 5))
    big = CapacityReport("a", "b", 1, 1.0, "", images=images, sessions_by_repo={f"r{n}": n for n in range(1000)})
    wire = json.loads(json.dumps(big.to_wire()))
    assert len(wire["images"]) == MAX_IMAGES
    assert max(wire["sessions_by_repo"].values()) == 999
    parse_report(wire)
    assert images_digest(images) == images_digest(images[::-1]) != images_digest(images[1:])
