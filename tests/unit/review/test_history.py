"""What earlier runs left behind, as status, check and the guards read it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from ccfailover.model.journal import Actor
from ccfailover.model.plan import Branch, Mode, Plan, StepSpec
from ccfailover.operations import history
from ccfailover.runbooks.run import fold
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store, this_process

HOUR = history.HOUR


class Clock(SystemRuntime):
    at = 1_795_000_000_000_000

    def now(self) -> int:
        return self.at


@dataclass(frozen=True)
class Guards:
    flap_block: float = 3600.0


@dataclass(frozen=True)
class Policy:
    guards: Guards
    queues: dict[str, None]
    timezone: str = "UTC"


@dataclass(frozen=True)
class Desk:
    store: Store
    policy: Policy
    runtime: Clock


@pytest.fixture
def desk() -> Any:
    clock = Clock()
    store = open_store(":memory:", clock)
    yield Desk(store, Policy(Guards(), {"calls": None}), clock)
    store.close()


def plan(runbook: str, *stages: dict[str, int], mode: Mode = Mode.REAL, cost: str = "0") -> Plan:
    steps = tuple(
        StepSpec(f"calls/{n}", "shift_route", {"queue": "calls", "to": to}, "shift",
                 lever="edge:calls") for n, to in enumerate(stages, 1))
    nothing = Branch("before", ())
    return Plan(runbook, "hq", mode, "p", "0" * 64, "why", nothing, (Branch("calls", steps),),
                nothing, ("queue:calls",), {"calls": {"hq": 100}}, {"calls": stages[-1]}, (),
                {}, cost_per_hour=cost)


def ended(desk: Desk, what: Plan, *done: str, ending: str = "run.succeeded") -> str:
    """A run of which the steps `done` succeeded."""
    actor: Actor = this_process("kim")
    run, lease = desk.store.create_run(what, actor=actor, ttl=60)
    desk.store.append(f"run:{run}", "run.started", {}, actor="kim", lease=lease)
    for step in done:
        for kind in ("step.started", "step.succeeded"):
            desk.store.append(f"run:{run}", kind, {"step": step}, actor="kim", lease=lease)
    desk.store.end_run(lease, ending, {}, actor="kim")
    return run


def test_an_aborted_run_is_where_it_stopped(desk: Desk) -> None:
    """Half a shift is in effect, and what the plan aimed at is not."""
    ended(desk, plan("full_failover", {"hq": 50, "acme": 50}, {"acme": 100}), "calls/1",
          ending="run.aborted")
    assert history.last_movers(desk)["calls"][2] == {"hq": 50, "acme": 50}


def test_neither_a_drill_nor_a_rollback_moved_anything(desk: Desk) -> None:
    """The journal expects what was before them."""
    ended(desk, plan("full_failover", {"acme": 100}, mode=Mode.SHADOW), "calls/1")
    ended(desk, plan("full_failover", {"acme": 100}), "calls/1", ending="run.rolled_back")
    assert history.last_movers(desk) == {}


def test_the_flap_block_counts_from_the_end_of_a_move(desk: Desk) -> None:
    """A run that began before the window and ended inside it blocks; an ack lifts it."""
    desk.runtime.at += HOUR
    ended(desk, plan("full_failover", {"acme": 100}), "calls/1")
    assert history.last_moves(desk) == {"edge:calls": desk.runtime.at}
    desk.store.set_fact("acked_at", desk.runtime.at, actor="kim")
    assert history.last_moves(desk) == {}


def test_cost_ends_with_the_way_back(desk: Desk) -> None:
    """Two hours at 100 are 200, however long ago the failback was."""
    desk.runtime.at -= desk.runtime.at % (24 * HOUR)
    ended(desk, plan("full_failover", {"acme": 100}, cost="100"), "calls/1")
    desk.runtime.at += 2 * HOUR
    assert history.spent_today(desk) == Decimal(200)
    ended(desk, plan("failback", {"hq": 100}), "calls/1")
    desk.runtime.at += 9 * HOUR
    assert history.spent_today(desk) == Decimal(200)


def test_yesterdays_cost_is_not_todays(desk: Desk) -> None:
    """The daily cap begins anew at midnight; what still runs costs from there."""
    desk.runtime.at -= desk.runtime.at % (24 * HOUR)
    ended(desk, plan("full_failover", {"acme": 100}, cost="100"), "calls/1")
    desk.runtime.at += 25 * HOUR
    assert history.spent_today(desk) == Decimal(100)


def test_an_undo_that_was_skipped_is_over_and_told(desk: Desk) -> None:
    """A rollback goes on without it, and never calls itself clean."""
    run, lease = desk.store.create_run(plan("full_failover", {"acme": 100}),
                                       actor=this_process("kim"), ttl=60)
    for kind, data in (("run.started", {}), ("step.started", {"snapshot": {}}),
                       ("rollback.started", {}), ("undo.started", {}), ("undo.failed", {}),
                       ("step.skipped", {"reason": "by hand"})):
        desk.store.append(f"run:{run}", kind, {"step": "calls/1", **data}, actor="kim",
                          lease=lease)
    found = fold(desk.store.read(f"run:{run}"))
    assert not found.steps["calls/1"].touched
    assert any("by hand" in text for text in found.exceptions())
