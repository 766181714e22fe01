"""A lender and an outsourcer whose work waits in tables, a run that moves it, and workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from ccfailover.model.journal import Actor
from ccfailover.model.plan import Branch, Mode, Plan, StepSpec
from ccfailover.operations.desk import Desk
from ccfailover.wiring.assemble import assemble
from tests.servers.postgres import Postgres

POLICY = """\
version: 1
name: helped
timezone: America/Chicago
store: {{path: "env:STORE", lease: 8s}}
sites:
  hq:
    kind: in_house
    probes: [{{kind: tcp, host: 127.0.0.1, port: {port}, every: 10s}}]
  acme:
    kind: outsourced
    hours: "24/7"
    licences: {{TX: 2036-01-31, CA: 2036-01-31}}
    probes: [{{kind: tcp, host: 127.0.0.1, port: {port}, every: 10s}}]
providers:
  los: {{kind: postgresql, dsn: "env:LOS"}}
  bpo: {{kind: postgresql, dsn: "env:BPO"}}
  edge:  # nothing listens there: these runs move no arrivals
    kind: http
    url: "http://127.0.0.1:9"
    destinations: {{hq: a, acme: b}}
    route:
      read: {{path: "/{{ref}}", shares: /shares}}
      shift: {{method: PUT, path: "/{{ref}}", body: '{{{{ shares | tojson }}}}'}}
queues:
  applications:
    channel: application
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: hold
    licence_field: state
    eligible: "item.state in target.licences"
    item: {{id: uli, submitted: application_date, state: state}}
    intake: {{provider: edge, ref: applications}}
    backlog:
      hq: {{provider: los, ref: waiting, claim_seconds: 8s}}
      acme: {{provider: bpo, ref: arrived, keys: keys}}
"""

TABLE = """CREATE TABLE {name} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL, claim text,
    claimed_until timestamptz, receives int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(), item_id text, submitted text,
    hops int NOT NULL DEFAULT 0, attributes jsonb, delivery_key text)"""

STEP = "applications/1-transfer-hq-acme"
PROGRAM = [sys.executable, "-m", "ccfailover"]


class Room:
    """Databases of its own for the store and both sites, and every process it has started."""

    def __init__(self, server: Postgres, place: Path) -> None:
        self.place = place
        self.policy = place / "policy.yaml"
        self.policy.write_text(POLICY.format(port=server.port))
        self.policy.chmod(0o600)
        self.store, self.los, self.bpo = (server.new_database() for _ in range(3))
        self.environment = {
            "CCFAILOVER_POLICY": str(self.policy), "STORE": self.store, "LOS": self.los,
            "BPO": self.bpo, "USER": "dana", "HOME": str(place), "PATH": os.environ["PATH"],
            "XDG_STATE_HOME": str(place / "state"), "CCFAILOVER_MIRROR": "off"}
        self.sql(self.los, TABLE.format(name="waiting"))
        self.sql(self.bpo, TABLE.format(name="arrived"),
                 "CREATE TABLE keys (key text PRIMARY KEY, at timestamptz DEFAULT now())")
        self.processes: list[subprocess.Popen[str]] = []
        self._desk: Desk | None = None

    @staticmethod
    def sql(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn, autocommit=True) as link:
            for statement in statements:
                cursor = link.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def fill(self, count: int, *, stay: int = 0) -> None:
        """Applications of licensed states, and `stay` of one where acme may not work them. Those
        that stay are the oldest, so that they are looked at first."""
        self.sql(self.los, f"""
            INSERT INTO waiting (body, submitted) SELECT convert_to(format(
                '{{"uli": "A%s", "application_date": "2026-01-%s", "state": "%s"}}', n,
                CASE WHEN n > {count} THEN '01' ELSE '02' END,
                CASE WHEN n > {count} THEN 'NY' WHEN n % 2 = 0 THEN 'TX' ELSE 'CA' END), 'UTF8'),
                CASE WHEN n > {count} THEN '2026-01-01' ELSE '2026-01-02' END
            FROM generate_series(1, {count + stay}) AS n""")

    @property
    def desk(self) -> Desk:
        if self._desk is None:
            self._desk = assemble(None, environ=self.environment)
        return self._desk

    # --- processes ---------------------------------------------------------------------------

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        log = (self.place / f"log{len(self.processes)}").open("w+")
        process = subprocess.Popen([*PROGRAM, *words], env={**self.environment, **environment},
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True)
        self.processes.append(process)
        return process

    def say(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*PROGRAM, *words], env=self.environment, text=True, timeout=100,
                              stdin=subprocess.DEVNULL, capture_output=True)

    def log(self, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
        """What a worker has told so far."""
        text = (self.place / f"log{self.processes.index(process)}").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def workers(self, count: int, *words: str) -> list[subprocess.Popen[str]]:
        """Alive, and seen to be so."""
        before = len(self.desk.store.at_work())
        made = [self.start("worker", "--json", *words) for _ in range(count)]
        self.until(lambda: len(self.desk.store.at_work()) == before + count
                   and all(self.log(each) for each in made))
        return made

    def until(self, true: Callable[[], object], seconds: float = 40.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.logs()
            time.sleep(0.05)

    def logs(self) -> str:
        return "\n".join(f"{each.args[3:]} {each.poll()}\n"  # type: ignore[index]
                         + (self.place / f"log{number}").read_text()
                         for number, each in enumerate(self.processes))

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(10)
        if self._desk is not None:
            self._desk.store.close()

    # --- runs --------------------------------------------------------------------------------

    def plan(self, **params: object) -> str:
        """A run of one step that nobody carries yet."""
        spec = StepSpec(STEP, "transfer", {"queue": "applications", "source": "hq",
                                           "target": "acme", "percent": None, "rate": None,
                                           **params},  # type: ignore[dict-item]
                        "move waiting applications", timeout=20.0, deadline=300.0)
        policy, empty = self.desk.policy, Branch("before", ())
        run, lease = self.desk.store.create_run(Plan(
            runbook="full_failover", subject="hq", mode=Mode.REAL, policy_name=policy.name,
            policy_sha256=policy.sha256, reason="a test", before=empty,
            branches=(Branch("applications", (spec,)),), after=Branch("after", ()),
            scopes=("queue:applications",), shares_before={}, shares_after={}, findings=(),
            basis={}), actor=Actor("dana", "here", 1), ttl=10.0)
        self.desk.store.lapse(lease)
        return run

    def carry(self, run: str) -> subprocess.Popen[str]:
        return self.start("resume", run, "--yes")

    # --- what came of it ---------------------------------------------------------------------

    def counts(self) -> Mapping[str, int]:
        ((waiting,),) = self.sql(self.los, "SELECT count(*) FROM waiting")
        ((arrived, different, keys),) = self.sql(
            self.bpo, "SELECT (SELECT count(*) FROM arrived), "
            "(SELECT count(DISTINCT item_id) FROM arrived), (SELECT count(*) FROM keys)")
        return {"waiting": waiting, "arrived": arrived, "different": different, "keys": keys}

    def states(self) -> dict[str, int]:
        return {state.value: count for state, count in self.desk.store.item_counts().items()
                if count}


@contextmanager
def room(server: Postgres, place: Path) -> Iterator[Room]:
    made = Room(server, place)
    try:
        yield made
    finally:
        made.close()
