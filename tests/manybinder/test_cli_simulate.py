"""`manybinder simulate` as a process."""

import json
from pathlib import Path

import pytest

from gateway.core.policies import POLICIES
from tests.manybinder.test_cli_client import manybinder

TRACE = "minute,repo,spec,demo\n" + "".join(f"{n},{n % 7},{n % 7},0\n" for n in range(200))


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return str(path)


async def test_a_table_compares_all_policies(trace: str) -> None:
    result = await manybinder("simulate", "--trace", trace, "--no-outages")
    assert (result.code, result.err) == (0, "")
    heading, *rows = result.out.splitlines()
    assert heading.split()[:2] == ["POLICY", "LAUNCHES"]
    assert [row.split()[:2] for row in rows] == [["random", "200"], ["rendezvous", "200"], ["tiered", "200"]]


async def test_json_is_a_policy_a_line_and_the_same_for_the_same_seed(trace: str) -> None:
    arguments = ["simulate", "--trace", trace, "--policy", "tiered", "--policy", "random", "--json", "--seed", "3"]
    arguments += ["--members", "20,5", "--registries", "shared", "--load", "2"]
    result = await manybinder(*arguments)
    assert (result.code, result.err) == (0, "")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["policy"] for line in lines] == ["tiered", "random"]
    for line in lines:
        assert line["launches"] == 200
        assert set(line["most_sessions"]) == {"member-1", "member-2"}
        assert line["most_sessions"]["member-2"] <= 5
    assert (await manybinder(*arguments)).out == result.out


async def test_without_a_trace_launches_are_generated() -> None:
    result = await manybinder("simulate", "--days", "0.05", "--policy", "tiered", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["launches"] > 50


async def test_every_policy_can_be_named() -> None:
    assert f"[{'|'.join(sorted(POLICIES))}]" in (await manybinder("simulate", "--help")).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trace", "no-such-file.csv"], "no-such-file.csv cannot be read"),
        (["--trace", "."], "is a directory"),
        (["--policy", "best"], "best"),
        (["--members", "300,many"], "is not a list of numbers"),
        (["--members", ""], "is not a list of numbers"),
        (["--members", "0"], "at least one session"),
        (["--members", "10,-1"], "at least one session"),
        (["--days", "0"], "--days"),
        (["--days", "nan"], "--days"),
        (["--load", "-1"], "--load"),
        (["--load", "nan"], "--load"),
        (["--seed", "x"], "--seed"),
        (["--registries", "both"], "--registries"),
        (["--days", "0.0000001"], "no launches"),
    ],
)
async def test_bad_input_is_named(arguments: list[str], said: str) -> None:
    result = await manybinder("simulate", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


async def test_a_trace_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("minute,repo,spec,demo\n1,2,three,0\n")
    result = await manybinder("simulate", "--trace", str(path))
    assert (result.code, result.out) == (2, "")
    assert "line 2 is not understood" in result.err
