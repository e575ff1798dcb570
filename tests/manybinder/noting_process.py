"""A process that notes what happens to it: ``noting_process.py JOURNAL NAME [option ...]``.

Options: ``deaf`` (to SIGTERM), ``watches`` (the lifeline), ``serves=PORT`` (HTTP, 503 until the file of ``needs=FILE``
is there), ``orphan=NAME`` (starts another one in a session of its own; ``watching``: which watches the lifeline),
``helper=NAME`` (starts another one in its own process group).
"""

# Imports little: it is started dozens of times.
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def _note(path: str, *words: object) -> None:
    with Path(path).open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def child(journal: str, name: str, *options: str) -> None:
    """Run until told to end, as the options say."""
    if "deaf" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: (_note(journal, name, "told"), sys.exit(0)))
    _note(journal, name, "began", os.getpid())
    for option in options:
        key, _, value = option.partition("=")
        if key == "orphan":
            # A session of its own, as a Hub starts its servers.
            argv = [sys.executable, __file__, journal, value, *(["watches"] if "watching" in options else [])]
            subprocess.Popen(argv, start_new_session=True, pass_fds=[int(os.environ["MANYBINDER_LIFELINE_FD"])])
        elif key == "helper":
            subprocess.Popen([sys.executable, __file__, journal, value])
        elif key == "serves":
            threading.Thread(target=_serve, args=(int(value), options), daemon=True).start()
    if "watches" in options:
        import asyncio

        asyncio.run(_watch(journal, name))
    while True:
        time.sleep(0.05)


async def _watch(journal: str, name: str) -> None:
    import asyncio

    from servicekit import lifeline

    fd = lifeline.inherited_fd()
    assert fd is not None
    lifeline.watch(asyncio.get_running_loop(), fd)
    await asyncio.sleep(600)


def _serve(port: int, options: tuple[str, ...]) -> None:
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = not any(option.startswith("needs=") and not Path(option[6:]).exists() for option in options)
            self.send_response(200 if ready else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    child(*sys.argv[1:])
