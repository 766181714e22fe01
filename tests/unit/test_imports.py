"""What a start may import: `--help`, `status`, `check` and the verbs that move work are held to
the lists below.

A start is most of what they cost, and it grows by one harmless import at a time. Add a module here
only with `python benchmarks/startup.py` (for a verb that moves work: `benchmarks/step.py`) before
and after.
"""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from ccfailover.model.journal import Actor
from ccfailover.model.plan import Branch, Mode, Plan, StepSpec
from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store

HELP = {"", "commands", "errors"}

STATUS = HELP | {
    "commands.common", "commands.status",
    "health", "health.assess", "health.current", "health.jobs",
    "model", "model.health", "model.journal", "model.policy", "model.shares",
    "operations", "operations.desk", "operations.drift", "operations.history", "operations.look",
    "operations.run_list", "operations.status",
    "policy", "policy.blocks", "policy.build", "policy.dates", "policy.find", "policy.kinds",
    "policy.load", "policy.places", "policy.read", "policy.stamp", "policy.units",
    "runtime",
    "store", "store.chain", "store.db", "store.files", "store.holder", "store.journal",
    "store.lease_words", "store.leases", "store.books", "store.ledger", "store.migrations",
    "store.observations", "store.outbox", "store.pacing", "store.record", "store.sqlite",
    "wiring", "wiring.assemble", "wiring.built", "wiring.kinds",
}
"""Of a store in which nothing ever ran."""

RUNS = {"model.plan", "operations.describe", "runbooks", "runbooks.run",
        "reports", "reports.objectives"}
"""Added where there is a run to tell of."""

CHECK = STATUS - {"commands.status"} | {
    "commands.check", "operations.check", "operations.news", "model.plan",
    "health.expectation", "health.nagios", "health.names", "health.patience", "health.perfdata",
    "health.poller", "health.probes", "health.probes.http", "health.probes.route",
    "health.references", "health.sweep", "health.triggers", "health.values", "health.views",
    "model.capabilities", "model.items", "policy.conditions", "policy.values",
    "providers", "providers.bodies", "providers.catching", "providers.curl",
    "providers.documents", "providers.http", "providers.http.about", "providers.http.levers",
    "providers.http.schema", "providers.http.session", "providers.http.settings",
    "providers.http.template", "providers.params", "providers.patience", "providers.wrappers",
    "providers.wrappers.dry", "providers.wrappers.patient", "providers.wrappers.views",
    "store.migrations.m0001", "store.migrations.m0002", "store.migrations.m0003",
    "store.migrations.m0004", "store.migrations.m0005",
}
"""Of a policy that names only `http`, with a new store, so that every probe is due."""

ACT = (CHECK | RUNS) - {
    "commands.check", "health.nagios", "health.perfdata", "health.triggers", "health.values",
    "operations.check", "policy.conditions", "store.migrations.m0001", "store.migrations.m0002",
    "store.migrations.m0003", "store.migrations.m0004", "store.migrations.m0005",
} | {
    "commands.acting", "commands.failover", "commands.leaving", "commands.live",
    "commands.switchover",
    "notify", "notify.outbox", "operations.prepare", "operations.runs", "operations.step_guards",
    "operations.until",
    "planning", "planning.allocation", "planning.capacity", "planning.cost",
    "planning.eligibility", "planning.guards", "planning.placing", "planning.receivers",
    "policy.figures", "policy.lever_rules", "policy.references", "policy.rules",
    "runbooks.drive", "runbooks.effects", "runbooks.engine", "runbooks.guarding",
    "runbooks.lever_step", "runbooks.moved", "runbooks.plan", "runbooks.ramp", "runbooks.recipe",
    "runbooks.restoring", "runbooks.shared", "runbooks.step", "runbooks.steps",
    "runbooks.steps.announce", "runbooks.steps.confirm", "runbooks.steps.drain",
    "runbooks.steps.hold_consumers", "runbooks.steps.notify", "runbooks.steps.redirect_intake",
    "runbooks.steps.shift_route", "runbooks.steps.transfer", "runbooks.steps.verify",
    "runbooks.takeover",
}
"""Of a whole failover or switchover under a policy that names only `http` and has no backlogs."""

POLICY = """\
version: 1
name: imports
timezone: America/Chicago
store: {place}/store.db
sites:
  hq:
    kind: in_house
    probes: [{{kind: http, url: "{url}/health", every: 1s}}]
    staff: {{calls: {{agents: 40, handle_time: 300s}}}}
  acme:
    kind: outsourced
    hours: "24/7"
    probes: [{{kind: http, url: "{url}/acme", every: 1s}}]
    staff: {{calls: {{agents: 60, handle_time: 330s}}}}
providers:
  edge:
    kind: http
    url: "{url}"
    destinations: {{hq: trunk_1, acme: trunk_7, message: announcement}}
    route:
      read: {{path: "/routes/{{ref}}", shares: /shares}}
      shift: {{method: PUT, path: "/routes/{{ref}}",
              body: '{{"shares": {{{{ shares | tojson }}}}}}'}}
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
triggers:
  hq_down: {{when: 'site.hq.state == "down"', hold: 60s, run: full_failover, mode: advise}}
"""

PROGRAM = """\
import contextlib, io, json, sys
before = set(sys.modules)
from ccfailover.commands import run
class Stream(io.StringIO):
    def isatty(self):
        return sys.argv[1] == "terminal"
said = Stream()
with contextlib.redirect_stdout(said):
    code = run(sys.argv[2:])
print(json.dumps([code, sorted(set(sys.modules) - before), said.getvalue()]))
"""


DEAR = {"asyncio", "email", "importlib_metadata", "logging", "ssl", "unittest", "xml"}


class Anything(http.server.BaseHTTPRequestHandler):
    """Every site is well, and the route is where it was set."""

    shares: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        self._answer(json.dumps({"shares": self.shares or {"trunk_1": 100}}).encode())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.shares.update(json.loads(body)["shares"])
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet."""


class Started:
    """Starts the program anew and tells what it imported."""

    def __init__(self, place: Path, url: str) -> None:
        self.place = place
        policy = place / "policy.yaml"
        policy.write_text(POLICY.format(place=place, url=url))
        self.environment = {"CCFAILOVER_POLICY": str(policy), "HOME": str(place),
                            "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

    def __call__(self, *words: str, out: str = "pipe",
                 good: tuple[int, ...] = (0, 1, 2)) -> tuple[set[str], set[str]]:
        """Our modules, without `ccfailover.`, and the others' top-level packages.

        Of the standard library only what is dear and easily brought in by others is told.
        """
        done = subprocess.run([sys.executable, "-c", PROGRAM, out, *words], env=self.environment,
                              capture_output=True, text=True, timeout=60, cwd=self.place)
        assert done.returncode == 0, done.stderr
        code, names, self.said = json.loads(done.stdout)
        assert code in good, done.stderr + self.said
        ours = {name.removeprefix("ccfailover").removeprefix(".") for name in names
                if name.split(".")[0] == "ccfailover"}
        cheap = sys.stdlib_module_names - DEAR
        tops = {name.split(".")[0] for name in names} - cheap - {"ccfailover"}
        # What Cython puts there for PyYAML's own extension.
        return ours, {top for top in tops if not top.startswith(("_cython", "cython_runtime"))}

    def leave_a_run(self) -> None:
        """An unfinished run in the journal, whose holder is gone."""
        store = open_store(str(self.place / "store.db"), SystemRuntime())
        shift = StepSpec("calls/1-shift_route", "shift_route", {"queue": "calls"}, "shift calls")
        store.create_run(Plan(
            runbook="full_failover", subject="hq", mode=Mode.REAL, policy_name="imports",
            policy_sha256="0" * 64, reason="a test", before=Branch("before", ()),
            branches=(Branch("calls", (shift,)),), after=Branch("after", ()),
            scopes=("queue:calls",), shares_before={"calls": {"hq": 100}},
            shares_after={"calls": {"acme": 100}}, findings=(), basis={},
        ), actor=Actor("somebody", "elsewhere", 1), ttl=0.001)
        store.close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Anything)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Anything.shares.clear()
    start = Started(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
    start("check")  # validates once and leaves a stamp, and something to show
    assert "OK" in start.said, start.said
    try:
        yield start
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_help_imports_only_click(started: Started) -> None:
    """`--help` and `--version` import click, the verbs' table and the errors."""
    for word in ("--help", "--version"):
        ours, theirs = started(word)
        assert ours <= HELP
        assert theirs <= {"click", "email"}  # the version is read from metadata in mail's form


def test_status_as_json_imports_no_rich(started: Started) -> None:
    """`status --json` reads a policy and a store, and nothing that probes, runs or draws."""
    ours, theirs = started("status", "--json")
    assert ours <= STATUS
    assert theirs <= {"click", "yaml"}  # above all no psycopg, of a store in a file


def test_the_table_needs_rich_at_a_terminal_only(started: Started) -> None:
    """At a terminal the table of `status` costs rich; into a file or a pipe nothing."""
    ours, theirs = started("status")
    assert ours <= STATUS
    assert theirs <= {"click", "yaml"}
    assert "hq" in started.said and "healthy" in started.said
    ours, theirs = started("status", out="terminal")
    assert ours <= STATUS
    assert "rich" in theirs and theirs <= {"click", "yaml", "rich"} | DEAR
    assert "hq" in started.said and "healthy" in started.said


def test_a_run_to_tell_of_adds_the_fold(started: Started) -> None:
    """With a run in the journal `status` folds it: neither engine, planner nor driver."""
    started.leave_a_run()
    ours, theirs = started("status", "--json")
    assert "runbooks.run" in ours
    assert ours <= STATUS | RUNS
    assert theirs <= {"click", "yaml"}


def test_check_imports_what_the_policy_names(started: Started) -> None:
    """A policy of `http` alone: no other probe, no other provider, no boto3."""
    for file in started.place.glob("store.db*"):
        file.unlink()  # so that every probe is due
    ours, theirs = started("check")
    assert "health.probes.http" in ours
    assert ours <= CHECK
    assert theirs <= {"click", "yaml", "cel_expr_python", "pycurl"}


@pytest.mark.parametrize("verb", ["failover", "switchover"])
def test_moving_work_imports_what_the_policy_names(started: Started, verb: str) -> None:
    """A whole run, without a terminal: no boto3 (no AWS in the policy), no schema library (the
    policy was valid a moment ago), no Jinja (the body only puts shares in), no tenacity (nothing
    failed), no CEL and no calendar (nothing asked), neither rich nor asyncio."""
    started("plan", verb, "hq", "--reason", "a test", "--json")
    made = re.search(r'"hash": "([0-9a-f]{12})"', started.said)
    assert made is not None, started.said
    ours, theirs = started(verb, "hq", "--reason", "a test", "--yes", "--plan", made[1])
    assert "succeeded" in started.said
    assert Anything.shares == {"trunk_1": 0, "trunk_7": 100, "announcement": 0}
    assert not ours - ACT, sorted(ours - ACT)
    assert theirs <= {"click", "yaml", "pycurl"}


def test_a_policy_without_a_stamp_is_validated(started: Started) -> None:
    """Only the stamp spares `status` the schema: a changed policy is checked in full."""
    policy = started.place / "policy.yaml"
    policy.write_text(policy.read_text() + "# changed\n")
    assert "jsonschema" in started("status", "--json")[1]
    assert "jsonschema" not in started("status", "--json")[1]


def test_an_expired_licence_is_refused_although_the_policy_is_stamped(started: Started) -> None:
    """What lapses by itself is judged on the day: the stamp spares the schema, not the guard."""
    policy = started.place / "policy.yaml"
    policy.write_text(policy.read_text().replace(
        '    hours: "24/7"\n', '    hours: "24/7"\n    licences: {TX: 2026-01-31}\n', 1).replace(
        "    channel: voice\n", "    channel: voice\n    licence_field: state\n"
        "    fields: [state]\n", 1))
    started("status", "--json")  # validates: a lapse keeps nobody from using the policy
    started("plan", "failover", "hq", "--reason", "a test", "--json")
    made = re.search(r'"hash": "([0-9a-f]{12})"', started.said)
    assert made is not None, started.said
    theirs = started("failover", "hq", "--reason", "a test", "--yes", "--plan", made[1])[1]
    assert "jsonschema" not in theirs
    assert "acme may not take calls: its last licence ended on 2026-01-31" in started.said
    assert Anything.shares == {"trunk_1": 0, "trunk_7": 0, "announcement": 100}
