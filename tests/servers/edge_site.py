"""A site that takes contacts over HTTP, as a process: `python edge_site.py NAME HOST PORT LOG`.

`GET /health` says that it is well; any other path is a contact, whose name goes into the log before
it is answered. `/slow/…` takes a second.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    name = ""
    log = Path()
    lock = threading.Lock()

    def do_GET(self) -> None:
        if self.path != "/health":
            with self.lock, self.log.open("a") as log:
                log.write(f"{self.path}\n")
        if self.path.startswith("/slow/"):
            time.sleep(1)
        body = self.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        with contextlib.suppress(ConnectionError):  # a health check reads one line and goes
            self.end_headers()
            self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Handler.name, Handler.log = sys.argv[1], Path(sys.argv[4])
    Server((sys.argv[2], int(sys.argv[3])), Handler).serve_forever()
