"""The engine: what happens in which order. It performs nothing.

Every function here is a generator (without `finally`, so that dropping one is a crash and
nothing else) that yields effects and is sent their results. `drive.py` performs them on real
platforms; a simulator may interleave, delay or crash them at will.

The order inside a step (DESIGN §4.2) is the promise this tool stands on:
snapshot → `step.started` on disk → holds? → guards → fence → apply → holds, until the deadline →
`step.succeeded`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from ccfailover.model.plan import Branch, Json, Mode, OnFailure, StepSpec
from ccfailover.runbooks.effects import Append as Append
from ccfailover.runbooks.effects import Applied as Applied
from ccfailover.runbooks.effects import Apply as Apply
from ccfailover.runbooks.effects import Branches as Branches
from ccfailover.runbooks.effects import CheckFence as CheckFence
from ccfailover.runbooks.effects import Clock as Clock
from ccfailover.runbooks.effects import Effect as Effect
from ccfailover.runbooks.effects import End as End
from ccfailover.runbooks.effects import Guard as Guard
from ccfailover.runbooks.effects import Guarded as Guarded
from ccfailover.runbooks.effects import Holds as Holds
from ccfailover.runbooks.effects import Result as Result
from ccfailover.runbooks.effects import Snapped as Snapped
from ccfailover.runbooks.effects import Snapshot as Snapshot
from ccfailover.runbooks.effects import Still as Still
from ccfailover.runbooks.effects import Wait as Wait
from ccfailover.runbooks.run import Run, StepRecord, StepStatus
from ccfailover.runbooks.step import Observed, Truth

T = TypeVar("T")

Engine: TypeAlias = Generator[Effect, Any, T]
_Undo: TypeAlias = Generator[Any, Any, "Result"]

STOPPED = "asked to stop"
"""Why a step ended that a person stopped: nothing is undone for it."""

ASIDE = frozenset({"announce"})
"""Kinds of step on which no other depends: where one cannot be undone the others still are."""


def forward(run: Run) -> Engine[Result]:
    """Carry the run on from wherever its journal says it is.

    Shape: the common steps before, a branch per queue side by side, the common steps after. A
    failure pauses its branch only; the steps after wait until every branch is through.
    """
    plan = run.plan
    first = yield from _branch(run, plan.before)
    if first is not Result.DONE:
        return (yield from _stop(run, [first]))
    if plan.branches:
        engines = tuple(_branch(run, branch) for branch in plan.branches)
        results = yield Branches(engines)
        if any(result is not Result.DONE for result in results):
            return (yield from _stop(run, results))
    last = yield from _branch(run, plan.after)
    if last is not Result.DONE:
        return (yield from _stop(run, [last]))
    # The driver folds the journal anew and names the ending: exceptions make it a lesser one.
    yield End("run.succeeded", {})
    return Result.DONE


def _stop(run: Run, results: list[Result]) -> Engine[Result]:
    """Name what stopped: a person is needed wherever a branch is paused or stuck."""
    if Result.STUCK in results:
        yield Append("run.stuck", {})
        return Result.STUCK
    if Result.PAUSED in results:
        yield Append("run.paused", {})
        return Result.PAUSED
    if all(result is Result.UNDONE for result in results):
        yield End("run.rolled_back", {})
        return Result.UNDONE
    if all(result in (Result.ABORTED, Result.UNDONE) for result in results):
        yield End("run.aborted", {})
        return Result.ABORTED
    # Some branches are through and some gave up as their recipe said: the rest is in effect.
    yield Append("run.paused", {"reason": "some branches gave up, others are in effect"})
    return Result.PAUSED


def _branch(run: Run, branch: Branch) -> Engine[Result]:
    steps = dict(run.steps)  # this branch's own picture, kept up as its steps are done
    if run.started_at is not None and run.plan.mode is Mode.REAL:
        yield from _read_again(branch, steps)
    for spec in branch.steps:
        step = steps[spec.id]
        if step.status in (StepStatus.SUCCEEDED, StepStatus.SKIPPED, StepStatus.REHEARSED):
            continue
        if (yield Wait(0)):
            yield Append("branch.paused", {"branch": branch.name, "at": spec.id,
                                           "reason": "asked to stop before this step"})
            return Result.PAUSED
        if run.plan.mode is Mode.SHADOW:
            yield from _rehearse(step)
            continue
        steps[spec.id], reason = yield from _step(step)
        if reason is not None and reason.startswith(STOPPED):
            # No failure: whatever the recipe says of one, a person decides how it goes on.
            yield Append("branch.paused", {"branch": branch.name, "at": spec.id, "reason": reason})
            return Result.PAUSED
        if reason is None or spec.on_failure is OnFailure.CONTINUE and not steps[spec.id].vetoed:
            continue
        if spec.on_failure is OnFailure.ABORT:
            yield Append("branch.aborted", {"branch": branch.name, "at": spec.id,
                                            "reason": reason})
            return Result.ABORTED
        if spec.on_failure is OnFailure.UNDO:
            return (yield from _undo_branch(steps, branch.steps))
        yield Append("branch.paused", {"branch": branch.name, "at": spec.id, "reason": reason})
        return Result.PAUSED
    return Result.DONE


def _read_again(branch: Branch, steps: dict[str, StepRecord]) -> Engine[None]:
    """On a resume: what was done may have been undone since, or never have been so.

    A switch can lie when it is read back, and another process's late write can land after ours.
    Only the last step of each lever counts; one that holds no longer is done again, unless a
    further increment was begun and holds instead, or a person skipped one, having done it by hand.
    An approval that has expired since is asked for again.
    """
    last = {spec.lever or spec.id: spec for spec in branch.steps
            if steps[spec.id].status is StepStatus.SUCCEEDED}
    for spec in last.values():
        seen: Observed = yield Still(spec, steps[spec.id].snapshot)
        if seen.truth is Truth.NO and not (yield from _is_ahead(branch, steps, spec)):
            yield Append("step.failed", {"step": spec.id, "truth": seen.truth.value,
                                         "reason": f"no longer so: {seen.detail}"})
            steps[spec.id] = replace(steps[spec.id], status=StepStatus.FAILED)


def _is_ahead(branch: Branch, steps: dict[str, StepRecord], spec: StepSpec) -> Engine[bool]:
    """Whether its lever was moved on from a step that has succeeded: by a further increment of
    this run that did not come to its end, or by the person who skipped one."""
    for other in reversed(branch.steps):
        step = steps[other.id]
        if other is spec or not spec.lever:
            break
        if other.lever != spec.lever:
            continue
        if step.status is StepStatus.SKIPPED:
            return True
        if step.status in (StepStatus.STARTED, StepStatus.FAILED) and step.touched:
            ahead: Observed = yield Still(other, step.snapshot)
            return ahead.truth is not Truth.NO
    return False


def _rehearse(step: StepRecord) -> Engine[None]:
    """A shadow drill: read what the step would start from, and write nothing outside."""
    snapped: Snapped = yield Snapshot(step.spec)
    guarded = Guarded()
    if snapped.error is None:
        observed: Observed = yield Holds(step.spec, snapped.value)
        if observed.truth is not Truth.YES:
            guarded = yield Guard(step.spec, snapped.value)
    else:
        observed = Observed(Truth.UNKNOWN, f"cannot be read: {snapped.error}")
    yield Append("step.rehearsed", {
        "step": step.spec.id, "truth": observed.truth.value, "detail": observed.detail,
        "snapshot": snapped.value, "unreadable": snapped.error, "would": step.spec.title,
        "guards": list(guarded.said), "stopped": guarded.stop,
    })


def _step(step: StepRecord) -> Engine[tuple[StepRecord, str | None]]:
    """One step → its new record, and None when it succeeded, else the reason why not."""
    spec, snapshot = step.spec, step.snapshot
    if step.status is StepStatus.STARTED:
        # In doubt: whoever began it never wrote how it ended. Look before doing it again.
        seen: Observed = yield Holds(spec, snapshot)
        yield Append("step.observed", {"step": spec.id, "truth": seen.truth.value,
                                       "detail": seen.detail})
    if not step.has_snapshot:
        snapped: Snapped = yield Snapshot(spec)
        if snapped.error is not None:
            yield Append("step.failed", {"step": spec.id, "truth": Truth.UNKNOWN.value,
                                         "reason": f"not begun: {snapped.error}"})
            return replace(step, status=StepStatus.FAILED), snapped.error
        snapshot = snapped.value
    yield Append("step.started", {"step": spec.id, "intent": spec.title, "snapshot": snapshot,
                                  "attempt": step.attempts + 1})
    step = replace(step, status=StepStatus.STARTED, snapshot=snapshot, has_snapshot=True)
    observed, error = yield from _until_held(spec, snapshot, undo=False)
    if observed.truth is Truth.YES:
        yield Append("step.succeeded", {
            "step": spec.id, "detail": observed.detail, "data": dict(observed.data or {}),
            "exceptions": list(observed.exceptions),
        })
        return replace(step, status=StepStatus.SUCCEEDED), None
    reason = f"{error}; {observed.detail}" if error else observed.detail
    if observed.back_off and error != STOPPED:
        reason = yield from _back_off(step, reason)
    yield Append("step.failed", {"step": spec.id, "truth": observed.truth.value,
                                 "reason": reason, "veto": observed.veto})
    return replace(step, status=StepStatus.FAILED, vetoed=observed.veto), reason


def _back_off(step: StepRecord, reason: str) -> Engine[str]:
    """The receivers do not bear what they were given: back to what the step found, which is the
    last increment that they bore; why the step failed, with what came of that."""
    spec = step.spec
    yield Append("step.backing_off", {"step": spec.id, "reason": reason})
    observed, error = yield from _until_held(spec, step.snapshot, undo=True)
    if observed.truth is Truth.YES:
        return f"backed off ({observed.detail}): {reason}"
    why = f"{error}; {observed.detail}" if error else observed.detail
    return f"{reason}; could not back off: {why}"


def _until_held(spec: StepSpec, snapshot: Json, *, undo: bool,
                ) -> Engine[tuple[Observed, str | None]]:
    """Apply until the world itself says that the aim is met, or the deadline has passed.

    The last word is always an observation: a call that was refused or timed out may have landed,
    and a "200 OK" may not have.
    """
    began: float = yield Clock()
    observed: Observed = yield Holds(spec, snapshot, undo)
    if observed.truth is Truth.YES or observed.final:
        return observed, None
    guarded: Guarded = yield Guard(spec, snapshot, undo)
    if guarded.said:
        yield Append("step.guarded", {"step": spec.id, "guards": list(guarded.said),
                                      "stopped": guarded.stop, "undo": undo})
    if guarded.stop is not None:
        return Observed(Truth.NO, guarded.stop, final=True), None
    error: str | None = None
    while True:
        yield CheckFence(spec.timeout)
        applied: Applied = yield Apply(spec, snapshot, undo)
        error = applied.error
        if not applied.more:
            break
        now: float = yield Clock()
        stop: bool = yield Wait(0)
        if stop or now - began >= spec.deadline:
            observed = yield Holds(spec, snapshot, undo)
            return observed, (STOPPED if stop
                              else f"not finished within {spec.deadline:g} s")
    held_back = False
    while True:
        observed = yield Holds(spec, snapshot, undo)
        if observed.truth is Truth.YES or observed.final or applied.permanent:
            return observed, error
        now = yield Clock()
        if now - began >= spec.deadline:
            return observed, error or f"not so within {spec.deadline:g} s"
        if observed.back_off and not held_back:
            yield Append("step.holding", {"step": spec.id, "reason": observed.detail})
        held_back = observed.back_off
        if (yield Wait(spec.poll)):
            return observed, STOPPED


def backward(run: Run) -> Engine[Result]:
    """Undo what was done, in reverse order, branches side by side; never more than was done.

    A run that superseded another goes back to where that one began: its own moves first, then
    those of the other on levers that this run never touched, and its moves of items.
    """
    plan = run.plan
    own = {step.spec.lever for step in run.steps.values() if step.touched} - {""}
    left = {name: step for name, step in run.inherited.items() if step.spec.lever not in own}
    groups: list[tuple[_Undo, ...]] = [
        tuple(_undo_branch(run.steps, branch.steps, run.inherited) for branch in group)
        for group in ((plan.after,), plan.branches, (plan.before,))
    ]
    groups.append((_undo_branch(left, tuple(step.spec for step in left.values())),))
    for engines in groups:
        results: list[Result] = (yield Branches(engines)) if engines else []
        if any(result is Result.STUCK for result in results):
            yield Append("run.stuck", {})
            return Result.STUCK
    yield End("run.rolled_back", {})
    return Result.UNDONE


def _undo_branch(records: Mapping[str, StepRecord], specs: tuple[StepSpec, ...],
                 inherited: Mapping[str, StepRecord] | None = None) -> Engine[Result]:
    """Undo a branch from the first snapshots, those of a superseded run before its own.

    Several steps may have moved one lever (the increments of a shift): the lever goes straight
    back to what it was before the first of them, when its last one's turn comes.
    """
    first = {step.spec.lever: step.snapshot for step in (inherited or {}).values()
             if step.spec.lever}
    begun = [records[spec.id] for spec in specs if records[spec.id].has_snapshot]
    by_lever: dict[str, list[StepRecord]] = {}
    for step in begun:
        by_lever.setdefault(step.spec.lever or step.spec.id, []).append(step)
    # One whose first step is undone and whose later ones are not yet (we died in between) is
    # taken up from its first step again: a later snapshot is only a place on the way.
    groups = [group for group in by_lever.values() if any(step.touched for step in group)]
    # The lever touched last comes back first.
    order = sorted(groups, key=lambda group: begun.index(group[-1]), reverse=True)
    stuck = False
    for earliest, *later in order:
        if (yield Wait(0)):
            return Result.STUCK
        before = first.get(earliest.spec.lever, earliest.snapshot)
        origin = replace(earliest, snapshot=before)
        if (yield from _undo(origin)) is not None:
            if origin.spec.kind not in ASIDE:
                return Result.STUCK
            stuck = True
            continue
        for step in later:
            yield Append("undo.succeeded", {"step": step.spec.id,
                                            "detail": f"undone with {origin.spec.id}"})
    return Result.STUCK if stuck else Result.UNDONE


def _undo(step: StepRecord) -> Engine[str | None]:
    spec = step.spec
    yield Append("undo.started", {"step": spec.id})
    observed, error = yield from _until_held(spec, step.snapshot, undo=True)
    if observed.truth is Truth.YES:
        yield Append("undo.succeeded", {"step": spec.id, "detail": observed.detail,
                                        "exceptions": list(observed.exceptions)})
        return None
    reason = f"{error}; {observed.detail}" if error else observed.detail
    yield Append("undo.failed", {"step": spec.id, "truth": observed.truth.value,
                                 "reason": reason})
    return reason
