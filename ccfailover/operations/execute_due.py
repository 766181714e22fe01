"""`execute-due`: run what the policy lets run by itself, apart from `check`, so that a long run
never delays the next look."""

from __future__ import annotations

from dataclasses import dataclass

from ccfailover.errors import CcfError, LeaseHeld, Refused
from ccfailover.model.health import Decision
from ccfailover.operations import runs
from ccfailover.operations.check import answered, decide
from ccfailover.operations.desk import Desk
from ccfailover.operations.look import look
from ccfailover.operations.prepare import prepare
from ccfailover.runbooks.plan import Request


@dataclass(frozen=True)
class Executed:
    """What became of one due decision: `outcome` when it ran, else `why_not`."""

    decision: Decision
    outcome: runs.RunOutcome | None
    why_not: CcfError | None


def execute_due(desk: Desk) -> list[Executed]:
    """Each decision that may run by itself, one after the other, most important queue first.

    What a decision rests on is looked at again before anything is moved.
    """
    done = []
    world = look(desk)
    for decision in decide(desk, world, record=True):
        if decision.action != "execute" or decision.blockers:
            continue
        done.append(_execute(desk, decision))
        world = look(desk)
    return done


def _execute(desk: Desk, decision: Decision) -> Executed:
    request = Request(
        runbook=decision.runbook, subject=decision.subject, automatic=True,
        reason=f"trigger {decision.trigger}: {'; '.join(decision.reasons)}"[:500],
    )
    try:
        prepared = prepare(desk, request)
        outcome = runs.start(desk, prepared, confirmed=f"policy: trigger {decision.trigger} "
                                                       "is automatic")
    except (Refused, LeaseHeld) as error:
        nothing = isinstance(error, Refused) and error.guard == "nothing_to_do"
        if nothing:
            answered(desk, decision.trigger, "nothing to do")
        else:
            desk.store.append("automation", "trigger.refused",
                              {"trigger": decision.trigger, "why": str(error)},
                              actor=str(desk.actor))
        return Executed(decision, None, error)
    answered(desk, decision.trigger, outcome.run.id)
    return Executed(decision, outcome, None)
