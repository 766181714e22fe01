"""A lever that forgot what the journal says is set again: when somebody asks, or by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import Refused, UsageError
from ccfailover.model.shares import Shares
from ccfailover.operations import check, prepare, reassert, runs, upkeep
from ccfailover.operations.execute_due import reassert_due
from ccfailover.operations.status import status
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import RunState
from ccfailover.simulation.platform import Fault
from tests.unit.operations.room import Room

TUESDAY = "2026-10-20 14:00"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Room]]:
    made: list[Room] = []

    def room(*, by_itself: bool = False, at: str = TUESDAY) -> Room:
        def change(policy: dict[str, Any]) -> None:
            if by_itself:
                policy["queues"]["loan_calls"]["route"]["reassert"] = True

        made.append(Room(tmp_path, at, change, {}))
        made[-1].platforms["edge"].boot = "monday"
        look(made[-1])
        return made[-1]

    yield room
    for each in made:
        each.close()


def look(room: Room) -> check.Checked:
    room.runtime.sleep(120)
    return check.check(room.desk)


def overflow(room: Room) -> None:
    """loan_calls at hq 90 %, acme 10 %: that is the baseline from then on."""
    ready = prepare.prepare(room.desk, Request("overflow", "loan_calls", "peak", percent=10))
    assert runs.start(room.desk, ready, confirmed="test").state is RunState.SUCCEEDED
    assert reassert_due(room.desk) == []
    look(room)


def forgets(room: Room, boot: str = "tuesday") -> None:
    room.platforms["edge"].restart(boot, {"loan_calls": {"hq": 100}})
    look(room)


def act(room: Room, queue: str | None) -> runs.RunOutcome:
    ready = prepare.prepare(room.desk, reassert.request(room.desk, queue, "it restarted"))
    return runs.start(room.desk, ready, confirmed="test")


def at(room: Room) -> dict[str, int]:
    return room.platforms["edge"].shares("loan_calls").to_json()


def test_what_was_forgotten_is_set_again(make: Callable[..., Room]) -> None:
    """`status` says how; the run sets the journal's shares at once; then nothing is adrift."""
    room = make()
    overflow(room)
    forgets(room)
    assert status(room.desk, probe=False).next.startswith("ccfailover reassert loan_calls")
    done = act(room, None)
    assert done.state is RunState.SUCCEEDED and done.run.plan.runbook == "reassert"
    assert at(room) == {"hq": 90, "acme": 10}
    assert set(done.run.plan.shares_after) == {"loan_calls"}
    assert sum(step.kind == "shift_route" for step in done.run.plan.steps()) == 1
    assert not [note for note in look(room).facts["notes"] if " is at " in note]
    with pytest.raises(UsageError, match="no queue is known to be elsewhere"):
        reassert.request(room.desk, None, "again")


def test_a_queue_that_is_where_it_should_be_needs_no_run(make: Callable[..., Room]) -> None:
    room = make()
    ready = prepare.prepare(room.desk, reassert.request(room.desk, "prequal", "to be sure"))
    assert ready.nothing_to_do


def test_soft_guards_have_no_say(make: Callable[..., Room]) -> None:
    """Monday 9:00 is blocked, and loan_calls was moved a minute ago: it was decided then."""
    room = make(at="2026-10-19 07:50")
    overflow(room)
    room.runtime.sleep(600)
    forgets(room)
    assert room.desk.is_blocked(room.runtime.now()) is not None
    assert act(room, "loan_calls").state is RunState.SUCCEEDED
    assert at(room) == {"hq": 90, "acme": 10}


def test_a_dead_site_gets_nothing_back(make: Callable[..., Room]) -> None:
    """The journal says hq 100 %, and hq is down: refused."""
    room = make()
    room.platforms["edge"].add_route("loan_calls", Shares({"acme": 100}))
    look(room)
    room.states = {"hq": "down"}
    with pytest.raises(Refused, match="nobody who can answer"):
        act(room, "loan_calls")
    assert at(room) == {"acme": 100}


def test_an_unfinished_run_sets_it_again_itself(make: Callable[..., Room]) -> None:
    room = make()
    room.platforms["edge"].fail("shift", Fault.REJECTED, 50)
    ready = prepare.prepare(room.desk, Request("overflow", "loan_calls", "peak", percent=10))
    done = runs.start(room.desk, ready, confirmed="test")
    assert done.state is RunState.PAUSED
    with pytest.raises(Refused, match=f"run {done.run.id} is not at its end") as caught:
        reassert.request(room.desk, "loan_calls", "it restarted")
    assert caught.value.hint is not None and "resume" in caught.value.hint


def test_a_name_that_the_policy_lacks(make: Callable[..., Room]) -> None:
    with pytest.raises(UsageError, match="there is no queue 'loans'"):
        reassert.request(make().desk, "loans", "it restarted")


# --- by itself


def test_after_a_restart_it_is_set_again_by_itself(make: Callable[..., Room]) -> None:
    """Once; the next restart is another."""
    room = make(by_itself=True)
    overflow(room)
    for boot in ("tuesday", "wednesday"):
        forgets(room, boot)
        (done,) = reassert_due(room.desk)
        assert done.outcome is not None and done.outcome.state is RunState.SUCCEEDED
        assert "has restarted and reads hq 100 %" in done.outcome.run.plan.reason
        assert at(room) == {"hq": 90, "acme": 10}
        assert reassert_due(room.desk) == []


def test_a_restart_that_forgot_nothing_moves_nothing(make: Callable[..., Room]) -> None:
    room = make(by_itself=True)
    overflow(room)
    room.platforms["edge"].boot = "tuesday"
    assert reassert_due(room.desk) == []
    # … and from then on it is the boot in which all was well.
    room.platforms["edge"].add_route("loan_calls", Shares({"hq": 50, "acme": 50}))
    assert reassert_due(room.desk) == []


@pytest.mark.parametrize("why", ["by hand", "not marked", "untold", "adopted", "automation off"])
def test_what_is_not_set_again_by_itself(make: Callable[..., Room], why: str) -> None:
    """By hand without a restart; where the policy does not say so; where the platform tells of no
    restart; other shares that somebody adopted; while automation is off."""
    room = make(by_itself=why != "not marked")
    if why == "untold":
        room.platforms["edge"].boot = ""
    overflow(room)
    if why == "by hand":
        room.platforms["edge"].add_route("loan_calls", Shares({"hq": 60, "acme": 40}))
        look(room)
    else:
        forgets(room, "" if why == "untold" else "tuesday")
    if why == "adopted":
        upkeep.adopt(room.desk, "loan_calls", "it is meant")
    if why == "automation off":
        upkeep.automation_off(room.desk, 3600, "works")
    there = at(room)
    assert reassert_due(room.desk) == []
    assert at(room) == there != {"hq": 90, "acme": 10}


def test_a_lever_in_anothers_place_has_not_restarted(make: Callable[..., Room]) -> None:
    """The policy names another route by now, on a platform that began at another time."""
    room = make(by_itself=True)
    overflow(room)
    queue = room.policy.queues["loan_calls"]
    assert queue.route is not None
    other = replace(queue, route=replace(queue.route, ref="loan_calls_2"))
    policy = replace(room.policy, queues={**room.policy.queues, "loan_calls": other})
    room.platforms["edge"].add_route("loan_calls_2", Shares({"hq": 100}))
    room.platforms["edge"].boot = "tuesday"
    assert reassert_due(replace(room.desk, policy=policy)) == []
    assert room.platforms["edge"].shares("loan_calls_2") == Shares({"hq": 100})
    forgets(room, "wednesday")
    assert len(reassert_due(room.desk)) == 1  # the one that was seen before
