"""The engine alone, against a scripted world: what happens in which order, whatever happens."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from ccfailover.errors import Fenced
from ccfailover.model.plan import Branch, Mode, OnFailure
from ccfailover.runbooks.engine import (
    Applied,
    Apply,
    CheckFence,
    Guarded,
    Result,
    Snapped,
    forward,
)
from ccfailover.runbooks.run import Run, RunState, StepStatus
from ccfailover.runbooks.step import Observed, Truth
from tests.unit.runbooks.stage import NO, UNKNOWN, YES, Journal, Stage, plan, spec

ONE = plan(Branch("q", (spec("a"),)))


def test_order_within_a_step() -> None:
    """Snapshot, the intent on disk, a look, the guards, the fence, the write, a look, the end."""
    stage = Stage(ONE)
    assert stage.forward() is Result.DONE
    assert stage.log == ["snapshot a", "step.started a", "holds a", "guards a", "fence", "apply a",
                         "holds a", "step.succeeded a", "run.succeeded"]
    assert stage.journal.of("step.started")[0]["snapshot"] == {"was": "a"}


def test_what_is_already_so_is_not_done_again() -> None:
    """An aim that holds before the write is never written."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([YES])
    assert stage.forward() is Result.DONE
    assert "apply a" not in stage.log and "step.succeeded a" in stage.log


def test_a_guard_stops_a_step_before_the_write() -> None:
    """What bound is journaled with every finding; nothing is written outside, the branch waits."""
    stage = Stage(ONE)
    finding = {"guard": "blocked", "level": "soft", "sentence": "moves are blocked", "queue": "q"}
    stage.guards["a"] = Guarded("moves are blocked", (finding,))
    assert stage.forward() is Result.PAUSED
    assert stage.log[-5:] == ["guards a", "step.guarded a", "step.failed a", "branch.paused",
                              "run.paused"]
    assert stage.journal.of("step.guarded")[0]["guards"] == [finding]
    assert stage.journal.of("step.failed")[0]["reason"] == "moves are blocked"
    again = Stage(ONE, stage.journal)
    assert again.forward() is Result.DONE, "the guard is asked anew on a resume"


def test_what_a_guard_only_warns_of_is_journaled_and_done() -> None:
    """The evidence shows that the guards were heard, whatever came of it."""
    stage = Stage(ONE)
    warning = {"guard": "max_step", "level": "warning", "sentence": "large", "queue": "q"}
    stage.guards["a"] = Guarded(None, (warning,))
    assert stage.forward() is Result.DONE
    assert stage.journal.of("step.guarded") == [{"step": "a", "guards": [warning],
                                                 "stopped": None, "undo": False}]


def test_what_already_holds_asks_no_guard() -> None:
    """A guard stops moves, and there is none to stop."""
    stage = Stage(ONE)
    stage.guards["a"] = Guarded("no", ())
    stage.holds["a"] = deque([YES])
    assert stage.forward() is Result.DONE


def test_a_guard_stops_an_undo_too() -> None:
    """The way back may lead to where work may not go: a person is needed, nothing is written."""
    stage = Stage(ONE)
    stage.die_at = lambda word: word == "step.succeeded a"
    stage.forward()
    back = Stage(ONE, stage.journal)
    back.guards["~a"] = Guarded("acme holds no licence", ())
    assert back.backward() is Result.STUCK
    assert "undo a" not in back.log
    assert back.journal.of("undo.failed")[0]["reason"] == "acme holds no licence"


HELD = Observed(Truth.NO, "acme is degraded", back_off=True)


def test_an_increment_that_is_not_borne_is_taken_back() -> None:
    """Held while there is time, said once; then back to what the step found, and a person is
    needed. The step has failed, and why tells both."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([NO, HELD, HELD, replace(HELD, final=True)])
    assert stage.forward() is Result.PAUSED
    assert stage.log[-6:] == ["fence", "undo a", "undo_holds a", "step.failed a", "branch.paused",
                              "run.paused"]
    assert stage.journal.kinds().count("step.holding") == 1
    assert stage.log.index("step.backing_off a") < stage.log.index("undo a")
    reason = stage.journal.of("step.failed")[0]["reason"]
    assert reason == "backed off (it is so): acme is degraded"
    assert stage.seen_snapshots["~a"] == {"was": "a"}


def test_an_increment_is_taken_back_when_the_deadline_has_passed() -> None:
    """A receiver that never gets well does not hold a run for ever."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([NO, HELD])
    assert stage.forward() is Result.PAUSED
    assert "undo a" in stage.log and stage.clock >= 10


def test_a_receiver_that_recovers_lets_the_increment_go_on() -> None:
    """Held, not given up: nothing is undone."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([NO, HELD, NO, HELD, YES])
    assert stage.forward() is Result.DONE
    assert "undo a" not in stage.log
    assert stage.journal.kinds().count("step.holding") == 2


def test_a_person_who_stops_a_held_increment_finds_it_in_effect() -> None:
    """To stop is not to undo: what to do with it is theirs to say."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([NO, HELD])
    stage.stop_after = 2
    assert stage.forward() is Result.PAUSED
    assert "undo a" not in stage.log


def test_killed_while_it_backs_off() -> None:
    """The step is in doubt like any other: looked at, then done again if somebody resumes."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([NO, replace(HELD, final=True)])
    stage.die_at = lambda word: word == "undo a"
    assert stage.forward() is None
    assert stage.journal.fold().steps["a"].status is StepStatus.STARTED
    again = Stage(ONE, stage.journal)
    assert again.forward() is Result.DONE
    assert again.log[:3] == ["holds a", "step.observed a", "step.started a"]


def test_two_hundred_ok_proves_nothing() -> None:
    """A write that is acknowledged and not in effect fails at the deadline, never succeeds."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([NO])
    assert stage.forward() is Result.PAUSED
    failed, = stage.journal.of("step.failed")
    assert failed["truth"] == "no" and "10 s" in failed["reason"]
    assert stage.log.count("apply a") == 1
    assert stage.clock >= 10


def test_unreadable_is_called_unknown() -> None:
    """What cannot be read back is `unknown` in the journal: neither done nor failed."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([UNKNOWN])
    stage.applies["a"] = deque([Applied(error="no reply")])
    assert stage.forward() is Result.PAUSED
    failed, = stage.journal.of("step.failed")
    assert failed["truth"] == "unknown"
    assert "no reply" in failed["reason"] and "cannot be read back" in failed["reason"]


def test_an_error_that_landed_all_the_same_is_a_success() -> None:
    """The last word is the world's: an apply that timed out and took effect has succeeded."""
    stage = Stage(ONE)
    stage.applies["a"] = deque([Applied(error="no reply")])
    assert stage.forward() is Result.DONE


def test_a_plain_no_is_not_waited_for() -> None:
    """After a permanent refusal there is one look, and no waiting."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([NO])
    stage.applies["a"] = deque([Applied(error="forbidden", permanent=True)])
    assert stage.forward() is Result.PAUSED
    assert stage.clock == 0
    assert stage.journal.of("step.failed")[0]["reason"].startswith("forbidden; ")


def test_a_final_look_ends_the_step_before_the_write() -> None:
    """`final` says that neither a write nor waiting helps: nothing is written."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([Observed(Truth.NO, "never", final=True)])
    assert stage.forward() is Result.PAUSED
    assert "apply a" not in stage.log


def test_nothing_is_done_without_a_snapshot() -> None:
    """What could not be read cannot be undone: the step is not begun."""
    stage = Stage(ONE)
    stage.snapshots["a"] = Snapped(error="unreachable")
    assert stage.forward() is Result.PAUSED
    assert stage.log == ["snapshot a", "step.failed a", "branch.paused", "run.paused"]
    assert stage.journal.of("step.failed")[0]["truth"] == "unknown"
    assert not stage.journal.fold().steps["a"].touched


def test_a_long_step_is_called_until_it_is_through_and_the_fence_checked_each_time() -> None:
    """`more` means call again; before every call the lease is checked."""
    stage = Stage(ONE)
    stage.applies["a"] = deque([Applied(more=True), Applied(more=True), Applied()])
    assert stage.forward() is Result.DONE
    assert stage.log.count("apply a") == stage.log.count("fence") == 3


def test_lost_fence_stops_before_the_write() -> None:
    """Whoever lost the lease writes nothing more, outside or inside."""
    stage = Stage(ONE)
    stage.fence_fails = True
    with pytest.raises(Fenced):
        stage.forward()
    assert stage.log[-1] == "fence" and "apply a" not in stage.log


def test_doubtful_step_is_observed_before_it_is_repeated() -> None:
    """A step that was begun and never ended is looked at, and that look is journaled, first."""
    stage = Stage(ONE)
    stage.die_at = lambda word: word == "apply a"
    assert stage.forward() is None
    again = Stage(ONE, stage.journal)
    assert again.forward() is Result.DONE
    assert again.log[:4] == ["holds a", "step.observed a", "step.started a", "holds a"]
    assert "snapshot a" not in again.log, "the first snapshot is the only one"
    assert again.journal.fold().steps["a"].attempts == 2


def test_the_first_snapshot_is_kept_for_ever() -> None:
    """A repeat must not take what the first attempt left behind for the state to go back to."""
    stage = Stage(ONE)
    stage.snapshots["a"] = {"shares": {"hq": 100}}
    stage.die_at = lambda word: word == "step.succeeded a"
    assert stage.forward() is None
    again = Stage(ONE, stage.journal)
    again.snapshots["a"] = {"shares": {"acme": 100}}
    again.forward()
    assert again.journal.fold().steps["a"].snapshot == {"shares": {"hq": 100}}


def test_succeeded_steps_are_not_repeated() -> None:
    """A resume goes on where it stood."""
    two = plan(Branch("q", (spec("a"), spec("b"))))
    stage = Stage(two)
    stage.die_at = lambda word: word == "snapshot b"
    assert stage.forward() is None
    again = Stage(two, stage.journal)
    assert again.forward() is Result.DONE
    assert not [word for word in again.log if word.endswith(" a")]


def test_a_resume_does_again_what_no_longer_holds() -> None:
    """A switch that lied, or a late write of somebody else's: the lever is set anew, once."""
    what = plan(Branch("q", (spec("half", lever="l"), spec("whole", lever="l"), spec("look"))))
    first = Stage(what)
    first.holds["look"] = deque([NO])
    assert first.forward() is Result.PAUSED
    again = Stage(what, first.journal)
    again.gone = {"half", "whole"}
    again.done = {"half"}
    assert again.forward() is Result.DONE
    assert again.log.count("apply whole") == 1
    # Only the last place of the lever counts: the first was but a place on the way.
    assert "apply half" not in again.log and "step.failed half" not in again.log
    assert again.log.index("step.failed whole") < again.log.index("apply whole")


INCREMENTS = plan(Branch("q", (spec("half", lever="l"), spec("whole", lever="l"))))


@pytest.mark.parametrize("holds", [True, False])
def test_a_resume_does_not_go_back_behind_an_increment_that_was_begun(holds: bool) -> None:
    """Stopped while the second one soaked: that is where the lever is, and where it goes on.
    Only where that is not so either is the first one set anew."""
    first = Stage(INCREMENTS)
    first.holds["whole"] = deque([NO])
    assert first.forward() is Result.PAUSED
    again = Stage(INCREMENTS, first.journal)
    again.gone = {"half"} if holds else {"half", "whole"}
    assert again.forward() is Result.DONE
    assert ("step.failed half" in again.log) is not holds
    assert again.log.count("apply half") == (0 if holds else 1)


def test_a_resume_does_not_go_back_behind_what_was_done_by_hand() -> None:
    """Whoever skips an increment has set the lever themselves."""
    first = Stage(INCREMENTS)
    first.holds["whole"] = deque([NO])
    assert first.forward() is Result.PAUSED
    first.journal.write("step.skipped", {"step": "whole", "reason": "by hand"})
    again = Stage(INCREMENTS, first.journal)
    again.gone = {"half", "whole"}
    assert again.forward() is Result.DONE
    assert not [word for word in again.log if word.startswith("apply")]


def test_a_failure_pauses_its_branch_only() -> None:
    """The other branches are carried to their end; the common steps after wait."""
    both = plan(Branch("x", (spec("x1"), spec("x2"))), Branch("y", (spec("y1"), spec("y2"))),
                after=[spec("z")])
    stage = Stage(both)
    stage.holds["x1"] = deque([NO])
    assert stage.forward() is Result.PAUSED
    run = stage.journal.fold()
    assert run.phase is RunState.PAUSED
    assert {name: step.status.value for name, step in run.steps.items()} == {
        "x1": "failed", "x2": "pending", "y1": "succeeded", "y2": "succeeded", "z": "pending"}
    assert stage.journal.of("branch.paused")[0]["branch"] == "x"
    assert stage.log[-1] == "run.paused"


def test_a_failure_before_the_branches_keeps_them_from_starting() -> None:
    """Nobody confirmed: then nothing at all is touched."""
    stage = Stage(plan(Branch("q", (spec("a"),)), before=[spec("ask")]))
    stage.holds["ask"] = deque([Observed(Truth.NO, "nobody said yes", final=True)])
    assert stage.forward() is Result.PAUSED
    assert not [word for word in stage.log if word.endswith(" a")]


def test_on_failure_continue() -> None:
    """The step stays failed, the branch goes on, and the run is not plainly succeeded."""
    stage = Stage(plan(Branch("q", (spec("a", on_failure=OnFailure.CONTINUE), spec("b")))))
    stage.holds["a"] = deque([NO])
    assert stage.forward() is Result.DONE
    run = stage.journal.fold()
    assert run.steps["b"].status is StepStatus.SUCCEEDED
    assert any("a failed and was passed over" in text for text in run.exceptions())


def test_on_failure_abort() -> None:
    """The branch ends where it stands; with no other in effect, so does the run."""
    stage = Stage(plan(Branch("q", (spec("a", on_failure=OnFailure.ABORT), spec("b")))))
    stage.holds["a"] = deque([NO])
    assert stage.forward() is Result.ABORTED
    assert stage.journal.kinds()[-1] == "run.aborted"
    assert "snapshot b" not in stage.log


def test_on_failure_undo() -> None:
    """The branch is brought back, its failed step first, and the run says so."""
    stage = Stage(plan(Branch("q", (spec("a"), spec("b", on_failure=OnFailure.UNDO)))))
    stage.holds["b"] = deque([NO])
    assert stage.forward() is Result.UNDONE
    undone = [word for word in stage.log if word.startswith("undo.succeeded")]
    assert undone == ["undo.succeeded b", "undo.succeeded a"]
    assert stage.journal.kinds()[-1] == "run.rolled_back"


def test_one_branch_undone_does_not_turn_the_run_round() -> None:
    """Some gave up, some are in effect: a person decides, and `resume` still goes forward."""
    stage = Stage(plan(Branch("x", (spec("x1", on_failure=OnFailure.UNDO),)),
                       Branch("y", (spec("y1"),))))
    stage.holds["x1"] = deque([NO])
    assert stage.forward() is Result.PAUSED
    run = stage.journal.fold()
    assert run.phase is RunState.PAUSED and not run.rolling_back
    assert run.steps["y1"].status is StepStatus.SUCCEEDED


def test_on_failure_undo_that_fails_is_stuck() -> None:
    """An undo that does not come about is never called one."""
    stage = Stage(plan(Branch("q", (spec("a", on_failure=OnFailure.UNDO),))))
    stage.holds["a"] = stage.holds["~a"] = deque([NO])
    assert stage.forward() is Result.STUCK
    assert stage.journal.kinds()[-1] == "run.stuck"


def test_rollback_goes_backwards_and_undoes_only_what_was_done() -> None:
    """After, branches, before, each in reverse; what was never begun is left alone."""
    whole = plan(Branch("q", (spec("a"), spec("b"), spec("c"))), before=[spec("w")],
                 after=[spec("z")])
    stage = Stage(whole)
    stage.holds["c"] = deque([NO])
    stage.snapshots["c"] = Snapped(error="unreachable")
    assert stage.forward() is Result.PAUSED
    stage.log.clear()
    assert stage.backward() is Result.UNDONE
    started = [word for word in stage.log if word.startswith("undo.started")]
    assert started == ["undo.started b", "undo.started a", "undo.started w"]
    assert stage.journal.kinds()[-1] == "run.rolled_back"


def test_undo_of_increments_goes_straight_to_the_first_snapshot() -> None:
    """25 %, 50 %, 100 %: one write takes the lever back, and each step is told as undone."""
    names = ("s1", "s2", "s3")
    stage = Stage(plan(Branch("q", tuple(spec(name, lever="edge:q") for name in names))))
    for name, shares in zip(names, (100, 75, 50), strict=True):
        stage.snapshots[name] = {"hq": shares}
    assert stage.forward() is Result.DONE
    assert stage.backward() is Result.UNDONE
    assert [word for word in stage.log if word.startswith("undo ")] == ["undo s1"]
    assert stage.seen_snapshots["~s1"] == {"hq": 100}
    run = stage.journal.fold()
    assert all(run.steps[name].status is StepStatus.UNDONE for name in names)


def test_a_rollback_killed_between_increments_still_ends_at_the_first_snapshot() -> None:
    """The first step is undone, the later ones not yet marked, then kill -9: the second rollback
    must not take the second step's snapshot, which is a place on the way."""
    increments = plan(Branch("q", (spec("s1", lever="edge:q"), spec("s2", lever="edge:q"))))
    stage = Stage(increments)
    stage.snapshots |= {"s1": {"hq": 100}, "s2": {"hq": 50}}
    stage.forward()
    stage.die_at = lambda word: word == "undo.succeeded s2"
    # The append itself is lost, as when the process dies just before its commit.
    assert stage.backward() is None
    stage.journal.records = [r for r in stage.journal.records
                             if not (r.kind == "undo.succeeded" and r.data["step"] == "s2")]
    again = Stage(increments, stage.journal)
    again.done.add("~s1")
    assert again.backward() is Result.UNDONE
    assert "~s2" not in again.seen_snapshots
    assert again.seen_snapshots["~s1"] == {"hq": 100}
    assert again.journal.fold().steps["s2"].status is StepStatus.UNDONE


def test_undo_in_doubt_is_included() -> None:
    """A step that was begun and never ended is undone as well."""
    stage = Stage(ONE)
    stage.die_at = lambda word: word == "step.succeeded a"
    assert stage.forward() is None
    again = Stage(ONE, stage.journal)
    assert again.backward() is Result.UNDONE
    assert "undo a" in again.log


def test_stop_before_a_step() -> None:
    """Asked to stop, the run pauses at its next safe point with nothing half done."""
    stage = Stage(plan(Branch("q", (spec("a"), spec("b")))))
    stage.stop_after = 1
    assert stage.forward() is Result.PAUSED
    assert "step.succeeded a" in stage.log and "snapshot b" not in stage.log
    assert "asked to stop" in stage.journal.of("branch.paused")[0]["reason"]


def test_stop_while_waiting_for_the_read_back() -> None:
    """A stop is heard while a step waits; what it then says is what was last seen."""
    stage = Stage(ONE)
    stage.holds["a"] = deque([NO])
    stage.stop_after = 1
    assert stage.forward() is Result.PAUSED
    assert stage.journal.of("step.failed")[0]["reason"].startswith("asked to stop")
    assert stage.clock < 10


@pytest.mark.parametrize("answers", [[YES], [NO], [UNKNOWN], [NO, YES]])
def test_shadow_never_asks_for_a_write(answers: list[Observed]) -> None:
    """Whatever the world says, a shadow drill yields no effect that writes outside."""
    drill = plan(Branch("x", (spec("x1"), spec("x2"))), Branch("y", (spec("y1"),)),
                 before=[spec("w")], after=[spec("z")], mode=Mode.SHADOW)
    stage = Stage(drill)
    for step in drill.steps():
        stage.holds[step.id] = deque(answers)
    assert stage.forward() is Result.DONE
    assert not [word for word in stage.log if word.split()[0] in ("apply", "fence")]
    rehearsed = [data["step"] for data in stage.journal.of("step.rehearsed")]
    assert rehearsed == ["w", "x1", "x2", "y1", "z"]
    assert stage.journal.of("step.started") == []


def test_shadow_of_something_unreadable_is_unknown() -> None:
    """A drill that cannot read a platform says so and rehearses the rest."""
    stage = Stage(plan(Branch("q", (spec("a"), spec("b"))), mode=Mode.SHADOW))
    stage.snapshots["a"] = Snapped(error="unreachable")
    assert stage.forward() is Result.DONE
    first, second = stage.journal.of("step.rehearsed")
    assert (first["truth"], first["unreadable"]) == ("unknown", "unreachable")
    assert "holds a" not in stage.log and second["step"] == "b"


def test_every_write_is_preceded_by_a_fence_check() -> None:
    """Effect by effect: an Apply never follows anything but a CheckFence."""
    stage = Stage(plan(Branch("q", (spec("a"), spec("b", lever="l"))), after=[spec("z")]))
    stage.journal.write("run.started", {})
    flow, answer, last, applied = forward(stage.journal.fold()), None, None, 0

    def walk(each: object) -> object:
        nonlocal answer, last, applied
        answer = None
        while True:
            try:
                effect = each.send(answer)  # type: ignore[attr-defined]
            except StopIteration as end:
                return end.value
            if isinstance(effect, Apply):
                applied += 1
                assert isinstance(last, CheckFence)
            last = effect
            engines = getattr(effect, "engines", None)
            answer = [walk(one) for one in engines] if engines else stage._do(effect)

    assert walk(flow) is Result.DONE
    assert applied == 3


# --- superseding -------------------------------------------------------------------------------


def superseded() -> Stage:
    """r1 took two levers from their normal state and died in the middle."""
    stage = Stage(plan(Branch("q", (spec("q1", lever="edge:q"),)),
                       Branch("w", (spec("w1", lever="web:w"), spec("w2", lever="web:w")))))
    stage.snapshots |= {"q1": "q normal", "w1": "w normal", "w2": "w half way"}
    stage.die_at = lambda word: word == "step.succeeded w2"
    assert stage.forward() is None
    stage.journal.write("run.superseded", {"by": "r2-0000"})
    return stage


def test_a_successor_rolls_back_to_where_the_first_run_began() -> None:
    """The superseding run's own snapshot is a state on the way; the first one counts."""
    earlier = superseded().journal.fold()
    stage = Stage(plan(Branch("q", (spec("n1", lever="edge:q"),)), supersedes=("r1-0000",)),
                  earlier=(earlier,))
    stage.journal.run = "r2-0000"
    stage.snapshots["n1"] = "q on the way"
    assert stage.forward() is Result.DONE
    assert stage.seen_snapshots["n1"] == "q on the way"
    assert stage.backward() is Result.UNDONE
    assert stage.seen_snapshots["~n1"] == "q normal"
    assert stage.seen_snapshots["~r1-0000:w1"] == "w normal", "levers it never touched, too"
    assert [word for word in stage.log if word.startswith("undo ")] == [
        "undo n1", "undo r1-0000:w1"]


def test_a_stuck_inherited_undo_is_a_problem_of_the_successor() -> None:
    """What cannot be brought back is told, whoever had moved it."""
    earlier = superseded().journal.fold()
    stage = Stage(plan(Branch("q", (spec("n1", lever="edge:q"),)), supersedes=("r1-0000",)),
                  earlier=(earlier,))
    stage.holds["~r1-0000:w1"] = deque([NO])
    stage.forward()
    assert stage.backward() is Result.STUCK
    run = stage.journal.fold(earlier)
    assert [step.spec.id for step in run.problems()] == ["r1-0000:w1"]


def test_inheritance_passes_through_several_runs() -> None:
    """r3 supersedes r2, which superseded r1: back to before r1."""
    first = superseded().journal.fold()
    second = Stage(plan(Branch("q", (spec("n1", lever="edge:q"),)), supersedes=("r1-0000",)),
                   earlier=(first,))
    second.journal.write("run.started", {})
    third = Stage(plan(Branch("q", (spec("m1", lever="edge:q"),)), supersedes=("r2-0000",)),
                  earlier=(second.journal.fold(first),))
    third.snapshots["m1"] = "on the way"
    third.forward()
    assert third.backward() is Result.UNDONE
    assert third.seen_snapshots["~m1"] == "q normal"
    assert third.seen_snapshots["~r1-0000:w1"] == "w normal"


def test_a_run_that_pre_empted_two_brings_both_back() -> None:
    """One lever of each: every one goes back to its own first snapshot, the last one first."""
    def overflow(name: str) -> Run:
        stage = Stage(plan(Branch(name, (spec(f"{name}1", lever=f"edge:{name}"),))),
                      Journal(run=f"r-{name}"))
        stage.snapshots[f"{name}1"] = f"{name} normal"
        assert stage.forward() is Result.DONE
        stage.journal.records.pop()
        return stage.journal.fold()

    stage = Stage(plan(Branch("q", (spec("n1", lever="edge:q"),)), supersedes=("r-q", "r-w")),
                  Journal(run="r3-0000"), earlier=(overflow("q"), overflow("w")))
    stage.snapshots["n1"] = "q on the way"
    assert stage.forward() is Result.DONE
    assert stage.backward() is Result.UNDONE
    assert stage.seen_snapshots["~n1"] == "q normal"
    assert stage.seen_snapshots["~r-w:w1"] == "w normal"


def test_what_was_undone_is_not_inherited() -> None:
    """A lever that the first run had already brought back is nobody's debt."""
    stage = superseded()
    stage.journal.records.pop()
    back = Stage(stage.journal.fold().plan, stage.journal)
    back.snapshots = stage.snapshots
    assert back.backward() is Result.UNDONE
    assert back.journal.fold().first_moves() == {}
