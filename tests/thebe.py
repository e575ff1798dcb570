"""thebe as an author embeds it: the published package, on a page of a site of its own, in a real browser."""

import contextlib
import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect

from tests.npm import unpack

PACKAGE = "thebe-core@0.5.0"

#: What an author writes.  A saved session would be found again instead of launching; no server is asked for MathJax.
_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>A page with code</title>
<pre id="output"></pre>
<script src="thebe-core.min.js"></script>
<script>
  const { api } = thebeCore;
  const told = [];
  let config, server;

  function launch(binderUrl, repo) {
    const events = api.makeEvents();
    for (const kind of ["status", "error"]) {
      events.on(kind, (_, { subject, status, message }) => told.push({ kind, subject, status, message }));
    }
    config = api.makeConfiguration({
      binderOptions: { binderUrl, repo, ref: "HEAD", repoProvider: "git" },
      savedSessionOptions: { enabled: false },
      kernelOptions: { kernelName: "python3" },
    }, events);
    server = api.connectToBinder(config);
    return server.ready.then(() => "ready", error => `failed: ${error}`);
  }

  async function run(source) {
    const rendermime = api.makeRenderMimeRegistry({ mathjaxUrl: "", mathjaxConfig: "" });
    const notebook = api.setupNotebookFromBlocks([{ id: "cell", source }], config, rendermime);
    notebook.attachSession(await server.startNewSession(rendermime));
    const cell = notebook.getCellById("cell");
    cell.attachToDOM(document.getElementById("output"));
    await cell.execute();
  }
</script>
"""


def install(site: Path) -> None:
    """Put the page, with thebe's bundle from npm, into a site's directory; skips the test where npm cannot.

    The bundle holds all that it needs, so nothing that the package depends on is installed.
    """
    shutil.copytree(unpack(PACKAGE, site) / "dist" / "lib", site, dirs_exist_ok=True)
    (site / "index.html").write_text(_PAGE)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Silent."""


@contextlib.contextmanager
def served(site: Path, port: int = 0) -> Iterator[str]:
    """Serve a directory; gives its origin, which is another site than the federation's: a name, not an address."""
    server = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Handler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Thebe:
    """thebe on one page of a site."""

    def __init__(self, page: Page, origin: str) -> None:
        self._page = page
        self._origin = origin

    async def launch(self, gateway: str, repo: str) -> str:
        """Launch a Git repository; returns ``ready``, or ``failed:`` and what thebe says of it."""
        await self._page.goto(self._origin, timeout=120_000)
        return str(await self._page.evaluate("([gateway, repo]) => launch(gateway, repo)", [gateway, repo]))

    async def told(self) -> list[dict[str, Any]]:
        """All that thebe has told its page: ``kind`` (status or error), ``subject``, ``status``, ``message``."""
        return list(await self._page.evaluate("told"))

    async def run(self, code: str) -> str:
        """What a cell that prints something shows on the page once the kernel of the launched server has run it."""
        await self._page.evaluate("code => run(code)", code)
        shown = self._page.locator("#output .jp-OutputArea-output").first
        await expect(shown).not_to_be_empty(timeout=60_000)
        return (await shown.inner_text()).strip()
