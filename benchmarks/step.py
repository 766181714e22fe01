"""What a journalled step costs, over the two durable writes that it cannot do without.

A run of steps that reach nothing outside, carried by the real driver with engine, journal, lease
and heartbeat on a real file, against two appends to the same journal (the bar: what a step must
write, by what it is written with), and against two durable inserts by `sqlite3` alone (WAL,
synchronous=FULL, a transaction each). `benchmarks/run.py` measures whole processes.

    python benchmarks/step.py [--write] [--steps 200] [--rounds 7]

Exits 1 when the bar is missed, 0 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.results import machine, ratio, rows, write
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.journal import Actor
from ccfailover.model.plan import Branch, Json, Mode, Plan, StepSpec
from ccfailover.model.policy import GuardLimits, Policy, ProbeSpec
from ccfailover.runbooks.drive import Driver, Hands
from ccfailover.runbooks.run import fold
from ccfailover.runbooks.step import Binding, Observed, Step, StepContext, Truth
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store

BAR = 1.5
"""A step may cost so many times its two durable appends."""


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


class Something(Nothing):
    """A step whose aim is met once it has been applied: one look more, and a look at the lease."""

    kind = "something"
    summary = "something in memory"

    def __init__(self, spec: StepSpec, ctx: StepContext) -> None:
        super().__init__(spec, ctx)
        self._done = False

    def holds(self, snapshot: Json) -> Observed:
        return Observed(Truth.YES if self._done else Truth.NO, "done" if self._done else "to do")

    def apply(self, snapshot: Json) -> bool:
        self._done = True
        return True


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


def idle(place: Path, count: int) -> float:
    return steps(place, count, Nothing)


def acting(place: Path, count: int) -> float:
    return steps(place, count, Something)


def steps(place: Path, count: int, kind: type[Step]) -> float:
    """Seconds for a run of `count` steps, from the start of the driver to its end."""
    runtime = SystemRuntime()
    store = open_store(str(place / "steps.db"), runtime)
    run, lease = store.create_run(_plan(count), actor=_actor(), ttl=600.0)
    driver = Driver(fold(store.read(f"run:{run}")), lease, _hands(store, runtime, kind),
                    actor=_actor())
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


def _hands(store: Store, runtime: SystemRuntime, kind: type[Step]) -> Hands:
    def observe(spec: ProbeSpec) -> Reading:
        return Reading(spec.key, runtime.now(), Outcome.UNKNOWN, "not asked")

    levers: Any = None  # no step here asks for one
    policy = Policy("bench", "benchmark", "", "0" * 64, "USD", "UTC", None, {}, {}, {}, {}, {},
                    GuardLimits(), (), {})
    return Hands(policy=policy, store=store, runtime=runtime, levers=levers, make_step=kind,
                 site_state=lambda name: "healthy", observe=observe,
                 guard=lambda run, moves: ())


def measure(count: int, rounds: int) -> tuple[str, list[str]]:
    """The table, and every step that costs more than it may."""
    ways: list[tuple[str, Callable[[Path, int], float]]] = [
        ("two durable inserts, `sqlite3` alone", bare),
        ("two appends to our journal: fence, lease, hash chain", appends),
        ("**a step that has nothing to do**: snapshot, intent, look, outcome", idle),
        ("**a step that acts**: and fence, act, look again", acting),
    ]
    took: dict[str, list[float]] = {name: [] for name, _ in ways}
    for turn in range(rounds):
        shift = turn % len(ways)
        for name, way in ways[shift:] + ways[:shift]:
            with tempfile.TemporaryDirectory(prefix="ccfailover-bench-") as place:
                took[name].append(way(Path(place), count))
    inserts, appended = (took[name] for name, _ in ways[:2])
    text = rows(("", "ms", "times the bare inserts", "times the appends", "bar"), [
        (name, f"{statistics.median(took[name]) / count * 1000:.2f}",
         f"{ratio(took[name], inserts):.2f}", f"{ratio(took[name], appended):.2f}",
         f"{BAR:g}" if way in (idle, acting) else "") for name, way in ways])
    return text, [f"{name.partition(':')[0].strip('*')}: {ratio(took[name], appended):.2f} times"
                  for name, way in ways
                  if way in (idle, acting) and ratio(took[name], appended) > BAR]


def main() -> int:
    parser = argparse.ArgumentParser(description="What a journalled step costs.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    options = parser.parse_args()
    where = machine()
    table, missed = measure(options.steps, options.rounds)
    text = (f"`benchmarks/step.py` · {options.steps} steps, {options.rounds} interleaved rounds "
            f"· {where}\n\n{table}\n\n"
            + ("The bar is met." if not missed else f"Missed: {'; '.join(missed)}."))
    print(text)
    if options.write:
        write("step", text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
