"""A real HTTP server with every bad habit, probe jobs, and a small policy with a hand on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ccfailover.health import ProbeJob
from ccfailover.health.assess import step
from ccfailover.model.health import Outcome, ProbeHistory, Reading, Target
from ccfailover.model.policy import (
    Dependency,
    GuardLimits,
    LeverSpec,
    Policy,
    ProbeSpec,
    Queue,
    Site,
    Trigger,
)
from ccfailover.model.shares import Shares
from ccfailover.runtime import SECOND, SystemRuntime

AT = 1_790_000_000 * SECOND


@pytest.fixture
def runtime() -> SystemRuntime:
    return SystemRuntime()


def make_job(kind: str, key: str = "site.hq.0", *, timeout: float = 5.0, **params: Any) -> ProbeJob:
    spec = ProbeSpec(key, kind, 10.0, timeout, 3, 2, "controller", params)
    return ProbeJob(Target("site", "hq", key), spec)


@pytest.fixture
def job() -> Callable[..., ProbeJob]:
    return make_job


class BadHabits(BaseHTTPRequestHandler):
    """`/status/503`, `/hang`, `/drip`, `/endless`, `/body`, `/redirect` …"""

    server: Habitat

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        what = self.path.split("?")[0].split("/")
        try:
            getattr(self, f"_{what[1]}")(*what[2:])
        except OSError:
            self.close_connection = True

    do_HEAD = do_GET

    def _status(self, code: str) -> None:
        self._answer(int(code), b"")

    def _body(self) -> None:
        self._answer(200, self.server.body)

    def _redirect(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.server.location)
        self.end_headers()

    def _hang(self) -> None:
        self.server.over.wait(10)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.over.wait(0.05):
            self.wfile.write(b".")
            self.wfile.flush()

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.over.is_set():
            self.server.sent += self.wfile.write(b"x" * 65_536)

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Habitat(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BadHabits)
        self.over = threading.Event()
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.body = b""
        self.location = ""
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Habitat]:
    server = Habitat()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that takes connections into its backlog and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port that was free a moment ago and has no listener."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def probe(key: str, observer: str = "controller", **more: Any) -> ProbeSpec:
    given: dict[str, Any] = {"kind": "http", "every": 10.0, "timeout": 5.0, "fall": 3, "rise": 2,
                             "params": {}}
    return ProbeSpec(key=key, observer=observer, **{**given, **more})


def make_site(name: str, *probes: ProbeSpec, depends_on: tuple[str, ...] = (), **more: Any) -> Site:
    return Site(name=name, in_house=name == "hq", timezone="America/Chicago",
                hours=more.get("hours"), holidays=None, location=None, country=None,
                depends_on=depends_on, probes=probes, staff={})


@dataclass
class Scene:
    """hq (two observers) and acme, one voice queue, one with backlogs; what probes remember."""

    policy: Policy
    histories: dict[str, ProbeHistory] = field(default_factory=dict)
    now: int = AT

    def saw(self, key: str, *outcomes: Outcome, values: dict[str, float] | None = None,
            shares: dict[str, int] | None = None) -> Scene:
        """One reading for each outcome, ten seconds apart, the last one now."""
        spec = next((spec for spec in self.specs() if spec.key == key), probe(key))
        first = self.now - (len(outcomes) - 1) * 10 * SECOND
        for index, outcome in enumerate(outcomes):
            reading = Reading(key, first + index * 10 * SECOND, outcome, f"{key} {outcome.value}",
                              values=values or {}, shares=Shares(shares) if shares else None)
            self.histories[key] = step(self.histories.get(key), reading, spec)
        return self

    def specs(self) -> list[ProbeSpec]:
        places = [*self.policy.sites.values(), *self.policy.dependencies.values()]
        return [spec for place in places for spec in place.probes]

    def change(self, **parts: Any) -> Scene:
        self.policy = replace(self.policy, **parts)
        return self


def make_trigger(name: str, when: str, **more: Any) -> Trigger:
    given: dict[str, Any] = {"hold": 60.0, "clear": None, "cooldown": 0.0,
                             "runbook": "full_failover", "mode": "approve", "subject": "hq"}
    return Trigger(name=name, when=when, **{**given, **more})


@pytest.fixture
def scene() -> Scene:
    sites = {
        "hq": make_site("hq", probe("site.hq.0"), probe("site.hq.1", "far"),
                        depends_on=("los", "vpn"), hours="Mo-Fr 08:00-20:00"),
        "acme": make_site("acme", probe("site.acme.0"), depends_on=("los",)),
    }
    queue = Queue(name="calls", channel="voice", home="hq", backups=("acme",), outsource="allowed",
                  in_disaster="allow", priority=1, home_down="callback", normal=Shares({"hq": 100}),
                  route=LeverSpec("edge", "calls"))
    loans = replace(queue, name="loans", channel="application", route=None, priority=2,
                    intake=LeverSpec("web", "loans"),
                    backlogs={"hq": LeverSpec("jobs", "hq"), "acme": LeverSpec("jobs", "acme")})
    return Scene(Policy(
        name="test", environment="test", path="policy.yaml", sha256="0" * 64, currency="USD",
        timezone="UTC", store=None, sites=sites,
        dependencies={"los": Dependency("los", None, (probe("dependency.los.0"),)),
                      "vpn": Dependency("vpn", None, (probe("dependency.vpn.0"),))},
        providers={}, queues={"calls": queue, "loans": loans}, triggers={}, guards=GuardLimits(),
        notify=(), runbooks={},
    ))


@pytest.fixture
def trigger() -> Callable[..., Trigger]:
    return make_trigger
