"""What scripts of pages compute by themselves, in Node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import frontend

STATIC = Path(frontend.__file__).parent / "static"


def computed(module: str, name: str, expression: str, given: Any) -> Any:
    """The value of a JavaScript expression that uses ``name`` of a page's module, and ``given``."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on PATH")
    script = f"""
        globalThis.window = {{ location: {{ href: "https://binder.example/v2/gh/org/repo/main" }} }};
        const {{ {name} }} = await import({json.dumps((STATIC / module).as_uri())});
        const given = JSON.parse(await new Response(process.stdin).text());
        console.log(JSON.stringify({expression}));
    """
    ran = subprocess.run(
        [node, "--input-type=module", "--eval", script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
