"""Facts about runs and plans, in the one shape that JSON, terminal and report share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ccfailover.model.journal import person
from ccfailover.model.shares import Shares
from ccfailover.runbooks.run import Run, RunState, StepRecord, StepStatus
from ccfailover.runtime import SECOND

if TYPE_CHECKING:
    from ccfailover.model.plan import Plan
    from ccfailover.operations.desk import Desk


def run_facts(desk: Desk, run: Run, state: RunState) -> dict[str, Any]:
    """Everything a list or a summary says of a run."""
    from ccfailover.reports.objectives import objectives  # `status` imports this module, too

    ended = run.ended_at
    return {
        "policy": desk.policy.heading,
        "run": run.id,
        "drill": run.plan.mode.value != "real",
        "mode": run.plan.mode.value,
        "runbook": run.plan.runbook,
        "subject": run.plan.subject,
        "reason": run.plan.reason,
        "supersedes": list(run.plan.supersedes),
        "state": state.value,
        "plan": run.plan.hash,
        "by": run.requester,
        "incident": run.context.get("incident"),
        "planned_at": run.planned_at,
        "started_at": run.started_at,
        "ended_at": ended,
        "seconds": ((ended or desk.runtime.now()) - run.planned_at) / SECOND,
        "shares_after": {k: dict(v) for k, v in run.plan.shares_after.items()},
        "in_effect": {queue: where.to_json() for queue, where in in_effect(run).items()},
        "in_doubt": [step.spec.id for step in run.steps.values() if is_doubtful(step)],
        "steps": [step_facts(step) for step in run.steps.values()],
        "exceptions": run.exceptions(),
        "problems": [f"{step.spec.id} {in_words(step, run)}: {step.reason}"
                     for step in run.problems()] if state.is_open else [],
        "objectives": [found.to_json() for found in objectives(run)],
        "next": _next(desk, run, state),
        "head": {"seq": run.head[0], "hash": run.head[1]},
    }


def _next(desk: Desk, run: Run, state: RunState) -> str:
    if desk.local is None:
        return next_for(run, state)
    from ccfailover.operations.local import with_option

    return with_option(desk, next_for(run, state))


@dataclass(frozen=True)
class InEffect:
    """Where a run has left a queue, by its journal. `shares` None: not known, `between` says
    which of these it may be."""

    shares: Mapping[str, int] | None
    between: tuple[Mapping[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"shares": dict(self.shares) if self.shares is not None else None,
                "between": [dict(parts) for parts in self.between]}

    def __str__(self) -> str:
        if self.shares is not None:
            return str(Shares(self.shares))
        maybe = " or ".join(str(Shares(parts)) for parts in self.between)
        return f"not known{': ' if maybe else ''}{maybe}"


_DONE = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)


def in_effect(run: Run) -> dict[str, InEffect]:
    """Queue → where its lever is by the run's journal, whether the run has ended or not."""
    found = {}
    for queue, planned in run.plan.shares_before.items():
        now: list[Mapping[str, int] | None] = [planned]
        for step in run.steps.values():
            if step.spec.params.get("queue") != queue or "to" not in step.spec.params:
                continue
            to: Mapping[str, int] = step.spec.params["to"]
            before = (step.snapshot or {}).get("shares")
            if step.status in _DONE:
                now = [to]
            elif step.status is StepStatus.UNDONE:
                now = [before] if before is not None else now
                break  # whatever came after it was undone with it
            elif step.has_snapshot:
                # It failed, or nobody knows: its lever may have been set all the same.
                now = [*([before] if before is not None else now), to]
        sure = now[0] if len(now) == 1 else None
        found[queue] = InEffect(sure, () if sure is not None else tuple(
            parts for parts in now if parts is not None))
    return found


def is_doubtful(step: StepRecord) -> bool:
    """Whether nobody knows if it took effect: begun and never ended, or not to be read back."""
    return step.status in (StepStatus.STARTED, StepStatus.UNDOING) or (
        step.status in (StepStatus.FAILED, StepStatus.UNDO_FAILED) and step.truth == "unknown"
        and step.has_snapshot)


def standing(run: Run, seen: Mapping[str, Shares]) -> list[str]:
    """What a person must know of a run that stands still: what is in effect, which steps are
    done, which in doubt, which were never begun. One sentence each. `seen` is what levers were
    read at since the run stopped."""
    steps = list(run.steps.values())
    done = [step.spec.id for step in steps if step.status in _DONE]
    undone = [step.spec.id for step in steps if step.status is StepStatus.UNDONE]
    doubtful = [step.spec.id for step in steps if is_doubtful(step)]
    waiting = [step.spec.id for step in steps if step.status is StepStatus.PENDING]
    lines = [f"in effect: {queue} {_where(where, seen.get(queue))}"
             for queue, where in in_effect(run).items()]
    lines += [f"{word}: {_some(names)}" for word, names in (
        ("done", done), ("undone", undone), ("in doubt", doubtful), ("not begun", waiting))
        if names]
    return lines


def _where(where: InEffect, seen: Shares | None) -> str:
    if seen is None:
        return f"at {where}, by the journal"
    if where.shares is not None and Shares(where.shares) != seen:
        return f"at {seen} as read just now; the journal says {where}"
    return f"at {seen}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown


def step_facts(step: StepRecord) -> dict[str, Any]:
    return {"id": step.spec.id, "kind": step.spec.kind, "title": step.spec.title,
            "status": step.status.value, "truth": step.truth, "reason": step.reason,
            "attempts": step.attempts, "started_at": step.started_at, "ended_at": step.ended_at,
            "data": dict(step.data), "exceptions": list(step.exceptions)}


def in_words(step: StepRecord, run: Run) -> str:
    """A step's status for people: one that was started and never ended is in doubt."""
    if step.status is StepStatus.STARTED:
        return "in doubt"
    if step.status is StepStatus.FAILED and step.truth == "unknown":
        return "unknown"
    return str(step.status.value).replace("_", " ")


def next_for(run: Run, state: RunState) -> str:
    """The one command that a tired person should think about next."""
    if waits_for_approval(run) and state in (RunState.PAUSED, RunState.RUNNING):
        then = f", then: ccfailover resume {run.id}" if state is RunState.PAUSED else ""
        return f"ccfailover approve {run.id}   (not by {person(run.requester)}){then}"
    match state:
        case RunState.PAUSED:
            return (f"ccfailover resume {run.id}   (or: skip {run.id} --reason …, "
                    f"rollback {run.id})")
        case RunState.INTERRUPTED if run.rolling_back:
            return f"ccfailover rollback {run.id}"
        case RunState.INTERRUPTED | RunState.PLANNED:
            return f"ccfailover resume {run.id}   (or: rollback {run.id})"
        case RunState.STUCK:
            return f"ccfailover runs show {run.id}, then rollback {run.id} or abort {run.id}"
        case RunState.RUNNING | RunState.ROLLING_BACK:
            return f"ccfailover runs watch {run.id}"
    if run.plan.mode.value != "real":
        return f"ccfailover report {run.id}"
    if state in (RunState.SUCCEEDED, RunState.SUCCEEDED_WITH_EXCEPTIONS) and (
            run.plan.runbook in ("full_failover", "switchover")):
        return f"ccfailover failback {run.plan.subject} --reason …   when it is healthy again"
    return f"ccfailover report {run.id}"


def waits_for_approval(run: Run) -> bool:
    """Whether an approval is what the run's next step needs."""
    return any(step.spec.kind == "approve" for step in run.problems()) and not run.rolling_back


def runsheet(desk: Desk, plan: Plan) -> list[str]:
    """The plan as instructions for a person, for when the tool itself is dead."""
    lines = [f"RUN SHEET  {plan.runbook} {plan.subject}  {desk.policy.heading}  plan {plan.hash}",
             "Do each step, see with your own eyes that it holds, write down the time.", ""]
    number = 0
    parts = {lever.lever: [part.lever for part in lever.parts]
             for queue in desk.policy.queues.values()
             for lever in (queue.route, queue.intake) if lever is not None}
    for branch in plan.all_branches():
        for step in branch.steps:
            if step.kind in ("confirm", "notify"):
                continue
            number += 1
            lines.append(f"[ ] {number}. {step.title}   at ____:____ by ________")
            for lever in parts.get(step.lever, [step.lever] if step.lever else []):
                provider, _, ref = lever.partition(":")
                spec = desk.policy.providers.get(provider)
                at = spec.params.get("url", spec.kind) if spec else ""
                lines.append(f"       lever {ref} at {provider} ({at})")
            if "to" in step.params:
                lines.append(f"       set: {step.params['to']}   now: "
                             f"{plan.shares_before.get(str(step.params['queue']))}")
    lines += ["", "UNDO: set every lever back to its `now` value, in reverse order."]
    return lines
