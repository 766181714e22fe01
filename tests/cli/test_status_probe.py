"""`status --probe` answers although nothing that it asks does."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROMISED = 5.0
"""Seconds from the call to the answer, whatever hangs."""
SLACK = 1.0
"""For starting two interpreters on a machine that does something else besides. This is the only
test with a bound on time, as that is the promise; the budget inside is 4 s (`operations.look`)."""

POLICY = """\
version: 1
name: hanging
timezone: America/Chicago
store: {place}/store.db
probe_defaults: {{every: 60s, timeout: 30s}}
sites:
  hq:
    kind: in_house
    probes:
      - {{kind: http, url: "http://127.0.0.1:{mute}/health"}}
      - {{kind: http, url: "http://127.0.0.1:{dripping}/health"}}
      - {{kind: command, argv: [{python}, "-c", "import time; time.sleep(60)"]}}
    staff: {{calls: {{agents: 40, handle_time: 300s}}, loans: {{per_hour: 90}}}}
  acme:
    kind: outsourced
    probes:
      - {{kind: tcp, host: 127.0.0.1, port: {mute}, expect: "220 "}}
      - {{kind: tcp, host: 127.0.0.1, port: {full}}}
    staff: {{calls: {{agents: 60, handle_time: 330s}}, loans: {{per_hour: 120}}}}
providers:
  edge:
    kind: http
    url: "http://127.0.0.1:{mute}"
    timeout: 30s
    destinations: {{hq: trunk_1, acme: trunk_7, message: announcement}}
    route:
      read: {{path: "/routes/{{ref}}", shares: /shares}}
      shift: {{method: PUT, path: "/routes/{{ref}}",
              body: '{{"shares": {{{{ shares | tojson }}}}}}'}}
  jobs:
    kind: sqs
    region: us-east-1
    endpoint_url: "http://127.0.0.1:{mute}"
    credentials: {{key_id: "env:KEY_ID", secret: "env:SECRET"}}
    timeout: 30s
queues:
  calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 1
    home_down: message
    normal: {{hq: 100}}
    objectives: {{rto: 15m, mtd: 4h}}
    route: {{provider: edge, ref: calls}}
  loans:
    channel: application
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 2
    home_down: message
    normal: {{hq: 100}}
    objectives: {{rto: 4h, mtd: 24h}}
    item: {{id: uli}}
    intake: {{provider: edge, ref: loans}}
    backlog:
      hq: {{provider: jobs, ref: "http://127.0.0.1:{mute}/1/hq"}}
      acme: {{provider: jobs, ref: "http://127.0.0.1:{mute}/1/acme"}}
"""


class Hanging:
    """Servers that take connections and never answer; one drips a byte of an answer at a time,
    one has a full queue of connections, so that not even connecting ends."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._kept: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.mute = self._serve(b"")
        self.dripping = self._serve(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.full = int(listener.getsockname()[1])
        self._kept.append(listener)
        for _ in range(4):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", self.full))
            self._kept.append(caller)

    def _serve(self, first: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.settimeout(0.1)
        self._kept.append(listener)
        thread = threading.Thread(target=self._hang, args=(listener, first), daemon=True)
        thread.start()
        self._threads.append(thread)
        return int(listener.getsockname()[1])

    def _hang(self, listener: socket.socket, first: bytes) -> None:
        open_ones: list[socket.socket] = []
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                open_ones.append(connection)
                if first:
                    connection.sendall(first)
            for connection in open_ones:
                with contextlib.suppress(OSError):
                    if first:
                        connection.sendall(b"x")
        for connection in open_ones:
            connection.close()

    def close(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        for one in self._kept:
            one.close()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    servers = Hanging()
    try:
        yield servers
    finally:
        servers.close()


def test_probe_ends_within_its_promise_although_everything_hangs(
    hanging: Hanging, tmp_path: Path
) -> None:
    """Within 5 s `status --probe` tells what it could not see; nothing hanging reads as healthy."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(
        place=tmp_path, mute=hanging.mute, dripping=hanging.dripping, full=hanging.full,
        python=json.dumps(sys.executable)))
    environment = {"CCFAILOVER_POLICY": str(policy), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin",
                   "LANG": "C.UTF-8", "KEY_ID": "id", "SECRET": "secret"}
    program = [sys.executable, "-m", "ccfailover"]
    # Once without looking, so that the policy is stamped as it is wherever cron runs `check`.
    subprocess.run([*program, "status"], env=environment, capture_output=True, timeout=60,
                   check=True)
    began = time.monotonic()
    done = subprocess.run([*program, "status", "--probe", "--json"], env=environment,
                          capture_output=True, text=True, timeout=60)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    states = {row["site"]: row["state"] for row in facts["sites"]}
    assert set(states.values()) <= {"down", "unknown"}
    for queue in facts["queues"]:
        assert queue["actual"] is None
        assert all(depth is None for depth in queue["depth"].values())
    assert took < PROMISED + SLACK
