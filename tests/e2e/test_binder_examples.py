"""Real repositories, as they are."""

import os
import shutil
from pathlib import Path

import aiohttp
import pytest
from federation import Federation, git_spec, ready
from gitrepos import git
from gitserver import GitServer
from notebook import Notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: A clone (bare or not) of binder-examples/requirements.
CLONE = os.environ.get("MANYBINDER_TEST_BINDER_EXAMPLES")


@pytest.mark.skipif(CLONE is None, reason="needs MANYBINDER_TEST_BINDER_EXAMPLES, a clone of it")
async def test_binder_examples_requirements(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    assert CLONE is not None
    bare = git_server.root / "requirements.git"
    shutil.rmtree(bare, ignore_errors=True)
    git(Path(CLONE), "clone", "--quiet", "--bare", "--no-local", CLONE, str(bare))
    fields = ready(await federation.launch(http, git_spec(git_server.url("requirements")), deadline_s=500))
    notebook = Notebook(http, fields["url"], fields["token"])
    assert await notebook.run("import numpy, scipy, seaborn, pandas; print(pandas.__version__)") == "2.2.3\n"
    assert "index.ipynb" in [item["name"] for item in (await notebook.get("api/contents"))["content"]]
