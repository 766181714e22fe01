"""A run's increments and the guards before each of its steps, on the example policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import Exit, Refused
from ccfailover.model.plan import Mode
from ccfailover.operations import runs, upkeep
from ccfailover.operations.check import check
from ccfailover.operations.prepare import prepare
from ccfailover.operations.status import status
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import RunState
from tests.unit.operations.room import Room

WEDNESDAY = "2026-10-21 14:00"


class Fates(dict[str, str]):
    """Who is how, by the seconds since the beginning."""

    def __init__(self, tell: Callable[[str, float], str | None]) -> None:
        super().__init__()
        self.tell, self.clock = tell, lambda: 0.0

    def get(self, name: str, otherwise: Any = None) -> Any:
        return self.tell(name, self.clock()) or otherwise


def gentle(policy: dict[str, Any]) -> None:
    """Quick to judge; nothing in the way of a switchover but what a test sets."""
    policy["guards"] = {}
    policy["probe_defaults"] = {**policy.get("probe_defaults", {}), "fall": 1, "rise": 1}
    for block in (*policy["sites"].values(), *policy["dependencies"].values()):
        for probe in block.get("probes", ()):
            probe.pop("fall", None)
            probe.pop("rise", None)
    policy["queues"]["loan_calls"]["shift"] = {"increments": [25, 50, 100], "soak": "20s",
                                               "hold": "40s"}
    policy["queues"]["loan_calls"]["load"] = {"per_hour": 100}  # acme can take all of it


@pytest.fixture
def enter(tmp_path: Path) -> Iterator[Callable[..., Room]]:
    rooms: list[Room] = []

    def make(tell: Callable[[str, float], str | None] = lambda name, at: None,
             change: Callable[[dict[str, Any]], None] = gentle, at: str = WEDNESDAY) -> Room:
        fates = Fates(tell)
        room = Room(tmp_path, at, change, {})
        room.states, fates.clock = fates, room.runtime.monotonic
        rooms.append(room)
        return room

    yield make
    for room in rooms:
        room.close()


def go(room: Room, runbook: str = "switchover", *, mode: Mode = Mode.REAL,
       **more: Any) -> runs.RunOutcome:
    request = Request(runbook, "hq", "test", mode, queues=("loan_calls",), to=("acme",), **more)
    return runs.start(room.desk, prepare(room.desk, request), confirmed="test")


def kinds(room: Room, outcome: runs.RunOutcome) -> list[str]:
    return [record.kind for record in room.desk.store.read(f"run:{outcome.run.id}")]


def said(room: Room, outcome: runs.RunOutcome, kind: str) -> list[dict[str, Any]]:
    return [dict(record.data) for record in room.desk.store.read(f"run:{outcome.run.id}")
            if record.kind == kind]


def test_all_well_all_increments(enter: Callable[..., Room]) -> None:
    """Three increments, each soaked for its full time."""
    room = enter()
    began = room.runtime.monotonic()
    assert go(room).state is RunState.SUCCEEDED
    assert room.shares()["loan_calls"] == {"acme": 100}
    assert room.runtime.monotonic() - began >= 60


def test_a_receiver_that_recovers_is_waited_for(enter: Callable[..., Room]) -> None:
    """Held for thirty seconds, soaked anew from its recovery on, then the rest of the way."""
    room = enter(lambda name, at: "degraded" if name == "acme" and 5 < at < 35 else None)
    outcome = go(room)
    assert outcome.state is RunState.SUCCEEDED
    assert kinds(room, outcome).count("step.holding") == 1
    assert room.runtime.monotonic() >= 35 + 3 * 20


def test_a_receiver_that_stays_unwell_gives_the_increment_back(
        enter: Callable[..., Room]) -> None:
    """The second increment is taken back to the first, which it bore; a person is needed."""
    room = enter(lambda name, at: "degraded" if name == "acme" and at > 30 else None)
    outcome = go(room)
    assert outcome.exit is Exit.PAUSED
    before, = said(room, outcome, "step.backing_off")
    assert "acme is degraded: held at" in before["reason"]
    first = next(dict(spec.params["to"]) for spec in outcome.run.plan.steps()
                 if spec.kind == "shift_route")
    assert room.shares()["loan_calls"] == first
    failed, = said(room, outcome, "step.failed")
    assert failed["reason"].startswith("backed off (")
    room.states = {}
    assert runs.resume(room.desk, None, confirmed="test").state is RunState.SUCCEEDED
    assert room.shares()["loan_calls"] == {"acme": 100}


def test_a_receiver_that_dies_gives_all_back_at_once(enter: Callable[..., Room]) -> None:
    """No holding: at the next look the increment is taken back to home, which is well."""
    room = enter(lambda name, at: "down" if name == "acme" and at > 5 else None)
    outcome = go(room)
    assert outcome.exit is Exit.PAUSED
    assert room.shares()["loan_calls"] == {"hq": 100}
    assert room.runtime.monotonic() < 20


def test_no_increment_is_taken_back_to_a_dead_home(enter: Callable[..., Room]) -> None:
    """Home is dead, the receiver only unwell: the failover goes on, as an exception."""
    room = enter(lambda name, at: {"hq": "down", "acme": "degraded" if at > 5 else None}.get(name))
    outcome = go(room, "full_failover")
    assert room.shares()["loan_calls"] == {"acme": 100}
    assert outcome.state is RunState.SUCCEEDED_WITH_EXCEPTIONS
    assert any("no better place" in text for text in outcome.run.exceptions())


def test_home_dies_in_the_middle_of_a_switchover(enter: Callable[..., Room]) -> None:
    """What is still there is lost with every second: no further waiting."""
    room = enter(lambda name, at: "down" if name == "hq" and at > 5 else None)
    assert go(room).state is RunState.SUCCEEDED
    assert room.shares()["loan_calls"] == {"acme": 100}
    assert room.runtime.monotonic() < 40


def test_a_blocked_window_that_begins_in_mid_run(enter: Callable[..., Room]) -> None:
    """The next increment is not begun; a person may override it, and every report shows that."""
    def change(policy: dict[str, Any]) -> None:
        gentle(policy)
        policy["guards"] = {"blocked": ["2026 Oct 21 14:00-15:00"]}

    room = enter(change=change, at="2026-10-21 13:59:35")
    outcome = go(room)
    assert outcome.exit is Exit.PAUSED
    guarded, = said(room, outcome, "step.guarded")
    assert guarded["guards"][0]["guard"] == "blocked"
    assert "moves are blocked now" in guarded["stopped"]
    assert set(room.shares()["loan_calls"]) == {"hq", "acme"}
    with pytest.raises(Refused, match="no guard that can be overridden"):
        runs.resume(room.desk, None, confirmed="test", overrides={"licence": "please"})
    done = runs.resume(room.desk, None, confirmed="test", overrides={"blocked": "INC-7 agreed"})
    assert done.state is RunState.SUCCEEDED_WITH_EXCEPTIONS
    assert "blocked overridden: INC-7 agreed" in done.run.exceptions()
    assert room.shares()["loan_calls"] == {"acme": 100}


def test_the_same_window_does_not_stop_a_failover(enter: Callable[..., Room]) -> None:
    """Home is down: customers first; the guard is heard, journaled, and warned of."""
    def change(policy: dict[str, Any]) -> None:
        gentle(policy)
        policy["guards"] = {"blocked": ["2026 Oct 21"], "max_step": 10}

    room = enter(lambda name, at: "down" if name == "hq" else None, change)
    outcome = go(room, "full_failover")
    assert room.shares()["loan_calls"] == {"acme": 100}
    found = {finding["guard"] for guarded in said(room, outcome, "step.guarded")
             for finding in guarded["guards"]}
    assert found == {"blocked", "max_step"}


def test_a_licence_that_ends_in_mid_run(enter: Callable[..., Room]) -> None:
    """A hard guard holds on the day that a step is made, whatever the plan was told before."""
    def change(policy: dict[str, Any]) -> None:
        gentle(policy)
        policy["queues"]["loan_calls"] |= {"licence_field": "state", "fields": {"state": "text"}}
        policy["sites"]["acme"]["licences"] = {"TX": "2026-10-20"}
        policy["sites"]["nightline"]["licences"] = ["TX"]

    room = enter(change=change, at="2026-10-20 23:59:35")
    outcome = go(room)
    assert outcome.exit is Exit.PAUSED
    guarded, = said(room, outcome, "step.guarded")
    assert "its last licence ended on 2026-10-20" in guarded["stopped"]
    with pytest.raises(Refused):
        runs.resume(room.desk, None, confirmed="test", overrides={"licence": "please"})


def test_a_queue_closed_to_outsourcing_while_its_run_was_paused(
        enter: Callable[..., Room]) -> None:
    """The policy in force counts: what may not leave any more does not."""
    room = enter(lambda name, at: "down" if name == "acme" and 5 < at < 60 else None)
    outcome = go(room)
    assert outcome.exit is Exit.PAUSED
    room.runtime.sleep(60)
    queue = replace(room.policy.queues["loan_calls"], outsource="never")
    desk = replace(room.desk, policy=replace(
        room.policy, queues={**room.policy.queues, "loan_calls": queue}))
    assert runs.resume(desk, None, confirmed="test").exit is Exit.PAUSED
    assert "outsource: never" in said(room, outcome, "step.guarded")[-1]["stopped"]
    assert room.shares()["loan_calls"] == {"hq": 100}


def test_an_undo_goes_nowhere_where_work_may_not_go(enter: Callable[..., Room]) -> None:
    """A failback is paused half-way, the queue closed to outsourcing: its rollback would send all
    of it out again. Refused, and what is at home stays there."""
    room = enter()
    assert go(room).state is RunState.SUCCEEDED
    began = room.runtime.monotonic()
    room.states = Fates(lambda name, at: "degraded" if name == "hq" and at > began + 30 else None)
    room.states.clock = room.runtime.monotonic
    back = runs.start(room.desk, prepare(room.desk, Request(
        "failback", "hq", "test", queues=("loan_calls",))), confirmed="test")
    assert back.exit is Exit.PAUSED
    half = room.shares()["loan_calls"]
    assert set(half) == {"hq", "acme"}
    room.states = {}
    queue = replace(room.policy.queues["loan_calls"], outsource="never")
    desk = replace(room.desk, policy=replace(
        room.policy, queues={**room.policy.queues, "loan_calls": queue}))
    stuck = runs.rollback(desk, None, reason="test")
    assert stuck.state is RunState.STUCK
    assert "outsource: never" in said(room, stuck, "undo.failed")[0]["reason"]
    assert room.shares()["loan_calls"] == half
    assert runs.rollback(room.desk, None, reason="test").state is RunState.ROLLED_BACK
    assert room.shares()["loan_calls"] == {"acme": 100}


def test_automation_switched_off_stops_what_runs_by_itself(enter: Callable[..., Room]) -> None:
    """At its next step; whoever then resumes it is a person, and is not stopped."""
    room = enter()

    def off(driver: Any) -> None:
        upkeep.automation_off(room.desk, 3600, "switch upgrade")

    prepared = prepare(room.desk, Request("switchover", "hq", "trigger", automatic=True,
                                          queues=("loan_calls",), to=("acme",)))
    outcome = runs.start(room.desk, prepared, confirmed="policy", on_driver=off)
    assert outcome.exit is Exit.PAUSED
    assert "automation is off: by dana@" in said(room, outcome, "step.guarded")[0]["stopped"]
    assert "switch upgrade" in said(room, outcome, "step.guarded")[0]["stopped"]
    assert room.shares()["loan_calls"] == {"hq": 100}
    assert runs.resume(room.desk, None, confirmed="test").state is RunState.SUCCEEDED


def test_a_rehearsal_hears_the_guards_and_goes_on(enter: Callable[..., Room]) -> None:
    """A shadow drill says what would have been stopped, and moves nothing."""
    def change(policy: dict[str, Any]) -> None:
        gentle(policy)
        policy["guards"] = {"blocked": ["2026 Oct 21"]}

    room = enter(change=change)
    outcome = go(room, mode=Mode.SHADOW)
    rehearsed = [data for data in said(room, outcome, "step.rehearsed") if data["guards"]]
    assert rehearsed and all("moves are blocked now" in data["stopped"] for data in rehearsed)
    assert room.shares()["loan_calls"] == {"hq": 100}


def test_what_next_knows_the_block_against_flapping(enter: Callable[..., Room]) -> None:
    """Whoever follows NEXT is not refused: first look and acknowledge, then bring work back."""
    def change(policy: dict[str, Any]) -> None:
        gentle(policy)
        policy["guards"] = {"flap_block": "1h"}

    room = enter(lambda name, at: "down" if name == "hq" and at < 100 else None, change)
    assert go(room, "full_failover").exit is Exit.DONE
    room.runtime.sleep(100)
    assert check(room.desk).code < 2
    said = status(room.desk, probe=True).next
    assert said.startswith("ccfailover ack") and "failback hq" in said
    refused = prepare(room.desk, Request("failback", "hq", "test")).refusal
    assert refused is not None and "ccfailover ack" in str(refused)
    upkeep.acknowledge(room.desk, "looked")
    assert status(room.desk, probe=True).next.startswith("ccfailover failback hq")
    assert prepare(room.desk, Request("failback", "hq", "test")).refusal is None
