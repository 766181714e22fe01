"""A lever that reads other than the journal says: noticed, journaled once, told once, cleared.

The real `check`, `status` and runs on simulated platforms, in virtual time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ccfailover.model.journal import Record
from ccfailover.model.shares import Shares
from ccfailover.operations import check, drift, prepare, run_list, runs, upkeep
from ccfailover.operations.look import look as fresh_look
from ccfailover.operations.status import status
from ccfailover.runbooks.drive import LEASE_SECONDS, Driver
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import Run, RunState
from tests.unit.operations.room import Room

TUESDAY = "2026-10-20 14:00"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path, TUESDAY, None, {})
    look(made)
    yield made
    made.close()


@dataclass
class Stop:
    """Asks the run to stop once an event of this kind names this step; or dies there."""

    kind: str
    step: str
    dies: bool = False
    drivers: list[Driver] = field(default_factory=list)

    def event(self, record: Record) -> None:
        if record.kind == self.kind and self.step in str(record.data.get("step")):
            if self.dies:
                raise KeyboardInterrupt
            self.drivers[0].stop()

    def progress(self, step: str, done: int, total: int | None, note: str) -> None:
        """Nobody looks."""


def look(room: Room) -> check.Checked:
    """A check once every probe is due again."""
    room.runtime.sleep(120)
    return check.check(room.desk)


def move(room: Room, shares: Mapping[str, int], queue: str = "loan_calls") -> None:
    """A write from outside lands: somebody's hand, or a run's that nobody waits for any more."""
    lever = room.policy.queues[queue].route or room.policy.queues[queue].intake
    assert lever is not None
    room.platforms[lever.provider].add_route(lever.ref, Shares(shares))


def overflow(room: Room, stop: Stop | None = None) -> runs.RunOutcome:
    ready = prepare.prepare(room.desk, Request("overflow", "loan_calls", "peak", percent=10))
    return runs.start(room.desk, ready, confirmed="test", watcher=stop,
                      on_driver=stop.drivers.append if stop else None)


def seen(room: Room) -> list[tuple[str, str]]:
    return [(record.kind, record.data["queue"]) for record in room.desk.store.read("automation")
            if record.kind.startswith("drift.")]


def told(room: Room) -> list[str]:
    return [message.body for message in room.desk.store.pending(500)
            if message.event == "drift.seen"]


def notes(said: check.Checked) -> list[str]:
    return [text for text in said.facts["notes"] if " is at " in text]


def test_a_late_write_after_the_end_is_journaled_and_told_once(room: Room) -> None:
    """WARNING for as long as it lasts; one entry with both shares, one message; then gone."""
    assert overflow(room).state is RunState.SUCCEEDED
    assert not notes(look(room))
    move(room, {"hq": 60, "acme": 40})
    for _ in range(3):
        said = look(room)
        assert said.code >= 1 and len(notes(said)) == 1
    assert "hq 60 % · acme 40 %, the journal says" in notes(said)[0]
    assert "ccfailover adopt loan_calls" in notes(said)[0]
    (record,) = [r for r in room.desk.store.read("automation") if r.kind == "drift.seen"]
    assert record.data == {"queue": "loan_calls", "actual": {"hq": 60, "acme": 40},
                           "expected": {"hq": 90, "acme": 10}, "run": None}
    assert len(told(room)) == 1 and "hq 60 % · acme 40 %" in told(room)[0]
    assert status(room.desk, probe=False).next.startswith("ccfailover reassert loan_calls")
    move(room, {"hq": 90, "acme": 10})
    assert not notes(look(room)) and not notes(look(room))
    assert seen(room) == [("drift.seen", "loan_calls"), ("drift.gone", "loan_calls")]
    move(room, {"hq": 60, "acme": 40})
    look(room)
    assert len(told(room)) == 2, "what comes again is told again"


def test_other_shares_are_another_drift(room: Room) -> None:
    """Two hands, two entries; `adopt` ends it."""
    move(room, {"hq": 60, "acme": 40})
    look(room)
    move(room, {"hq": 50, "acme": 50})
    look(room)
    assert seen(room) == [("drift.seen", "loan_calls")] * 2 and len(told(room)) == 2
    upkeep.adopt(room.desk, "loan_calls", "meant")
    assert not notes(look(room))
    assert seen(room)[-1] == ("drift.gone", "loan_calls")


def test_of_two_checks_at_once_one_writes(room: Room) -> None:
    """Both saw it first: the journal says it once, and both warn."""
    move(room, {"hq": 60, "acme": 40})
    room.runtime.sleep(120)
    world = fresh_look(room.desk)
    before = room.desk.store.fact(drift.FACT)
    assert before is None
    assert len(drift.look_for(room.desk, world, [])) == 1
    known = room.desk.store.fact(drift.FACT)
    assert not room.desk.store.swap_fact(drift.FACT, known, expected=before, events=[
        ("drift.seen", {"queue": "loan_calls"})], actor="another check")
    assert len(drift.look_for(room.desk, world, [])) == 1
    assert seen(room) == [("drift.seen", "loan_calls")] and len(told(room)) == 1


def test_a_check_that_died_before_it_told_is_made_good(room: Room) -> None:
    """The message is part of the occurrence, not of the check that saw it first."""
    move(room, {"hq": 60, "acme": 40})
    room.runtime.sleep(120)
    room.desk.store.swap_fact(drift.FACT, {"loan_calls": {
        "actual": {"hq": 60, "acme": 40}, "expected": {"hq": 100}, "run": None, "since": 5}},
        expected=None, events=[("drift.seen", {"queue": "loan_calls"})], actor="it died here")
    check.check(room.desk)
    assert len(told(room)) == 1 and seen(room) == [("drift.seen", "loan_calls")]


def test_what_a_paused_run_left_is_watched(room: Room) -> None:
    """Its own last shares count, not those of before; resume or rollback is the advice."""
    outcome = overflow(room, Stop("step.succeeded", "shift_route"))
    assert outcome.state is RunState.PAUSED
    assert not notes(look(room)), "where the run left it is where it is expected"
    move(room, {"hq": 100})
    said = look(room)
    (note,) = notes(said)
    assert said.code == 2 and f"run {outcome.run.id} left it at hq 95 % · acme 5 %" in note
    assert f"ccfailover resume {outcome.run.id}" in note
    (row,) = [q for q in status(room.desk, probe=False).facts["queues"]
              if q["queue"] == "loan_calls"]
    assert row["drift"] is True and row["expected"] == {"hq": 95, "acme": 5}
    assert runs.resume(room.desk, outcome.run.id).state is RunState.SUCCEEDED
    assert not notes(look(room)) and seen(room)[-1][0] == "drift.gone"


def test_a_step_in_doubt_is_expected_nowhere(room: Room) -> None:
    """It may have landed or not: neither is drift."""
    with pytest.raises(KeyboardInterrupt):
        overflow(room, Stop("step.started", "shift_route", dies=True))
    run = run_list.open_runs(room.desk)[0]
    for shares in ({"hq": 100}, {"hq": 90, "acme": 10}, {"hq": 50, "acme": 50}):
        move(room, shares)
        assert _expected(room, run, RunState.INTERRUPTED).sure is False
        assert not notes(look(room))


def test_what_a_run_moves_is_left_out(room: Room) -> None:
    """While somebody is at work on it, and for the other queues nothing changes."""
    plan = prepare.prepare(room.desk, Request("overflow", "loan_calls", "x", percent=10)).plan
    room.desk.store.create_run(plan, actor=room.desk.actor, ttl=LEASE_SECONDS)
    move(room, {"hq": 60, "acme": 40})
    move(room, {"hq": 60, "acme": 40}, "prequal")
    assert [note.split()[0] for note in notes(look(room))] == ["prequal"]


def test_a_stopped_rollback_expects_the_first_snapshot(room: Room) -> None:
    """What was brought back is where it began; what was not yet is where the run left it."""
    stopped = overflow(room, Stop("step.succeeded", "shift_route"))
    back = Stop("undo.succeeded", "shift_route")
    outcome = runs.rollback(room.desk, stopped.run.id, reason="x", watcher=back,
                            on_driver=back.drivers.append)
    run = outcome.run
    assert [step.status.value for name, step in run.steps.items() if "1-shift_route" in name] == [
        "undone"]
    assert _expected(room, run, RunState.STUCK).shares == {"hq": 100}
    assert _expected(room, stopped.run, RunState.PAUSED).shares == {"hq": 95, "acme": 5}


def test_a_run_that_has_not_touched_a_queue_changes_nothing(room: Room) -> None:
    """It waits for a person before its first step: the former baseline holds."""
    outcome = overflow(room, Stop("step.succeeded", "confirm"))
    assert outcome.state is RunState.PAUSED
    move(room, {"hq": 60, "acme": 40})
    assert "the journal says hq 100 %" in notes(look(room))[0]


def _expected(room: Room, run: Run, state: RunState) -> drift.Expected:
    return drift.expectations(room.desk, [(run, state)])["loan_calls"]


def test_what_a_superseded_run_moved_is_no_drift(room: Room) -> None:
    """A run that leaves a lever where its predecessor had put it has taken that move over: the
    lever is where the journal says, and a hand that moves it afterwards is noticed."""
    first = overflow(room, Stop("step.succeeded", "shift_route"))
    assert first.state is RunState.PAUSED
    there = dict(room.shares()["loan_calls"])
    ready = prepare.prepare(room.desk, Request("overflow", "applications", "peak", percent=10,
                                               supersedes=first.run.id))
    second = runs.start(room.desk, ready, confirmed="test")
    assert second.state in (RunState.SUCCEEDED, RunState.SUCCEEDED_WITH_EXCEPTIONS)
    assert "loan_calls" not in second.run.plan.shares_after
    look(room)
    assert seen(room) == []
    move(room, {"hq": 100})
    assert there != {"hq": 100}
    look(room)
    assert seen(room) == [("drift.seen", "loan_calls")]
