"""What a journalled step costs: over two bare durable writes, and as a whole run beside a peer.

In process: a run of no-op steps, carried by the real driver with engine, journal, lease and
heartbeat on a real file, against two durable inserts into the same kind of file by `sqlite3` alone
(WAL, synchronous=FULL, a transaction each), and against two appends to our journal.

As a process: `ccfailover switchover` with a recipe of six steps, four that only look and two that
set a route of a switch on loopback and read it back, against `chaos run` of six actions that call
a function of the standard library. Ours also reads a policy, probes two sites and the switch,
plans, leases and journals.

    python benchmarks/step.py [--write] [--steps 200] [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import startup
from benchmarks.results import ROOT, machine, ratio, rows, write
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.journal import Actor
from ccfailover.model.plan import Branch, Json, Mode, Plan, StepSpec
from ccfailover.model.policy import GuardLimits, Policy, ProbeSpec
from ccfailover.runbooks.drive import Driver, Hands
from ccfailover.runbooks.run import fold
from ccfailover.runbooks.step import Binding, Observed, Step, Truth
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store

RUNBOOK = """\
runbooks:
  switchover:
    before: [confirm, confirm]
    branch: [shift_route]
    after: [confirm, confirm]
"""
"""Six with the two queues of `startup.POLICY`."""


class Nothing(Step):
    """A step whose aim is always met."""

    kind = "nothing"
    summary = "nothing to do"
    PARAMS: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        return []

    def holds(self, snapshot: Json) -> Observed:
        return Observed(Truth.YES, "nothing to do")


def bare(place: Path, count: int) -> float:
    """Seconds for two durable inserts, `count` times."""
    db = sqlite3.connect(place / "bare.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE journal (seq INTEGER PRIMARY KEY, text TEXT, hash TEXT)")
    text = json.dumps({"step": "b/1-nothing", "intent": "x" * 250})
    began = time.perf_counter()
    for _ in range(2 * count):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO journal (text, hash) VALUES (?, ?)", (text, "0" * 64))
        db.execute("COMMIT")
    took = time.perf_counter() - began
    db.close()
    return took


def appends(place: Path, count: int) -> float:
    """Seconds for two appends to the journal under a lease, `count` times."""
    store = open_store(str(place / "appends.db"), SystemRuntime())
    run, lease = store.create_run(_plan(1), actor=_actor(), ttl=600.0)
    began = time.perf_counter()
    for number in range(2 * count):
        store.append(f"run:{run}", "note", {"text": "x" * 250, "n": number}, actor="bench",
                     lease=lease)
    took = time.perf_counter() - began
    store.close()
    return took


def steps(place: Path, count: int) -> float:
    """Seconds for a run of `count` steps, from the start of the driver to its end."""
    runtime = SystemRuntime()
    store = open_store(str(place / "steps.db"), runtime)
    run, lease = store.create_run(_plan(count), actor=_actor(), ttl=600.0)
    driver = Driver(fold(store.read(f"run:{run}")), lease, _hands(store, runtime), actor=_actor())
    began = time.perf_counter()
    driver.go(back=False)
    took = time.perf_counter() - began
    state = fold(store.read(f"run:{run}")).phase.value
    store.close()
    if state != "succeeded":
        raise SystemExit(f"the run of no-op steps {state}")
    return took


def _actor() -> Actor:
    return Actor("bench", "here", 1)


def _plan(count: int) -> Plan:
    specs = tuple(StepSpec(f"b/{number}-nothing", "nothing", {}, "nothing")
                  for number in range(1, count + 1))
    return Plan(
        runbook="bench", subject="hq", mode=Mode.REAL, policy_name="bench",
        policy_sha256="0" * 64, reason="benchmark", before=Branch("before", ()),
        branches=(Branch("b", specs),), after=Branch("after", ()), scopes=("queue:b",),
        shares_before={}, shares_after={}, findings=(), basis={})


def _hands(store: Store, runtime: SystemRuntime) -> Hands:
    def observe(spec: ProbeSpec) -> Reading:
        return Reading(spec.key, runtime.now(), Outcome.UNKNOWN, "not asked")

    levers: Any = None  # no step here asks for one
    policy = Policy("bench", "benchmark", "", "0" * 64, "USD", "UTC", None, {}, {}, {}, {}, {},
                    GuardLimits(), (), {})
    return Hands(policy=policy, store=store, runtime=runtime, levers=levers, make_step=Nothing,
                 site_state=lambda name: "healthy", observe=observe,
                 guard=lambda run, moves: ())


def in_process(count: int, rounds: int) -> str:
    ways: list[tuple[str, Callable[[Path, int], float]]] = [
        ("two durable inserts, `sqlite3` alone", bare),
        ("two appends to our journal: fence, lease, hash chain", appends),
        ("**a step that has nothing to do**: snapshot, intent, look, outcome", steps),
    ]
    took: dict[str, list[float]] = {name: [] for name, _ in ways}
    for turn in range(rounds):
        for name, way in ways[turn % 3:] + ways[:turn % 3]:
            with tempfile.TemporaryDirectory(prefix="ccfailover-bench-") as place:
                took[name].append(way(Path(place), count))
    first = took[ways[0][0]]
    return rows(("", "ms", "times the bare inserts"), [
        (name, f"{statistics.median(took[name]) / count * 1000:.2f}",
         f"{ratio(took[name], first):.2f}") for name, _ in ways])


def as_processes(rounds: int) -> str:
    program = str(Path(sys.executable).parent / "ccfailover")
    chaos = ROOT / ".venv-bench" / "bin" / "chaos"
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix="ccfailover-bench-")))
        env = stack.enter_context(startup.world(place))
        policy = place / "policy.yaml"
        policy.write_text(policy.read_text() + RUNBOOK)
        experiment = place / "experiment.json"
        experiment.write_text(json.dumps({
            "title": "six", "description": "six actions that do nothing", "method": [
                {"type": "action", "name": f"step {number}", "provider": {
                    "type": "python", "module": "platform", "func": "node"}}
                for number in range(6)]}))
        startup.run_once(startup.Command("check", [program, "check"], good=(0, 1, 2)), env)
        plan = startup.answer([program, "plan", "switchover", "hq", "--reason", "bench", "--json"],
                              env)["hash"]
        listed = [startup.Command("ccfailover switchover, six steps", [
            program, "switchover", "hq", "--reason", "bench", "--yes", "--plan", str(plan)],
            good=(0, 11))]
        if chaos.exists():
            listed.append(startup.Command("chaos run, six actions", [
                str(chaos), "--no-version-check", "run", str(experiment)], ours=False))
        timings = [startup.Timing(command) for command in listed]
        for turn in range(startup.WARM_UP + rounds):
            for timing in timings if turn % 2 else timings[::-1]:
                startup.Switch.shares.clear()  # so that there is something to move
                wall, cpu, timing.failure = startup.run_once(timing.command, env)
                if turn >= startup.WARM_UP:
                    timing.wall.append(wall)
                    timing.cpu.append(cpu)
    failed = [f"{one.command.label}: {one.failure}" for one in timings if one.failure]
    if failed:
        return "Not measured: " + "; ".join(failed)
    return rows(("process", "ms", "CPU ms", "times ours"), [
        (f"**`{one.command.label}`**" if one.command.ours else f"`{one.command.label}`",
         f"{statistics.median(one.wall) * 1000:.0f}", f"{statistics.median(one.cpu) * 1000:.0f}",
         f"{one.ratio(timings[0]):.2f}") for one in timings])


def main() -> int:
    parser = argparse.ArgumentParser(description="What a journalled step costs.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    options = parser.parse_args()
    where = machine()
    text = f"`benchmarks/step.py` · {options.steps} steps, {options.rounds} interleaved rounds " \
           f"· {where}\n\n{in_process(options.steps, options.rounds)}\n\n" \
           f"{as_processes(options.rounds)}"
    print(text)
    if options.write:
        write("step", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
