"""The guards before a step: what the planner was told once is asked again when a run acts.

Hours may lie between a plan and its last step: a licence ends, a blocked window begins, money is
spent, somebody switches automation off. Pure: it is given the picture of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ccfailover.model.health import State
from ccfailover.model.plan import Finding
from ccfailover.model.policy import Policy
from ccfailover.planning.cost import cost_per_hour
from ccfailover.planning.eligibility import KIND_OF, forbidden
from ccfailover.planning.guards import QueuePlan, judge
from ccfailover.runbooks.plan import Circumstances
from ccfailover.runbooks.run import Run
from ccfailover.runbooks.step import Move


@dataclass(frozen=True)
class Automation:
    """Who switched it off, until when and why, in one sentence; None: it is on."""

    off: str | None = None


def before_step(policy: Policy, run: Run, moves: Sequence[Move], seen: Circumstances,
                automation: Automation, at: int) -> list[Finding]:
    """What stands against these moves at the instant `at` (µs): levels as `guards.judge` gives
    them, `hard` and `soft` stop the step.

    Moves that change nothing are not judged, nor is a queue that the policy has no more: its step
    cannot find its lever either, and says so.
    """
    kind = KIND_OF.get(run.plan.runbook, "failover")
    known = [move for move in moves if move.queue in policy.queues and move.before != move.after]
    found: list[Finding] = []
    shares = []
    for move in known:
        queue = policy.queues[move.queue]
        if move.hard_only:
            raised = [name for name in move.after if name in policy.sites
                      and move.after.of(name) > move.before.of(name)]
            found.extend(finding for name in raised if (finding := forbidden(
                policy, queue, policy.sites[name], kind=kind, at=at)) is not None)
            continue
        load = seen.loads.get(queue.name, queue.load_per_hour)
        shares.append(QueuePlan(queue=queue, before=move.before, after=move.after,
                                cost_per_hour=cost_per_hour(policy, queue, move.after, load)[0],
                                way=(move.after,)))
    found.extend(judge(
        policy, runbook=run.plan.runbook, queue_plans=shares, world=seen.world, at=at,
        home_down_fresh=_left_is_down(policy, run, seen), overrides=run.overrides,
        spent_today=seen.spent_today, last_moves=seen.last_moves, is_blocked=seen.is_blocked,
        automatic=run.automatic, automation_off=automation.off if run.automatic else None))
    return found


def _left_is_down(policy: Policy, run: Run, seen: Circumstances) -> bool:
    subject = run.plan.subject
    site = policy.queues[subject].home if subject in policy.queues else subject
    return seen.world.site_state(site) is State.DOWN
