"""Facts about runs and plans, in the one shape that JSON, terminal and report share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        "planned_at": run.planned_at,
        "started_at": run.started_at,
        "ended_at": ended,
        "seconds": ((ended or desk.runtime.now()) - run.planned_at) / SECOND,
        "shares_after": {k: dict(v) for k, v in run.plan.shares_after.items()},
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


def runsheet(desk: Desk, plan: Plan) -> list[str]:
    """The plan as instructions for a person, for when the tool itself is dead."""
    lines = [f"RUN SHEET  {plan.runbook} {plan.subject}  {desk.policy.heading}  plan {plan.hash}",
             "Do each step, see with your own eyes that it holds, write down the time.", ""]
    number = 0
    for branch in plan.all_branches():
        for step in branch.steps:
            if step.kind in ("confirm", "notify"):
                continue
            number += 1
            lines.append(f"[ ] {number}. {step.title}   at ____:____ by ________")
            if step.lever:
                provider, _, ref = step.lever.partition(":")
                spec = desk.policy.providers.get(provider)
                at = spec.params.get("url", spec.kind) if spec else ""
                lines.append(f"       lever {ref} at {provider} ({at})")
            if "to" in step.params:
                lines.append(f"       set: {step.params['to']}   now: "
                             f"{plan.shares_before.get(str(step.params['queue']))}")
    lines += ["", "UNDO: set every lever back to its `now` value, in reverse order."]
    return lines
