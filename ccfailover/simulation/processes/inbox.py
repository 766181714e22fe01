"""Where the demo's notifications land: an on-call person's inbox, which counts and keeps titles."""

from __future__ import annotations

import threading
from collections import deque

from ccfailover.simulation.processes.serving import Refusal, Reply, Request, arguments, serve

KEPT = 200
LONGEST_TITLE = 300


class Inbox:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._titles: deque[str] = deque(maxlen=KEPT)

    def handle(self, request: Request) -> Reply:
        match request.method, request.parts:
            case "GET", ("health",):
                return Reply(200, {"ok": True})
            case "GET", ("messages",):
                with self._lock:
                    return Reply(200, {"count": self._count, "titles": list(self._titles)})
            case "POST", ("messages",):
                title = str(request.json().get("title", ""))[:LONGEST_TITLE]
                with self._lock:
                    self._count += 1
                    self._titles.append(title)
                return Reply(200, {"taken": True})
        raise Refusal(404, "no such resource")


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    serve(Inbox().handle, options)


if __name__ == "__main__":
    main()
