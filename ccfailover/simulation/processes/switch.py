"""The switch: spreads contacts and applications over destinations by shares.

A configuration file names its routes:

    {"routes": {"loan_calls":   {"kind": "voice",  "shares": {"hq": 100}, "rate": 20,
                                 "destinations": {"hq": "http://127.0.0.1:1", "acme": "…"}},
                "applications": {"kind": "intake", "shares": {"hq": 100}, "destinations": {…}}}}

    GET  /routes/NAME              {"shares": {"hq": 100}, "version": "3"} with an ETag
    PUT  /routes/NAME              {"shares": {…}}, If-Match honoured (412)
    PUT  /routes/NAME/rate         {"rate": contacts per second}, voice only
    GET  /routes/NAME/counts       what became of everything offered
    GET  /routes/NAME/log?since=µs voice only: contacts that ended after that instant
    POST /intake/NAME              one application (needs no token: applicants have none)
    PUT  /faults/NAME              see faults.py
"""

from __future__ import annotations

import hmac
import json
import math
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccfailover.model.shares import Shares
from ccfailover.simulation.processes.faults import Faults
from ccfailover.simulation.processes.intake import Intake
from ccfailover.simulation.processes.serving import (
    Refusal,
    Reply,
    Request,
    arguments,
    secret,
    serve,
)
from ccfailover.simulation.processes.stream import MAX_RATE, Stream
from ccfailover.simulation.processes.switchboard import Switchboard

MAX_APPLICATION = 200_000
"""Bytes; an SQS message, attributes included, has at most 262,144."""


class Switch:
    """Routes by name. Raises ValueError when the configuration makes no sense."""

    def __init__(self, config: Mapping[str, Any], board: Switchboard, token: str | None) -> None:
        self._board = board
        self._token = token
        self._faults = Faults()
        self._writing = threading.Lock()
        self._told: dict[str, tuple[dict[str, int], int]] = {}
        self._destinations: dict[str, frozenset[str]] = {}
        self._streams: dict[str, Stream] = {}
        self._intakes: dict[str, Intake] = {}
        for name, route in config["routes"].items():
            self._destinations[name] = frozenset(route["destinations"])
            board.open_route(name, self._checked(name, route["shares"]).to_json())
            shares, _ = board.shares(name)
            if route["kind"] == "voice":
                self._streams[name] = Stream(route["destinations"], shares,
                                             float(route.get("rate", 0)))
                self._streams[name].start()
            else:
                self._intakes[name] = Intake(name, route["destinations"], shares, board)
                self._intakes[name].start()

    def handle(self, request: Request) -> Reply | None:
        match request.method, request.parts:
            case "GET", ("health",):
                return Reply(200, {"switch": "ok", "routes": sorted(self._destinations)})
            case "POST", ("intake", name) if name in self._intakes:
                return self._submit(name, request)
        self._authorize(request)
        match request.method, request.parts:
            case "GET", ("routes", name) if name in self._destinations:
                return self._read(name)
            case "PUT", ("routes", name) if name in self._destinations:
                return self._write(name, request)
            case "PUT", ("routes", name, "rate") if name in self._streams:
                return self._set_rate(name, request)
            case "GET", ("routes", name, "counts") if name in self._destinations:
                lane = self._streams.get(name) or self._intakes[name]
                return Reply(200, {**lane.counts(), "shares": self._board.shares(name)[0]})
            case "GET", ("routes", name, "log") if name in self._streams:
                since = request.query.get("since", "0")
                if not since.isdecimal() or len(since) > 18:
                    raise Refusal(400, "since is an instant in microseconds")
                return Reply(200, self._streams[name].log(int(since)))
            case "PUT", ("faults", name) if name in self._destinations:
                self._told.pop(name, None)
                return Reply(200, dict(self._faults.set(name, request).__dict__))
        raise Refusal(404, "no such resource")

    def _authorize(self, request: Request) -> None:
        if self._token is None:
            return
        given = request.header("authorization") or ""
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise Refusal(401, "a control call needs the switch's token")

    def _checked(self, name: str, asked: object) -> Shares:
        if not isinstance(asked, dict):
            raise Refusal(400, "shares is an object of whole percentages")
        unknown = sorted(set(asked) - self._destinations[name])
        if unknown:
            raise Refusal(400, f"unknown destination: {', '.join(unknown)[:200]}")
        try:
            return Shares(asked)
        except ValueError as error:
            raise Refusal(400, str(error)) from None

    def _read(self, name: str) -> Reply | None:
        fault = self._faults.get(name)
        match fault.hits("read"):
            case "error500":
                raise Refusal(500, "internal error")
            case "hang":
                self._faults.wait(name, fault)
                return None
            case "slow":
                self._faults.wait(name, fault)
        shares, version = self._told.get(name) or self._board.shares(name)
        return _state(shares, version)

    def _write(self, name: str, request: Request) -> Reply | None:
        shares = self._checked(name, request.json().get("shares")).to_json()
        expected = _expected(request.header("if-match"))
        fault = self._faults.get(name)
        mode = fault.hits("write")
        if mode == "error500":
            raise Refusal(500, "internal error")
        if mode == "hang":
            self._faults.wait(name, fault)
            return None
        if mode in ("ack_only", "lie"):
            _, version = self._told.get(name) or self._board.shares(name)
            if expected not in (None, version):
                raise Refusal(412, "the route has changed since it was read")
            if mode == "lie":
                self._told[name] = (shares, version + 1)
            return _state(shares, version + 1)
        if mode == "slow":
            self._faults.wait(name, fault)
        with self._writing:  # two writers at once: what is in force is what is on disk
            version = self._board.set_shares(name, shares, expected)
            (self._streams.get(name) or self._intakes[name]).set_shares(shares)
        return None if mode == "drop" else _state(shares, version)

    def _set_rate(self, name: str, request: Request) -> Reply:
        rate = request.json().get("rate")
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) \
                or not math.isfinite(rate) or not 0 <= rate <= MAX_RATE:
            raise Refusal(400, f"rate is a number from 0 to {MAX_RATE:g}")
        self._streams[name].set_rate(float(rate))
        return Reply(200, {"rate": float(rate)})

    def _submit(self, name: str, request: Request) -> Reply:
        # Written anew in ASCII, and small enough: what is promised can be put into any queue.
        body = json.dumps(request.json()).encode()
        if len(body) > MAX_APPLICATION:
            raise Refusal(413, f"an application has at most {MAX_APPLICATION} bytes")
        key = request.header("idempotency-key") or secrets.token_hex(16)
        if len(key) > 100:
            raise Refusal(400, "Idempotency-Key has at most 100 characters")
        fresh = self._intakes[name].submit(key, body)
        return Reply(202 if fresh else 200, {"key": key, "duplicate": not fresh})


def _state(shares: Mapping[str, int], version: int) -> Reply:
    return Reply(200, {"shares": dict(shares), "version": str(version)},
                 {"ETag": f'"{version}"'})


def _expected(header: str | None) -> int | None:
    """The version in an If-Match header; None without one or for `*`."""
    if header is None or header.strip() == "*":
        return None
    text = header.strip().strip('"')
    if not text.isdecimal() or len(text) > 15:
        return -1  # no version of ours: the precondition fails, as the standard asks
    return int(text)


def main() -> None:
    parser = arguments("A switch that spreads contacts and applications by shares.")
    parser.add_argument("--config", required=True, help="JSON file with the routes")
    parser.add_argument("--state", required=True, help="file that survives a restart")
    parser.add_argument("--token-file", help="control calls must carry this bearer token")
    options = parser.parse_args()
    config = json.loads(Path(options.config).read_text(encoding="utf-8"))
    switch = Switch(config, Switchboard(Path(options.state)), secret(options.token_file))
    serve(switch.handle, options)


if __name__ == "__main__":
    main()
