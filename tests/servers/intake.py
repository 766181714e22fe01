"""A provider's intake with a REST interface, as a process of its own: `python intake.py --token T`.

It prints `{"port": N}` once it listens on loopback.

Queues      POST /queues/<ref>/applications     one; 201 with a receipt, 409 again
            POST /queues/<ref>/batches          many; 207 with what became of each
            POST /queues/<ref>/claims           take back what nobody has begun, for a time
            GET  /queues/<ref>                  counts
Claims      PUT, DELETE /claims/<claim>[/release]   hide for longer; delete. POST /claims/extended
Records     GET, PATCH /records/<id>            one application of a shared system; `If-Match`
            GET  /assigned/<ref>/<assignee>, POST /assigned/<ref>/<assignee>/claims

`/truth/<ref>` is somebody at the console, without a token: GET shows all, POST adds an application,
PUT sets `max_receives`, `odd` (id → what becomes of its put), `gather` (puts wait until so many are
under way), `forgets` (repeated keys are new). `/truth-record/<id>`: PATCH changes any field.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_numbers = itertools.count(1)
WORDS = {201: "taken", 409: "known", 422: "bad", 503: "busy"}


@dataclass
class Application:
    name: str
    body: bytes
    sent: dict[str, Any]
    assignee: str | None = None
    created: float = field(default_factory=time.time)
    claim: str | None = None
    until: float = 0.0
    receives: int = 0
    version: int = 1
    begun: bool = False
    key: str | None = None

    def hidden(self) -> bool:
        return self.until > time.time()

    def change(self) -> None:
        self.version += 1


@dataclass
class Queue:
    items: dict[str, Application] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    requests: int = 0
    under_way: int = 0
    most: int = 0


class Intake(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token = token
        self.lock = threading.Condition()
        self.queues: dict[str, Queue] = {}

    def all(self) -> list[Application]:
        return [item for queue in self.queues.values() for item in queue.items.values()]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Intake
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.handle_one(b"")

    def do_DELETE(self) -> None:
        self.with_body()

    def do_POST(self) -> None:
        self.with_body()

    def do_PUT(self) -> None:
        self.with_body()

    def do_PATCH(self) -> None:
        self.with_body()

    def with_body(self) -> None:
        self.handle_one(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def handle_one(self, body: bytes) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        try:
            data = json.loads(body) if body else None
        except ValueError:
            self.answer(400, {"error": "not JSON"})
            return
        with self.server.lock:
            if parts[0].startswith("truth"):
                self.truth(parts, data)
            elif self.headers.get("Authorization") != f"Bearer {self.server.token}":
                self.answer(401, {"error": "who are you"})
            elif parts[0] in ("queues", "assigned") and parts[1] not in self.server.queues:
                self.answer(404, {"error": "no such queue"})
            else:
                getattr(self, f"at_{parts[0]}", self.nowhere)(parts, data)

    def nowhere(self, parts: list[str], data: Any) -> None:
        self.answer(404, {"error": "no such thing"})

    # --- queues ----------------------------------------------------------------------------------

    def at_queues(self, parts: list[str], data: Any) -> None:
        queue, what = self.server.queues[parts[1]], parts[2] if len(parts) > 2 else "counts"
        if what == "counts":
            self.counts(queue, None)
        elif what == "claims":
            self.claims(queue, None, data)
        elif what == "applications":
            self.gather(queue)
            status, said = self.take(queue, data, self.headers.get("Idempotency-Key"))
            self.answer(status, said, {"Retry-After": "2"} if status == 503 else {})
        elif what == "batches":
            self.gather(queue)
            results = []
            for each in data["items"]:
                status, said = self.take(queue, each, each.get("key"))
                if status:
                    results.append({"key": each.get("key"), "status": WORDS[status], **said})
            self.answer(207, {"results": results})

    def gather(self, queue: Queue) -> None:
        """Until so many are under way at once as the console wants, or for a second."""
        queue.requests += 1
        queue.under_way += 1
        queue.most = max(queue.most, queue.under_way)
        self.server.lock.notify_all()
        wanted = queue.settings.get("gather", 1)
        self.server.lock.wait_for(lambda: queue.most >= wanted, 1.0)
        queue.under_way -= 1

    def take(self, queue: Queue, data: Any, key: str | None) -> tuple[int, dict[str, Any]]:
        odd = queue.settings.get("odd", {}).get(data["id"])
        if odd == "echo":
            return 201, {"receipt": self.headers.get("Authorization")}
        if odd is not None:
            return {"bad": 422, "busy": 503, "silent": 0}[odd], {"error": odd}
        if key in queue.keys and not queue.settings.get("forgets"):
            return 409, {"receipt": queue.keys[key]}
        body = base64.b64decode(data["base64"]) if "base64" in data else json.dumps(
            data["document"]).encode() if "document" in data else data["body"].encode()
        item = Application(f"m{next(_numbers)}", body, {
            name: data.get(name) for name in ("submitted", "hops", "attributes", "id")}, key=key)
        queue.items[item.name] = item
        if key is not None:
            queue.keys[key] = item.name
        return 201, {"receipt": item.name}

    def waiting(self, queue: Queue, assignee: str | None) -> list[Application]:
        return [item for item in queue.items.values()
                if item.assignee == assignee and not item.begun]

    def counts(self, queue: Queue, assignee: str | None) -> None:
        items = self.waiting(queue, assignee)
        hidden = sum(item.hidden() for item in items)
        self.answer(200, {
            "waiting": len(items) - hidden, "taken": hidden,
            "oldest": max((time.time() - item.created for item in items), default=None)})

    def claims(self, queue: Queue, assignee: str | None, data: Any) -> None:
        found, most = [], queue.settings.get("max_receives")
        for item in self.waiting(queue, assignee):
            if item.hidden() or (most is not None and item.receives >= most):
                continue
            if len(found) >= data["limit"]:
                break
            item.claim, item.receives = f"c{next(_numbers)}", item.receives + 1
            item.until = time.time() + data["seconds"]
            found.append({
                "id": item.name, "claim": item.claim, "receives": item.receives,
                "content": base64.b64encode(item.body).decode(), "version": item.version,
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(item.created)),
                "sent": item.sent})
        self.answer(200, {"items": found})

    def held(self, claim: str) -> Application | None:
        return next((item for item in self.server.all()
                     if item.claim == claim and item.hidden()), None)

    def at_claims(self, parts: list[str], data: Any) -> None:
        if parts[1] == "extended":
            done = [claim for claim in data["claims"] if self.hide(claim, data["seconds"])]
            self.answer(200, {"done": done})
        elif len(parts) > 2:
            self.answer(204 if self.hide(parts[1], 0) else 410, {})
        elif self.command == "PUT":
            self.answer(204 if self.hide(parts[1], data["seconds"]) else 404, {})
        else:
            item = self.held(parts[1])
            for queue in self.server.queues.values():
                if item is not None:
                    queue.items.pop(item.name, None)
            self.answer(204 if item is not None else 404, {})

    def hide(self, claim: str, seconds: float) -> bool:
        item = self.held(claim)
        if item is not None:
            item.until = time.time() + seconds
        return item is not None

    # --- a shared system of record ---------------------------------------------------------------

    def at_assigned(self, parts: list[str], data: Any) -> None:
        queue = self.server.queues[parts[1]]
        if len(parts) > 3:
            self.claims(queue, parts[2], data)
        else:
            self.counts(queue, parts[2])

    def at_records(self, parts: list[str], data: Any) -> None:
        item = next((each for each in self.server.all() if each.name == parts[1]), None)
        if item is None:
            self.answer(404, {"error": "no such record"})
        elif self.command == "GET":
            self.answer(200, {"assignee": item.assignee, "version": item.version,
                              "key": item.key, "begun": item.begun},
                        {"ETag": f'"{item.version}"'})
        elif self.headers.get("If-Match") != f'"{item.version}"' or item.begun:
            self.answer(412, {"error": "changed"})
        else:
            item.assignee, item.key = data["assignee"], self.headers.get("Idempotency-Key")
            item.sent["hops"], item.claim, item.until, item.receives = data["hops"], None, 0.0, 0
            item.change()
            self.answer(200, {"assignee": item.assignee})

    # --- the console -----------------------------------------------------------------------------

    def truth(self, parts: list[str], data: Any) -> None:
        if parts[0] == "truth-record":
            item = next(each for each in self.server.all() if each.name == parts[1])
            for name, value in data.items():
                setattr(item, name, value)
            item.change()
            self.answer(200, {})
            return
        queue = self.server.queues.setdefault(parts[1], Queue())
        if self.command == "POST":
            item = Application(f"m{next(_numbers)}", base64.b64decode(data["base64"]),
                               {"attributes": data.get("attributes", {})},
                               assignee=data.get("assignee"))
            queue.items[item.name] = item
            self.answer(200, {"id": item.name})
        elif self.command == "PUT":
            queue.settings.update(data)
            queue.most = queue.requests = 0
            self.answer(200, {})
        else:
            self.answer(200, {"requests": queue.requests, "most": queue.most, "items": [
                {"id": item.name, "base64": base64.b64encode(item.body).decode(),
                 "hidden": item.hidden(), "assignee": item.assignee, "key": item.key,
                 "begun": item.begun, "sent": item.sent} for item in queue.items.values()]})

    def answer(self, status: int, data: object, headers: dict[str, str] | None = None) -> None:
        body = b"" if status == 204 else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet: the tests look at `/truth`."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", required=True)
    server = Intake(parser.parse_args().token)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
