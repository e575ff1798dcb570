"""A session for tests: answers under its base URL to whoever has the token, as JupyterLab would.

That of an image named broken ends as it starts, that of one named slow takes its time.
"""

import argparse
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser()
    for option in ("--image", "--name", "--port", "--base-url"):
        parser.add_argument(option, required=True)
    options = parser.parse_args()
    if "broken" in options.image:
        raise SystemExit(7)
    if "slow" in options.image:
        time.sleep(10)
    token = os.environ["JUPYTER_TOKEN"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == f"token {token}"
            status = 404
            if self.path == f"{options.base_url}api/status":
                status = 200 if known else 403
            elif self.path == options.base_url:
                status = 200
            self.send_response(status)
            body = os.environ.get("BINDER_REQUEST", "").encode() if status == 200 else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    ThreadingHTTPServer(("127.0.0.1", int(options.port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
