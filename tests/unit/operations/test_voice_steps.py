"""Announcements, drains and platforms' own recovery plans as steps of a run.

The real planner, engine, driver, steps and store on simulated platforms, in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ccfailover.model.shares import Shares
from ccfailover.operations import prepare, providers_test, runs
from ccfailover.providers import Phase
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import RunState
from ccfailover.simulation.platform import Fault
from ccfailover.simulation.voice import SimulatedProcedure
from tests.unit.operations.room import Room

TUESDAY = "2026-10-20 14:00"
FAILOVER = Request("full_failover", "hq", "power", queues=("loan_calls",))
SWITCHOVER = Request("switchover", "hq", "works", queues=("loan_calls",))
FAILBACK = Request("failback", "hq", "power is back", queues=("loan_calls",))
Change = Callable[[dict[str, Any]], None]


def furnish(policy: dict[str, Any]) -> None:
    """loan_calls small enough to go whole, on a switch that counts calls; an announcement; a plan
    that the platform keeps."""
    queue = policy["queues"]["loan_calls"]
    queue.pop("shift")
    queue.update(backups=["acme"], load={"per_hour": 50})
    queue["announcement"] = {"provider": "edge", "ref": "greeting", "emergency": "outage"}
    policy["providers"]["edge"].update(live=True)
    policy["guards"] = {}
    policy["procedures"] = {"west": {"provider": "edge", "ref": "plan/west"}}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Room]]:
    made: list[Room] = []

    def room(*changes: Change, **states: str) -> Room:
        def change(policy: dict[str, Any]) -> None:
            for each in (furnish, *changes):
                each(policy)

        made.append(Room(tmp_path, TUESDAY, change, states))
        made[-1].platforms["edge"].voice.live["loan_calls"] = {"hq": 0, "acme": 0}
        return made[-1]

    yield room
    for each in made:
        each.close()


def act(room: Room, request: Request) -> runs.RunOutcome:
    return runs.start(room.desk, prepare.prepare(room.desk, request), confirmed="test")


def kinds(room: Room, request: Request) -> list[str]:
    return [step.kind for branch in prepare.prepare(room.desk, request).plan.branches
            for step in branch.steps]


# --- announce


def test_callers_hear_of_a_failover_until_the_failback(make: Callable[..., Room]) -> None:
    """On before the calls move, off after they came home."""
    room = make(hq="down")
    voice = room.platforms["edge"].voice
    assert kinds(room, FAILOVER)[:2] == ["announce", "shift_route"]
    done = act(room, FAILOVER)
    assert done.state is RunState.SUCCEEDED, done.run.exceptions()
    assert voice.said["greeting"] == "outage"
    assert "lever:edge:greeting" in done.run.plan.scopes
    room.states = {}
    back = act(room, FAILBACK)
    assert back.state is RunState.SUCCEEDED, back.run.exceptions()
    assert voice.said["greeting"] is None


def test_a_rollback_says_again_what_was_said_before(make: Callable[..., Room]) -> None:
    """Not silence: what the run found."""
    room = make(acme="healthy")
    voice = room.platforms["edge"].voice
    voice.said["greeting"] = "holiday"
    room.states = {"hq": "down"}
    # The calls' own lever fails for good: the run pauses after the announcement was set.
    room.platforms["edge"].fail("shift", Fault.REJECTED, 50)
    done = act(room, FAILOVER)
    assert done.state is RunState.PAUSED and voice.said["greeting"] == "outage"
    undone = runs.rollback(room.desk, done.run.id, reason="not now")
    assert undone.state is RunState.ROLLED_BACK
    assert voice.said["greeting"] == "holiday"


def test_an_announcement_never_holds_up_the_calls(make: Callable[..., Room]) -> None:
    """It cannot be set: an exception, and the calls move."""
    room = make(hq="down")
    room.platforms["edge"].fail("say", Fault.REJECTED, 50)
    done = act(room, FAILOVER)
    assert done.state is RunState.SUCCEEDED_WITH_EXCEPTIONS
    assert any("announce-on failed and was passed over" in one for one in done.run.exceptions())
    assert room.platforms["edge"].shares("loan_calls") == Shares({"acme": 100})


def test_an_announcement_never_holds_up_the_way_back(make: Callable[..., Room]) -> None:
    """A rollback whose message cannot be set: the calls go back all the same, and the run says
    what is left to do."""
    room = make(hq="down")
    edge = room.platforms["edge"]
    act(room, FAILOVER)
    room.states = {}
    edge.voice.live["loan_calls"] = None  # the drain, its last step, pauses it
    back = act(room, FAILBACK)
    assert back.state is RunState.PAUSED and edge.shares("loan_calls") == Shares({"hq": 100})
    edge.fail("say", Fault.REJECTED)
    undone = runs.rollback(room.desk, back.run.id, reason="no")
    assert edge.shares("loan_calls") == Shares({"acme": 100})
    assert undone.state is RunState.STUCK
    (left,) = undone.run.problems()
    assert left.spec.kind == "announce"
    again = runs.rollback(room.desk, back.run.id, reason="no")
    assert again.state is RunState.ROLLED_BACK
    assert edge.voice.said["greeting"] == "outage"


def test_without_an_announcement_there_is_no_step(make: Callable[..., Room]) -> None:
    room = make(lambda policy: policy["queues"]["loan_calls"].pop("announcement"), hq="down")
    assert "announce" not in kinds(room, FAILOVER)


# --- drain


class Calls:
    """Contacts at hq that end one after the other, with each look; None once they are `lost`."""

    def __init__(self, *counts: dict[str, int] | None) -> None:
        self._counts = list(counts)

    def get(self, ref: str) -> dict[str, int] | None:
        return self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]


def test_a_drain_waits_for_the_last_contact(make: Callable[..., Room]) -> None:
    """Three calls at hq end one by one; none is cut off, and the plan says whom it waits for."""
    room = make()
    room.platforms["edge"].voice.live = Calls(  # type: ignore[assignment]
        {"hq": 3, "acme": 1}, {"hq": 2}, {"hq": 1}, {"hq": 0, "acme": 9})
    assert kinds(room, SWITCHOVER)[-1] == "drain"
    done = act(room, SWITCHOVER)
    assert done.state is RunState.SUCCEEDED, done.run.exceptions()
    (step,) = [one for one in done.run.steps.values() if one.spec.kind == "drain"]
    assert step.spec.title == "loan_calls: contacts in progress at hq end by themselves"
    assert room.platforms["edge"].calls.count("live loan_calls") >= 4


def test_at_its_deadline_what_is_left_is_an_exception(make: Callable[..., Room]) -> None:
    room = make()
    room.platforms["edge"].voice.live["loan_calls"] = {"hq": 2}
    done = act(room, SWITCHOVER)
    assert done.state is RunState.SUCCEEDED_WITH_EXCEPTIONS
    (said,) = done.run.exceptions()
    assert "drain failed and was passed over" in said
    assert "2 contacts in progress (2 at hq)" in said


@pytest.mark.parametrize("counts", [None, {"acme": 4}])
def test_a_count_that_is_not_known_is_never_nought(
        make: Callable[..., Room], counts: dict[str, int] | None) -> None:
    """Nothing told, or nothing of hq: the branch pauses, although the recipe passes over calls
    that are left."""
    room = make()
    room.platforms["edge"].voice.live["loan_calls"] = counts
    done = act(room, SWITCHOVER)
    assert done.state is RunState.PAUSED
    assert any("contacts in progress" in (step.reason or "") for step in done.run.problems())


def test_the_policy_may_let_the_unknown_by(make: Callable[..., Room]) -> None:
    def lenient(policy: dict[str, Any]) -> None:
        policy["runbooks"] = {"switchover": {"branch": [
            {"shift_route": {}}, {"drain": {"unknown": "continue", "deadline": 5}}]}}

    room = make(lenient)
    room.platforms["edge"].voice.live["loan_calls"] = None
    done = act(room, SWITCHOVER)
    assert done.state is RunState.SUCCEEDED_WITH_EXCEPTIONS


def test_a_drain_outlasts_the_old_record(make: Callable[..., Room]) -> None:
    """Callers may go by the old record for 60 s: no contact at once proves nothing. The deadlines
    and the plan count the time."""
    room = make(lambda policy: policy["providers"]["edge"].update(propagation=60))
    began = room.runtime.monotonic()
    ready = prepare.prepare(room.desk, SWITCHOVER)
    steps = {step.kind: step for step in ready.plan.steps()}
    assert "callers follow within 60 s" in steps["shift_route"].title
    assert steps["verify"].deadline == 180.0 and steps["shift_route"].deadline == 120.0
    done = runs.start(room.desk, ready, confirmed="test")
    assert done.state is RunState.SUCCEEDED
    assert room.runtime.monotonic() - began >= 60


def test_no_drain_where_nothing_counts(make: Callable[..., Room]) -> None:
    room = make(lambda policy: policy["providers"]["edge"].pop("live"))
    assert "drain" not in kinds(room, SWITCHOVER)


def test_a_failback_drains_the_provider(make: Callable[..., Room]) -> None:
    room = make()
    room.platforms["edge"].add_route("loan_calls", Shares({"acme": 100}))
    room.platforms["edge"].voice.live["loan_calls"] = {"acme": 0}
    done = act(room, FAILBACK)
    (step,) = [one for one in done.run.steps.values() if one.spec.kind == "drain"]
    assert step.spec.params["sites"] == ["acme"] and done.state is RunState.SUCCEEDED


# --- procedure


def with_plan(**params: Any) -> Change:
    def change(policy: dict[str, Any]) -> None:
        policy["runbooks"] = {"switchover": {
            "before": [{"confirm": {}}, {"procedure": {"name": "west", "action": "activate",
                                                       **params}}],
            "branch": [{"shift_route": {}}]}}

    return change


def plan_of(room: Room, *course: Phase) -> SimulatedProcedure:
    made = room.platforms["edge"].voice.procedures["plan/west"] = SimulatedProcedure(course)
    return made


def test_a_platforms_plan_is_started_followed_and_read(make: Callable[..., Room]) -> None:
    room = make(with_plan())
    west = plan_of(room, Phase.RUNNING, Phase.RUNNING, Phase.DONE)
    done = act(room, SWITCHOVER)
    assert done.state is RunState.SUCCEEDED, done.run.problems()
    assert west.actions == ["activate"]
    assert "lever:edge:plan/west" in done.run.plan.scopes
    (end,) = [record for record in room.desk.store.read(f"run:{done.run.id}")
              if record.kind == "step.succeeded" and "procedure" in record.data["step"]]
    assert end.data["data"]["execution"] == "exec-1" and end.data["data"]["phase"] == "done"


def test_exceptions_there_are_exceptions_here(make: Callable[..., Room]) -> None:
    room = make(with_plan())
    plan_of(room, Phase.RUNNING, Phase.EXCEPTIONS)
    assert act(room, SWITCHOVER).state is RunState.SUCCEEDED_WITH_EXCEPTIONS


def test_a_plan_that_waits_for_a_person_pauses_the_run(make: Callable[..., Room]) -> None:
    """It says what to approve; the resume attaches to the execution that is there."""
    room = make(with_plan())
    west = plan_of(room, Phase.RUNNING, Phase.WAITING, Phase.RUNNING, Phase.DONE)
    done = act(room, SWITCHOVER)
    assert done.state is RunState.PAUSED
    assert any("approve move-dns at edge" in (step.reason or "") for step in done.run.problems())
    west.go_on("exec-1")
    again = runs.resume(room.desk, done.run.id)
    assert again.state is RunState.SUCCEEDED
    assert west.actions == ["activate"], "started once"


def test_the_recipe_may_answer(make: Callable[..., Room]) -> None:
    room = make(with_plan(approve=True))
    west = plan_of(room, Phase.RUNNING, Phase.WAITING, Phase.DONE)
    assert act(room, SWITCHOVER).state is RunState.SUCCEEDED
    assert west.approved == ["move-dns"]


@pytest.mark.parametrize("end", [Phase.FAILED, Phase.CANCELLED, Phase.PAUSED])
def test_a_plan_that_came_to_no_end_pauses_the_run(
        make: Callable[..., Room], end: Phase) -> None:
    room = make(with_plan())
    plan_of(room, Phase.RUNNING, end)
    done = act(room, SWITCHOVER)
    assert done.state is RunState.PAUSED
    assert room.platforms["edge"].shares("loan_calls") == Shares({"hq": 100})


@pytest.mark.parametrize("undo", [None, "deactivate"])
def test_a_rollback_takes_it_back_or_says_that_it_stays(
        make: Callable[..., Room], undo: str | None) -> None:
    room = make(with_plan(**({"undo": undo} if undo else {})))
    west = plan_of(room, Phase.RUNNING, Phase.DONE)
    room.platforms["edge"].fail("shift", Fault.REJECTED, 50)
    done = act(room, SWITCHOVER)
    assert done.state is RunState.PAUSED
    undone = runs.rollback(room.desk, done.run.id, reason="no")
    assert undone.state is RunState.ROLLED_BACK
    assert west.actions == ["activate", *([undo] if undo else [])]
    ends = [record.data for record in room.desk.store.read(f"run:{done.run.id}")
            if record.kind == "undo.succeeded" and "procedure" in record.data["step"]]
    assert any("has no `undo`" in text for text in ends[0]["exceptions"]) is (undo is None)


def test_another_execution_is_nothing_to_attach_to(make: Callable[..., Room]) -> None:
    """Somebody else's is under way: refused, and the run pauses."""
    room = make(with_plan())
    west = plan_of(room, Phase.RUNNING, Phase.PAUSED)
    west.start("deactivate", "somebody")
    done = act(room, SWITCHOVER)
    assert done.state is RunState.PAUSED and west.actions == ["deactivate"]


def test_what_was_never_begun_is_not_taken_back(make: Callable[..., Room]) -> None:
    """Somebody else's was under way, so that ours was refused: a rollback carries out nothing,
    and says whose it is."""
    room = make(with_plan(undo="deactivate"))
    west = plan_of(room, Phase.RUNNING, Phase.DONE)
    began = west.start

    def start(action: str, key: str) -> str:
        if "~undo" not in key and key not in west.started and key != "somebody":
            began("activate", "somebody")  # just after we have looked
        return began(action, key)

    west.start = start  # type: ignore[method-assign]
    done = act(room, SWITCHOVER)
    assert done.state is RunState.PAUSED and west.actions == ["activate"]
    west.go_on("exec-1")
    undone = runs.rollback(room.desk, done.run.id, reason="no")
    assert west.actions == ["activate"], "theirs stays"
    assert any("begun by somebody else since" in (step.reason or "")
               for step in undone.run.problems())


# --- providers test


def test_everything_that_could_be_moved_is_read(make: Callable[..., Room]) -> None:
    """Shares, contacts in progress, announcement, plan: read, nothing written."""
    room = make()
    room.platforms["edge"].voice.said["greeting"] = "holiday"
    room.platforms["edge"].voice.live["loan_calls"] = {"hq": 7, "acme": 0}
    rows = {row["role"]: row for row in providers_test.test_levers(room.desk)}
    assert rows["loan_calls route"]["detail"] == "hq 100 %"
    assert rows["loan_calls contacts in progress"]["detail"] == "0 at acme, 7 at hq"
    assert rows["loan_calls announcement"]["detail"] == "holiday"
    assert rows["procedure west"]["detail"] == "never carried out: idle"
    assert rows["prequal contacts in progress"]["detail"] == "not told"
    assert all(row["ok"] for row in rows.values())
    asked = {call.partition(" ")[0] for call in room.platforms["edge"].calls}
    assert not asked & {"shift", "say", "start", "approve", "set_open"}
