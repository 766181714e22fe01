"""A tiny switch with a REST interface, as a process of its own: `python switch.py --token T`.

It prints `{"port": N}` once it listens on loopback. `GET` and `PUT /routes/<ref>` and
`/gates/<ref>`, `GET /counts`; every answer carries an ETag, `If-Match` is honoured.
`GET /truth` shows everything and the writes it took, without a token, and every `PUT` as it
arrived: when (seconds since the epoch) and from whom. `PUT /truth/<ref>` is somebody else at the
console: it replaces a route's shares. `PUT /truth-stall` with `{"from": address, "seconds": s}`:
what that caller sends from now on is kept for so long, not done and not answered.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Switch(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, token: str, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.token = token
        self.lock = threading.Lock()
        self.routes: dict[str, dict[str, int]] = {}
        self.gates: dict[str, bool] = {}
        self.versions: dict[str, int] = {}
        self.writes: list[dict[str, object]] = []
        self.arrivals: list[dict[str, object]] = []
        self.stalls: dict[str, float] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Switch

    def do_GET(self) -> None:
        room, ref = self.place()
        with self.server.lock:
            if room == "truth":
                self.answer(200, {"routes": self.server.routes, "gates": self.server.gates,
                                  "writes": self.server.writes,
                                  "arrivals": self.server.arrivals})
            elif not self.may():
                self.answer(401, {"error": "who are you"})
            elif room == "routes" and ref in self.server.routes:
                shares = self.server.routes[ref]
                self.answer(200, {
                    "shares": shares, "version": self.server.versions[ref],
                    "targets": [{"to": k, "pct": v} for k, v in shares.items()],
                }, etag=f'"{self.server.versions[ref]}"')
            elif room == "gates" and ref in self.server.gates:
                state = self.server.gates[ref]
                self.answer(200, {"open": state, "state": "running" if state else "stopped"})
            elif room == "counts":
                self.answer(200, {"answered": {"T1": 41, "T2": 7.5}, "lost": 0, "age": None,
                                  "note": "text"})
            else:
                self.answer(404, {"error": "no such thing"})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        room, ref = self.place()
        caller = self.client_address[0]
        if room == "truth-stall":
            told = json.loads(body)
            self.server.stalls[told["from"]] = float(told["seconds"])
            self.answer(200, {})
            return
        self.server.arrivals.append({"at": time.time(), "from": caller, "ref": ref})
        if stall := self.server.stalls.get(caller):
            time.sleep(stall)
            self.close_connection = True
            return
        with self.server.lock:
            if room != "truth" and not self.may():
                self.answer(401, {"error": "who are you"})
                return
            try:
                data = json.loads(body)
            except ValueError:
                self.answer(400, {"error": "not JSON"})
                return
            if room in ("routes", "truth"):
                self.route(ref, data["shares"], by_us=room == "routes")
            elif room == "gates":
                self.server.gates[ref] = bool(data["open"])
                self.answer(200, {})
            else:
                self.answer(404, {"error": "no such thing"})

    def route(self, ref: str, shares: dict[str, int], *, by_us: bool) -> None:
        version = self.server.versions.get(ref, 0)
        wanted = self.headers.get("If-Match")
        if wanted is not None and wanted != f'"{version}"':
            self.answer(412, {"error": "changed"})
        elif by_us and sum(shares.values()) != 100:
            self.answer(400, {"error": "shares must sum to 100"})
        else:
            self.server.routes[ref] = shares
            self.server.versions[ref] = version + 1
            if by_us:
                self.server.writes.append(
                    {"ref": ref, "shares": shares, "key": self.headers.get("Idempotency-Key")})
            self.answer(200, {"ok": True}, etag=f'"{version + 1}"')

    def place(self) -> tuple[str, str]:
        room, _, ref = urlsplit(self.path).path.strip("/").partition("/")
        return room, unquote(ref)

    def may(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def answer(self, status: int, data: object, etag: str | None = None) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet: the tests look at `/truth`."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    server = Switch(options.token, options.host)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
