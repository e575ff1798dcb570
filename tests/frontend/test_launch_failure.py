"""What the launch page reads from the log of a failed build: which line is at fault; whatever a repository prints."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import frontend

LAUNCH_FAILURE_JS = Path(frontend.__file__).parent / "static" / "launch-failure.js"


def faults_in(logs: list[str]) -> list[dict[str, str] | None]:
    """What the page's script finds in each."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on PATH")
    script = f"""
        globalThis.window = {{}};
        const {{ faultIn }} = await import({json.dumps(LAUNCH_FAILURE_JS.as_uri())});
        const logs = JSON.parse(await new Response(process.stdin).text());
        console.log(JSON.stringify(logs.map(faultIn)));
    """
    ran = subprocess.run(
        [node, "--input-type=module", "--eval", script],
        input=json.dumps(logs),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    found: list[dict[str, Any] | None] = json.loads(ran.stdout)
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


def test_no_log_keeps_the_page_busy() -> None:
    """Each of these took for ever, or minutes."""
    faults_in(
        [
            "PackagesNotFoundError:\n" + "\n" * 100 + "x",
            "No matching distribution found for a" + " " * 200_000 + "(",
            "Couldn't parse requirement in `r` at position 0" + "\n" * 200_000,
            "\u2500 " * 200_000,
            "Invalid requirement: 'a' (from line 1 of " * 10_000,
        ]
    )
