"""Make a plan from what the world is now, and say whether it may be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from ccfailover.errors import Refused, UsageError
from ccfailover.model.health import World
from ccfailover.model.plan import Mode, Plan
from ccfailover.model.shares import Shares
from ccfailover.operations.desk import Desk
from ccfailover.operations.history import last_moves, spent_today
from ccfailover.operations.look import look
from ccfailover.operations.run_list import folded
from ccfailover.operations.until import instant
from ccfailover.runbooks import recipe
from ccfailover.runbooks.plan import Circumstances, Request, changed, make_plan
from ccfailover.runbooks.takeover import pre_empting

_LOOKING = frozenset({"verify", "confirm", "notify", "approve"})


@dataclass(frozen=True)
class Prepared:
    """A plan with the picture it was made from. `refusal` is None when it may run."""

    request: Request
    plan: Plan
    world: World
    refusal: Refused | None

    @property
    def idle(self) -> bool:
        """The plan touches nothing: its branches only look."""
        return not any(step.kind not in _LOOKING for branch in self.plan.branches
                       for step in branch.steps)

    @property
    def nothing_to_do(self) -> bool:
        """Idle because all is as it should be, not because it cannot be: what must leave a site
        has left it, what is to return has returned, home serves what it has."""
        plan = self.plan
        quiet = all(finding.level == "info" for finding in plan.findings)
        if self.idle and plan.runbook == "overflow":
            return quiet
        if not self.idle or plan.shares_before != plan.shares_after:
            return False
        if plan.runbook in ("failback", "reassert"):
            return quiet
        return not any(shares.get(plan.subject) for shares in plan.shares_after.values())


def prepare(desk: Desk, request: Request, *, world: World | None = None) -> Prepared:
    """Look, then plan. Raises UsageError for names that the policy does not have."""
    if not request.reason.strip() and request.mode is Mode.REAL:
        raise UsageError("a reason is needed", not_done="nothing was planned",
                         hint='--reason "INC-42 power"')
    if request.until is not None:
        request = replace(request, until=instant(request.until, desk.policy.timezone,
                                                 desk.runtime.now()))
    if request.supersedes is not None:
        request = replace(request, supersedes=desk.store.find_run(request.supersedes))
    seen, guards = world or look(desk), desk.policy.guards
    found = recipe.load(request.runbook, desk.policy.runbooks)
    plan = make_plan(desk.policy, request, found, desk.kinds, Circumstances(
        world=seen, capabilities=desk.kinds.capabilities, is_open=desk.is_open,
        is_blocked=desk.is_blocked,
        # What no guard asks for is not worth reading every run of the day.
        last_moves=last_moves(desk) if guards.flap_block else {},
        spent_today=spent_today(desk) if guards.daily_cost is not None else Decimal(0),
        baseline=_baseline(desk) if request.runbook == "reassert" else {},
    ))
    plan = pre_empting(plan, desk.store, lambda run: folded(desk, run))
    if desk.local is not None:
        from ccfailover.operations.local import findings

        plan = replace(plan, findings=(*plan.findings, *findings(plan)))
    return Prepared(request, plan, seen, refusal(plan))


def _baseline(desk: Desk) -> Mapping[str, Shares]:
    from ccfailover.operations.reassert import baseline  # of that verb alone

    return baseline(desk)


def refusal(plan: Plan) -> Refused | None:
    """What stands against a plan: a hard finding always, a soft one unless it was overridden.

    Soft guards hold back moves, and a shadow drill makes none: the rehearsal of a failover must
    not fail because home happens to be well that day. The finding is shown all the same.
    """
    drill = plan.mode is Mode.SHADOW
    stops = [f for f in plan.findings if f.level == "hard"
             or f.level == "soft" and f.guard not in plan.overrides and not drill]
    if not stops:
        return None
    first = stops[0]
    more = f" (and {len(stops) - 1} more)" if len(stops) > 1 else ""
    hint = (f"--override {first.guard} with --override-reason, if you answer for it"
            if all(f.level == "soft" for f in stops) else
            "change the policy or the request; a hard guard cannot be overridden")
    return Refused(first.sentence + more, guard=first.guard, where=first.queue,
                   not_done="nothing was moved", hint=hint)


def agreed(desk: Desk, prepared: Prepared, made: Plan) -> None:
    """Refuse when what an earlier plan rests on has changed. Raises Refused with what changed."""
    differences = changed(desk.policy, made, prepared.plan)
    if differences:
        raise Refused(f"plan {made.hash} no longer fits: " + "; ".join(differences),
                      guard="plan_changed", not_done="nothing was moved",
                      hint="look at the new plan: ccfailover plan …")


def save_plan(desk: Desk, prepared: Prepared) -> None:
    """Keep the plan under its hash, so that `--plan HASH` can say what has changed since."""
    desk.store.set_fact(f"plan:{prepared.plan.hash}", prepared.plan.to_json(),
                        actor=str(desk.actor))


def saved_plan(desk: Desk, wanted: str) -> Plan:
    """The plan kept under a hash. Raises UsageError when this store never saw it."""
    data = desk.store.fact(f"plan:{wanted}")
    if data is None:
        raise UsageError(f"no plan {wanted} was made with this store",
                         not_done="nothing was moved", hint="ccfailover plan … shows its hash")
    return Plan.from_json(data)
