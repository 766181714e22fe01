"""fold: the journal alone says where a run stands."""

from __future__ import annotations

import pytest

from ccfailover.errors import StoreError
from ccfailover.model.plan import Branch, OnFailure
from ccfailover.runbooks.run import RunState, StepStatus, fold
from tests.unit.runbooks.stage import Journal, plan, spec


def journal(*events: tuple[str, dict[str, object]] | str) -> Journal:
    made = Journal()
    made.write("run.planned", {"plan": plan(Branch("q", (spec("a"), spec("b")))).to_json()})
    for event in events:
        kind, data = (event, {}) if isinstance(event, str) else event
        made.write(kind, dict(data))
    return made


STARTED = ("step.started", {"step": "a", "snapshot": {"x": 1}})
DONE = ("step.succeeded", {"step": "a"})


@pytest.mark.parametrize(("events", "alive", "state"), [
    ((), True, RunState.PLANNED),
    ((), False, RunState.INTERRUPTED),
    (("run.started",), True, RunState.RUNNING),
    (("run.started",), None, RunState.RUNNING),
    (("run.started",), False, RunState.INTERRUPTED),
    (("run.started", STARTED), False, RunState.INTERRUPTED),
    (("run.started", "run.paused"), False, RunState.PAUSED),
    (("run.started", "run.paused", "run.resumed"), True, RunState.RUNNING),
    (("run.started", "rollback.started"), True, RunState.ROLLING_BACK),
    (("run.started", "rollback.started"), False, RunState.INTERRUPTED),
    (("run.started", "rollback.started", "run.stuck"), False, RunState.STUCK),
    (("run.started", "run.succeeded"), False, RunState.SUCCEEDED),
    (("run.started", "run.succeeded_with_exceptions"), False, RunState.SUCCEEDED_WITH_EXCEPTIONS),
    (("run.started", "rollback.started", "run.rolled_back"), False, RunState.ROLLED_BACK),
    (("run.started", "run.aborted"), False, RunState.ABORTED),
    (("run.started", "run.superseded"), False, RunState.SUPERSEDED),
    (("run.started", "run.succeeded", "run.paused"), False, RunState.SUCCEEDED),
    (("run.started", "run.succeeded", ("note", {"text": "afterwards"})), False,
     RunState.SUCCEEDED),
])
def test_states(events: tuple[object, ...], alive: bool | None, state: RunState) -> None:
    """Every state of DESIGN §4.11, from events and from whether somebody carries the run."""
    run = journal(*events).fold()  # type: ignore[arg-type]
    assert run.state(alive) is state
    ended = {RunState.SUCCEEDED, RunState.SUCCEEDED_WITH_EXCEPTIONS, RunState.ROLLED_BACK,
             RunState.ABORTED, RunState.SUPERSEDED}
    assert state.is_open is (state not in ended)


def test_direction_is_the_last_one_taken() -> None:
    """An interrupted rollback goes on back; a run resumed forward goes on forward."""
    back = journal("run.started", STARTED, DONE, "rollback.started",
                   ("undo.started", {"step": "a"}))
    assert back.fold().rolling_back
    back.write("run.resumed", {})
    assert not back.fold().rolling_back


def test_a_step_in_doubt_is_a_problem_and_is_touched() -> None:
    """Started and not ended: a rollback must look at it, a person is told of it."""
    run = journal("run.started", STARTED).fold()
    assert run.steps["a"].status is StepStatus.STARTED and run.steps["a"].touched
    assert [step.spec.id for step in run.problems()] == ["a"]
    assert not run.steps["b"].touched


def test_snapshot_and_start_are_the_first_ones() -> None:
    """A second attempt brings no second snapshot, and the step began when it first began."""
    run = journal("run.started", STARTED,
                  ("step.started", {"step": "a", "snapshot": {"x": 2}}), DONE).fold()
    step = run.steps["a"]
    assert (step.snapshot, step.attempts, step.started_at) == ({"x": 1}, 2, 3_000_000)


def test_skips_failures_and_overrides_are_exceptions() -> None:
    """Such a run is never plainly succeeded."""
    told = journal()
    told.records.clear()
    steps = (spec("a"), spec("b", on_failure=OnFailure.CONTINUE), spec("c"))
    told.write("run.planned", {"plan": plan(Branch("q", steps)).to_json()})
    told.write("step.skipped", {"step": "a", "reason": "by hand"})
    told.write("step.failed", {"step": "b", "reason": "no", "truth": "no"})
    run = told.fold()
    assert run.exceptions() == ["a skipped: by hand", "b failed and was passed over: no"]


def test_a_stop_counts_until_the_run_goes_on() -> None:
    """A stop asked for before the resume does not stop the resumed run."""
    asked = journal("run.started", "stop.requested")
    assert asked.fold().stop_requested
    asked.write("run.resumed", {})
    assert not asked.fold().stop_requested


@pytest.mark.parametrize("skip", [1, 2])
def test_a_journal_without_its_plan_is_an_error(skip: int) -> None:
    """Nothing is guessed where the beginning is missing."""
    with pytest.raises(StoreError) as told:
        fold(journal("run.started").records[skip:])
    assert "journal verify" in str(told.value.hint)


def test_events_of_unknown_steps_and_kinds_are_passed_over() -> None:
    """A later version's journal is still readable."""
    run = journal("run.started", ("step.succeeded", {"step": "nobody"}), "new.kind").fold()
    assert run.phase is RunState.RUNNING
