"""What the launch page reads from the log of a failed build: which line is at fault; whatever a repository prints."""

from typing import Any

from tests.node import computed

#: Times of the least of a few runs: others have the machine, too.
TIMED = """given.map((log) => Math.min(...[1, 2, 3].map(() => {
  const begun = performance.now();
  faultIn(log);
  return performance.now() - begun;
})))"""


def faults_in(logs: list[str]) -> list[dict[str, Any] | None]:
    """What the page's script finds in each."""
    found: list[dict[str, Any] | None] = computed("launch-failure.js", "faultIn", "given.map(faultIn)", logs)
    return found


def test_the_line_at_fault_is_found_in_what_tools_print() -> None:
    logs = [
        "ERROR: No matching distribution found for nunpy==9 (from -r requirements.txt (line 3))\n",
        "error: Couldn't parse requirement in `requirements.txt` at position 0\n  Caused by: no\n\nfoo ===\n    ^^^\n",
        "PackagesNotFoundError: These are not available from current channels:\n\n  - numpyy=9\n\nCurrent channels:\n",
        "E: Unable to locate package gti\n",
        "All is well.\n",
    ]
    found = [fault and (fault["file"], fault["number"], fault["text"]) for fault in faults_in(logs)]
    assert found == [
        ("requirements.txt", "3", "nunpy==9"),
        ("requirements.txt", "", "foo ==="),
        ("environment.yml", "", "numpyy=9"),
        ("apt.txt", "", "gti"),
        None,
    ]


UNSATISFIABLE = "we can conclude that your requirements are unsatisfiable."


def test_the_whole_requirement_is_taken_from_what_uv_says() -> None:
    logs = {
        f"Because nope was not found in the package registry and you require nope==9.9, {UNSATISFIABLE}": "nope==9.9",
        f"Because nope was not found in the package registry and you require\n  x>=1,<2, {UNSATISFIABLE}": "x>=1,<2",
        f"Because nope was not found in the package registry and you require nope, {UNSATISFIABLE}": "nope",
        "Because nope was not found in the package registry and b==1 depends on nope, we can conclude": "nope",
        f"Because there is no version of six==0.1 and you require six==0.1, {UNSATISFIABLE}": "six==0.1",
        f"Because only numpy<=2.5 is available and you require numpy>5,<6, {UNSATISFIABLE}": "numpy>5,<6",
        "Because only the following versions of nope[x] are available:\n    nope[x]<1\n    nope[x]>=2\n"
        f"and you require nope[x]>=1,<2, {UNSATISFIABLE}": "nope[x]>=1,<2",
    }
    found = [fault and (fault["file"], fault["text"]) for fault in faults_in(list(logs))]
    assert found == [("requirements.txt", text) for text in logs.values()]


def test_no_log_keeps_the_page_busy() -> None:
    """Each of these took for ever, or minutes; a usual log of that length takes a few milliseconds."""
    usual, *others = computed(
        "launch-failure.js",
        "faultIn",
        TIMED,
        [
            "Collecting package (from -r requirements.txt)\n" * 5000,
            "PackagesNotFoundError:\n" + "\n" * 100 + "x",
            "No matching distribution found for a" + " " * 200_000 + "(",
            "Couldn't parse requirement in `r` at position 0" + "\n" * 200_000,
            "\u2500 " * 200_000,
            "Invalid requirement: 'a' (from line 1 of " * 10_000,
            "Because only the following versions of a are available: " * 10_000,
        ],
    )
    assert max(others) < 20 * max(usual, 1), (usual, others)
