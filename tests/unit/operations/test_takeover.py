"""A failover pre-empts overflows, and a run is taken from a process that has not let go of it.

The real planning, engine, steps and store on simulated platforms, in virtual time.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from ccfailover.errors import Exit, Fenced, LeaseHeld, Refused
from ccfailover.health import triggers
from ccfailover.model.journal import Actor, Lease, Record
from ccfailover.model.shares import Shares
from ccfailover.operations import check, prepare, runs
from ccfailover.operations.describe import run_facts
from ccfailover.operations.prepare import Prepared
from ccfailover.operations.status import status
from ccfailover.runbooks.drive import LEASE_SECONDS, Driver
from ccfailover.runbooks.plan import Request, changed
from ccfailover.runbooks.run import Run, RunState
from ccfailover.store import Store, this_process
from tests.unit.operations.room import Room

TUESDAY = "2026-10-20 14:00"
NORMAL = {"fraud": {"hq": 100}, "loan_calls": {"hq": 100}, "prequal": {"hq": 90, "acme": 10},
          "applications": {"hq": 100}}
FAR_AWAY = Actor("mary", "elsewhere", 7, "b", "1")


@dataclass
class StopAt:
    """Asks the run to stop as soon as a step of this kind is done."""

    kind: str
    drivers: list[Driver] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def event(self, record: Record) -> None:
        self.seen.append(record.kind)
        if record.kind == "step.succeeded" and self.kind in str(record.data.get("step")):
            self.drivers[0].stop()

    def progress(self, step: str, done: int, total: int | None, note: str) -> None:
        """Nobody looks."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Room]]:
    made: list[Room] = []

    def build(change: Callable[[dict[str, Any]], None] | None = None) -> Room:
        made.append(Room(tmp_path, TUESDAY, change, {}))
        return made[-1]

    yield build
    for room in made:
        room.close()


@pytest.fixture
def room(make: Callable[..., Room]) -> Room:
    return make()


def prepared(room: Room, runbook: str, subject: str, **more: Any) -> Prepared:
    return prepare.prepare(room.desk, Request(runbook, subject, "INC-7", **more))


def overflow(room: Room, queue: str) -> Run:
    """An overflow that was asked to stop once it had moved its queue."""
    stop = StopAt("shift_route" if queue != "applications" else "redirect_intake")
    outcome = runs.start(room.desk, prepared(room, "overflow", queue, percent=10),
                         confirmed="test", watcher=stop, on_driver=stop.drivers.append)
    assert outcome.state is RunState.PAUSED, outcome.state
    return outcome.run


def far_overflow(room: Room, queue: str) -> tuple[str, Lease]:
    """One that a process on another machine carries, which never answers."""
    plan = prepared(room, "overflow", queue, percent=10).plan
    return room.desk.store.create_run(plan, actor=FAR_AWAY, ttl=LEASE_SECONDS)


def fail_over(room: Room, **more: Any) -> runs.RunOutcome:
    room.states["hq"] = "down"
    return runs.start(room.desk, prepared(room, "full_failover", "hq", **more), confirmed="test")


def kinds(room: Room, run: str) -> list[str]:
    return [record.kind for record in room.desk.store.read(f"run:{run}")]


def test_a_failover_takes_a_paused_overflow_over_at_once(room: Room) -> None:
    """Its plan says so beforehand; nobody is asked to stop who has stopped; it is told."""
    first = overflow(room, "loan_calls")
    room.states["hq"] = "down"
    plan = prepared(room, "full_failover", "hq").plan
    assert plan.supersedes == (first.id,)
    assert [f"pre-empts overflow {first.id} on loan_calls" in found.sentence
            for found in plan.findings if found.guard == "pre_emption"] == [True]
    before = room.runtime.monotonic()
    outcome = fail_over(room)
    assert outcome.exit is Exit.DONE
    last = room.desk.store.read(f"run:{first.id}")[-1]
    assert (last.kind, dict(last.data)) == (
        "run.superseded", {"by": outcome.run.id, "pre_empted": True})
    assert "stop.requested" not in kinds(room, first.id)
    planned = room.desk.store.read(f"run:{outcome.run.id}")[0]
    assert "doubt_until" not in planned.data
    assert outcome.run.started_at - planned.at < 1_000_000, "nobody had to be waited out"
    assert room.runtime.monotonic() > before
    assert "hq" not in room.shares()["loan_calls"]
    assert any(message.event == "run.superseded" for message in room.desk.store.pending())


def test_a_rollback_of_the_failover_restores_what_both_overflows_began_with(room: Room) -> None:
    """Two queues, two overflows, one failover that stops half way: back to before all three."""
    first, second = overflow(room, "loan_calls"), overflow(room, "applications")
    assert room.shares()["loan_calls"] != NORMAL["loan_calls"]
    assert room.shares()["applications"] != NORMAL["applications"]
    room.states["hq"] = "down"
    stop = StopAt("loan_calls")
    ready = prepared(room, "full_failover", "hq")
    assert ready.plan.supersedes == (first.id, second.id)
    outcome = runs.start(room.desk, ready, confirmed="test", watcher=stop,
                         on_driver=stop.drivers.append)
    assert outcome.state is RunState.PAUSED
    assert {run.id for run in runs.open_runs(room.desk)} == {outcome.run.id}
    room.states.clear()
    back = runs.rollback(room.desk, outcome.run.id, reason="home is well")
    assert back.state is RunState.ROLLED_BACK, run_facts(room.desk, back.run, back.state)
    assert room.shares() == NORMAL
    assert room.desk.store.leases() == [] and room.desk.store.verify() == []


@pytest.mark.parametrize(("option", "seconds"), [(None, 10.0), ("3s", 3.0)])
def test_one_that_does_not_stop_is_fenced_and_waited_out(
        make: Callable[..., Room], option: str | None, seconds: float) -> None:
    """Asked, given `preempt_within`, then taken; and nothing is moved for one lease time more."""
    def change(policy: dict[str, Any]) -> None:
        if option:
            policy["guards"]["preempt_within"] = option

    room = make(change)
    run, lease = far_overflow(room, "loan_calls")
    outcome = fail_over(room)
    assert outcome.exit is Exit.DONE
    asked, taken = room.desk.store.read(f"run:{run}")[-2:]
    assert asked.kind == "stop.requested"
    assert asked.data["reason"] == "pre-empted by full_failover hq: INC-7"
    assert seconds <= (taken.at - asked.at) / 1e6 < seconds + 5
    assert (outcome.run.started_at - taken.at) / 1e6 >= LEASE_SECONDS
    with pytest.raises(Fenced, match="which pre-empted it") as caught:
        room.desk.store.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
    assert outcome.run.id in str(caught.value)


def test_an_overflow_that_ends_while_it_is_asked_is_no_longer_in_the_way(room: Room) -> None:
    """The plan is made anew once it stands still: nothing is superseded then."""
    run, lease = far_overflow(room, "loan_calls")

    class Ending:
        def event(self, record: Record) -> None:
            if record.kind == "stop.requested":
                room.desk.store.end_run(lease, "run.succeeded", {}, actor="mary")

        def progress(self, step: str, done: int, total: int | None, note: str) -> None:
            """Nobody looks."""

    room.states["hq"] = "down"
    outcome = runs.start(room.desk, prepared(room, "full_failover", "hq"), confirmed="test",
                         watcher=Ending())
    assert outcome.exit is Exit.DONE and outcome.run.plan.supersedes == ()
    assert kinds(room, run)[-1] == "run.succeeded"


def test_only_overflows_are_pre_empted(room: Room) -> None:
    """With a switchover in the way, too, the start is refused, and no overflow is stopped."""
    run, _ = far_overflow(room, "loan_calls")
    other, _ = room.desk.store.create_run(
        prepared(room, "switchover", "hq", queues=("applications",)).plan, actor=FAR_AWAY,
        ttl=LEASE_SECONDS)
    with pytest.raises(LeaseHeld) as caught:
        fail_over(room)
    assert other in str(caught.value) and run in str(caught.value)
    assert "stop.requested" not in kinds(room, run) + kinds(room, other)


@pytest.mark.parametrize("runbook", ["switchover", "failback", "overflow"])
def test_nothing_but_a_failover_pre_empts(room: Room, runbook: str) -> None:
    """Planned moves wait until the overflow has ended."""
    run = overflow(room, "loan_calls").id
    plan = prepared(room, runbook, "loan_calls" if runbook == "overflow" else "hq").plan
    assert plan.supersedes == () and plan.pre_empts == {}
    if plan.scopes:
        with pytest.raises(LeaseHeld, match=run):
            room.desk.store.create_run(plan, actor=room.desk.actor, ttl=LEASE_SECONDS)


def test_what_an_overflow_moves_meanwhile_voids_no_plan(room: Room) -> None:
    """A plan made while an overflow was under way still fits once that has gone on; one in whose
    way there was none does not: nobody was told that it would stop something."""
    room.states["hq"] = "down"
    alone = prepared(room, "full_failover", "hq").plan
    room.states.clear()
    overflow(room, "loan_calls")
    room.states["hq"] = "down"
    made = prepared(room, "full_failover", "hq").plan
    lever = room.policy.queues["loan_calls"].route
    assert lever is not None
    room.platforms[lever.provider].add_route(lever.ref, Shares({"hq": 70, "acme": 30}))
    now = prepared(room, "full_failover", "hq").plan
    assert made.shares_before != now.shares_before and changed(room.policy, made, now) == []
    differences = changed(room.policy, alone, now)
    assert any("would pre-empt overflow r1-" in text for text in differences), differences


def test_an_overflow_never_starts_by_itself_where_a_failover_is(room: Room) -> None:
    """Its trigger is blocked while the failover is open; a failover's is not by an overflow."""
    asked = room.policy.triggers.values()
    overflows = [t for t in asked if t.runbook == "overflow"]
    failovers = [t for t in asked if t.runbook == "full_failover"]
    assert overflows and failovers
    room.states["hq"] = "down"
    world = prepared(room, "full_failover", "hq").world

    def blocked(trigger: Any, runbook: str) -> bool:
        around = triggers._Around(
            room.policy, world, {}, room.runtime.now(), None, None,
            [triggers.OpenRun("r1", runbook, "hq", "running", tuple(room.policy.queues))])
        return any(text.startswith("r1 ") for text in around._hard(trigger))

    assert all(blocked(trigger, "full_failover") for trigger in overflows)
    assert not any(blocked(trigger, "overflow") for trigger in failovers)
    assert all(blocked(trigger, "switchover") for trigger in failovers)


# --- stealing ------------------------------------------------------------------------------------


def test_a_live_lease_is_stolen_only_with_a_reason(room: Room) -> None:
    """Refused without, naming --steal; with one it is journaled twice, told, and waited out."""
    run, lease = far_overflow(room, "loan_calls")
    with pytest.raises(LeaseHeld) as caught:
        runs.resume(room.desk, run)
    assert "--steal --reason" in str(caught.value.hint)
    outcome = runs.resume(room.desk, run, confirmed="test", steal="its machine hangs")
    assert outcome.exit is Exit.DONE
    (stolen,) = [r for r in room.desk.store.read(f"run:{run}") if r.kind == "lease.stolen"]
    assert stolen.data["from"] == "mary@elsewhere[7]"
    assert stolen.data["reason"] == "its machine hangs"
    assert [r.data for r in room.desk.store.read("automation") if r.kind == "lease.stolen"] == [
        stolen.data]
    started = next(r for r in room.desk.store.read(f"run:{run}") if r.kind == "run.started")
    assert (started.at - stolen.at) / 1e6 >= LEASE_SECONDS
    assert any(message.event == "run.stolen" and "its machine hangs" in message.body
               for message in room.desk.store.pending())
    with pytest.raises(Fenced):
        room.desk.store.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)


def test_a_theft_of_what_nobody_holds_is_a_plain_resume(room: Room) -> None:
    """A paused run needs none: nothing is journaled, nobody is waited for."""
    run = overflow(room, "loan_calls").id
    assert runs.resume(room.desk, run, steal="in a hurry").exit is Exit.DONE
    assert "lease.stolen" not in kinds(room, run)


def test_the_wait_outlives_the_thief(room: Room) -> None:
    """Whoever resumes after a thief that died while it waited, waits for the rest of that time:
    the one that was robbed may still be at work."""
    run, _ = far_overflow(room, "loan_calls")
    child = subprocess.Popen(["true"])
    child.wait()
    me = this_process("joe")
    thief = Actor("joe", me.host, child.pid, me.boot, "1")
    room.desk.store.acquire(run, actor=thief, ttl=LEASE_SECONDS, steal="it hangs")
    outcome = runs.resume(room.desk, run)
    stolen = next(r for r in room.desk.store.read(f"run:{run}") if r.kind == "lease.stolen")
    assert outcome.run.started_at is not None
    assert (outcome.run.started_at - stolen.at) / 1e6 >= LEASE_SECONDS - 1


class Meanwhile:
    """The room's store, with something that others do just before a lease is taken."""

    def __init__(self, store: Store, others: Callable[[Store], None]) -> None:
        self._store, self._others = store, others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def acquire(self, *args: Any, **more: Any) -> Any:
        self._others(self._store)
        return self._store.acquire(*args, **more)


def test_a_run_that_was_rolled_back_meanwhile_is_not_carried_forward(room: Room) -> None:
    """Whoever resumes looked at a run that went forward; between that look and the lease somebody
    began to roll it back. What they undid is not done again."""
    run, store = overflow(room, "loan_calls").id, room.desk.store

    def roll_back(store: Store) -> None:
        lease, _ = store.acquire(run, actor=this_process("joe"), ttl=LEASE_SECONDS)
        store.append(f"run:{run}", "rollback.started", {}, actor="joe", lease=lease)
        store.lapse(lease)

    desk = replace(room.desk, store=cast("Store", Meanwhile(store, roll_back)))
    with pytest.raises(Refused, match="has been rolled back since") as caught:
        runs.resume(desk, run)
    assert caught.value.guard == "direction" and f"runs show {run}" in str(caught.value.hint)
    assert kinds(room, run)[-1] == "rollback.started"
    assert runs.resume(room.desk, run).state is RunState.ROLLED_BACK, "looked at anew, it ends"


def test_an_abort_with_a_theft_ends_the_run(room: Room) -> None:
    """Without one it only asks a live run to stop; with one the scope is free, after the wait."""
    run, _ = far_overflow(room, "loan_calls")
    with pytest.raises(LeaseHeld, match="asked to stop"):
        runs.abort(room.desk, run, reason="x")
    before = room.runtime.monotonic()
    assert runs.abort(room.desk, run, reason="x", steal="it hangs").state is RunState.ABORTED
    assert room.runtime.monotonic() - before >= LEASE_SECONDS
    assert room.desk.store.leases() == []


def test_status_and_check_tell_of_the_run_that_pre_empted(room: Room) -> None:
    """The one that was superseded is open no more."""
    first = overflow(room, "loan_calls")
    room.states["hq"] = "down"
    stop = StopAt("confirm")
    runs.start(room.desk, prepared(room, "full_failover", "hq"), confirmed="test", watcher=stop,
               on_driver=stop.drivers.append)
    assert [run.runbook for run in check.open_runs(room.desk)] == ["full_failover"]
    (row,) = status(room.desk, probe=False).facts["runs"]
    assert (row["runbook"], row["supersedes"]) == ("full_failover", [first.id])
