"""A site: answers contacts, takes applications into its own queue, and works on them.

    GET  /health        POST /contacts        POST /applications
    GET  /counts        GET, PUT /consumers   {"open": true}: do its consumers take work?
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

from ccfailover.simulation.processes.consumer import Consumer
from ccfailover.simulation.processes.serving import Refusal, Reply, Request, arguments, serve
from ccfailover.simulation.processes.sqs import QueueError, Sqs

REMEMBERED = 50_000
"""Idempotency keys kept, so that a retry to a site that lives is swallowed."""


class Site:
    def __init__(self, name: str, sqs: Sqs, queue_url: str, consumer: Consumer,
                 handling: float) -> None:
        self._name = name
        self._sqs = sqs
        self._queue_url = queue_url
        self._consumer = consumer
        self._handling = handling
        self._lock = threading.Lock()
        self._contacts = 0
        self._accepted = 0
        self._keys: OrderedDict[str, None] = OrderedDict()

    def handle(self, request: Request) -> Reply:
        match request.method, request.parts:
            case "GET", ("health",):
                return Reply(200, {"site": self._name, "ok": True, **self._consumer.state()})
            case "POST", ("contacts",):
                time.sleep(self._handling)
                with self._lock:
                    self._contacts += 1
                return Reply(200, {"answered_by": self._name})
            case "POST", ("applications",):
                return self._accept(request)
            case "GET", ("counts",):
                with self._lock:
                    own = {"contacts": self._contacts, "accepted": self._accepted}
                return Reply(200, {"site": self._name, **own, **self._consumer.counts()})
            case "GET", ("consumers",):
                return Reply(200, self._consumer.state())
            case "PUT", ("consumers",):
                wanted = request.json().get("open")
                if not isinstance(wanted, bool):
                    raise Refusal(400, "open is true or false")
                self._consumer.set_open(wanted)
                return Reply(200, self._consumer.state())
        raise Refusal(404, "no such resource")

    def _accept(self, request: Request) -> Reply:
        """202 once the application is in the queue; 502: certainly not; 503: nobody knows."""
        request.json()
        key = request.header("idempotency-key") or secrets.token_hex(16)
        with self._lock:
            if key in self._keys:
                return Reply(200, {"duplicate": True})
        try:
            message_id = self._sqs.send(self._queue_url, request.body.decode(), key=key)
        except UnicodeDecodeError:
            raise Refusal(400, "the body is not UTF-8") from None
        except QueueError as error:
            sys.stderr.write(f"site {self._name}: {error}\n")
            raise Refusal(503 if error.sent else 502, "the site's queue did not take it") from None
        with self._lock:
            self._accepted += 1
            self._keys[key] = None
            if len(self._keys) > REMEMBERED:
                self._keys.popitem(last=False)
        return Reply(202, {"message_id": message_id})


def main() -> None:
    parser = arguments("A site that answers contacts and processes applications.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--sqs-endpoint", required=True)
    parser.add_argument("--queue-url", required=True)
    parser.add_argument("--rate", type=float, default=5.0, help="applications a second")
    parser.add_argument("--handling", type=float, default=0.02, help="seconds of a contact")
    parser.add_argument("--consumers", choices=("open", "closed"), default="open")
    parser.add_argument("--completed", required=True, help="file of completed ids, appended to")
    options = parser.parse_args()
    sqs = Sqs(options.sqs_endpoint)
    consumer = Consumer(sqs, options.queue_url, options.rate, Path(options.completed),
                        is_open=options.consumers == "open")
    consumer.start()
    serve(Site(options.name, sqs, options.queue_url, consumer, options.handling).handle, options)


if __name__ == "__main__":
    main()
