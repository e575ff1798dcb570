"""Bans: what they hit, and how they travel."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.bans import Ban, BanError, dump_bans, find_ban, make_ban, parse_bans, unmapped
from contract.repos import RepoKey, repo_key

REPO = repo_key("https://github.com/Org/Repo.git")
SPEC = "gh/Org/Repo/main"

NETWORKS = st.builds(
    lambda address, bits: ipaddress.ip_network((address, min(bits, address.max_prefixlen)), strict=False),
    st.ip_addresses(),
    st.integers(0, 128),
)
BANS = st.one_of(
    st.builds(lambda network: make_ban("network", str(network)), NETWORKS),
    st.builds(lambda name: make_ban("owner", f"github.com/{name}"), st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)),
    st.builds(lambda name: make_ban("spec", f"gh/{name}/.*", "why", 5.0), st.from_regex("[a-z]{1,9}", fullmatch=True)),
)


@given(st.lists(BANS))
def test_bans_arrive_as_they_were_sent(bans: list[Ban]) -> None:
    assert parse_bans(dump_bans(bans)) == tuple(bans)


@given(NETWORKS, st.ip_addresses())
def test_a_network_is_hit_by_its_addresses_however_they_are_written(network: Any, address: Any) -> None:
    ban = make_ban("network", str(network))
    network = unmapped(network)
    inside = address.version == network.version and address in network
    if address.version == 6 and address.ipv4_mapped is not None:
        inside = network.version == 4 and address.ipv4_mapped in network
    assert ban.hits("", RepoKey(""), str(address)) == inside
    if address.version == 4:
        assert ban.hits("", RepoKey(""), f"::ffff:{address}") == inside
    # A member that knows the network of a visitor only ends what is surely meant.
    assert ban.hits("", RepoKey(""), str(network))
    assert not ban.hits("", RepoKey(""), "")
    assert not ban.hits("", RepoKey(""), "somebody")


@pytest.mark.parametrize(
    ("kind", "value", "hit"),
    [
        ("owner", "github.com/org", True),
        ("owner", "https://GitHub.com/Org/", True),
        ("owner", "git@github.com:org/repo.git", True),
        ("owner", "github.com/or", False),
        ("spec", "gh/org/repo/main", True),
        ("owner", "github.com/org/repo2", False),
        ("spec", "gh/org/", True),
        ("spec", ".*/repo/", True),
        ("spec", "org/", False),
    ],
)
def test_owners_and_specs_are_hit_in_any_spelling(kind: str, value: str, hit: bool) -> None:
    assert make_ban(kind, value).hits(SPEC, REPO, "") == hit


@pytest.mark.parametrize(
    ("kind", "value", "spec", "url"),
    [
        ("spec", "gh/miner/repo/.*", "gh/%6diner/repo/HEAD", "https://github.com/miner/repo"),
        ("spec", "gh/miner/repo/.*", "gh/miner/repo.git/HEAD", "https://github.com/miner/repo.git"),
        ("owner", "codeberg.org/miner", "git/x", "https://codeberg.org/Miner/repo"),
        ("owner", "Git.Example.org/Miner", "git/x", "https://git.example.org/miner/repo"),
        ("owner", "github.com/miner", "git/x", "https://github.com/x/../miner/repo"),
        ("owner", "github.com/miner", "git/x", "https://github.com/.//%2e/miner/repo"),
    ],
)
def test_no_spelling_gets_past_a_ban(kind: str, value: str, spec: str, url: str) -> None:
    assert make_ban(kind, value).hits(spec, repo_key(url), "")


@pytest.mark.parametrize(("kind", "value"), [("owner", "git.example.org/"), ("owner", "/org"), ("network", "x")])
def test_what_could_hit_nobody_is_refused(kind: str, value: str) -> None:
    with pytest.raises(BanError):
        make_ban(kind, value)


def test_a_network_of_mapped_addresses_is_one_of_ipv4() -> None:
    assert make_ban("network", "::ffff:192.0.2.0/120").hits("", RepoKey(""), "192.0.2.7")


def test_a_ban_holds_until_its_end() -> None:
    bans = [make_ban("owner", "github.com/org", until=10.0), make_ban("owner", "github.com/other")]
    assert find_ban(bans, SPEC, REPO, "", 9.9) == bans[0]
    assert find_ban(bans, SPEC, REPO, "", 10.0) is None


@pytest.mark.parametrize(
    ("wire", "path"),
    [
        ({}, "bans"),
        ([1], "bans[0]"),
        ([{"kind": "spec", "value": "("}], "bans[0].value"),
        ([{"kind": "spec"}], "bans[0]"),
        ([{"kind": "network", "value": "10.0.0.0/99"}], "bans[0].value"),
        ([{"kind": "owner", "value": "github.com/o", "until": True}], "bans[0].until"),
        ([{"kind": "owner", "value": "github.com/o", "reason": "x" * 501}], "bans[0].reason"),
        ([{"kind": "owner", "value": ""}], "bans[0].value"),
        ([{"kind": "owner", "value": "github.com/o"}] * 5001, "bans"),
    ],
)
def test_what_is_no_list_of_bans_is_told_with_its_path(wire: Any, path: str) -> None:
    with pytest.raises(BanError) as caught:
        parse_bans(wire)
    assert caught.value.path == path


def test_a_ban_of_a_kind_that_is_not_known_here_is_passed_over() -> None:
    known = {"kind": "owner", "value": "github.com/o", "reason": "", "until": None, "since": 3}
    assert len(parse_bans([{"kind": "planet", "value": "Mars"}, known])) == 1
