"""The callback treatment: takes a caller's number instead of the call, and counts."""

from __future__ import annotations

import threading

from ccfailover.simulation.processes.serving import Refusal, Reply, Request, arguments, serve


class Callback:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contacts = 0

    def handle(self, request: Request) -> Reply:
        match request.method, request.parts:
            case "GET", ("health",):
                return Reply(200, {"treatment": "callback", "ok": True})
            case "GET", ("counts",):
                with self._lock:
                    return Reply(200, {"contacts": self._contacts})
            case "POST", ("contacts",):
                with self._lock:
                    self._contacts += 1
                return Reply(200, {"answered_by": "callback"})
        raise Refusal(404, "no such resource")


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    serve(Callback().handle, options)


if __name__ == "__main__":
    main()
