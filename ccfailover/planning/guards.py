"""The last look at a plan before it may run: hard guards refuse, soft ones stop what can wait.

Soft guards stop planned and automatic moves. While home is freshly down they warn and do not stop
a failover: customers come first. A person's `--override GUARD`, with a reason, beats a soft guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from ccfailover.model.health import State, World
from ccfailover.model.plan import Finding
from ccfailover.model.policy import Policy, Queue
from ccfailover.model.shares import TREATMENTS, Shares
from ccfailover.planning.cost import HUNDREDTH, cost_per_hour, hours_left_today
from ccfailover.planning.eligibility import KIND_OF, forbidden, shares_now
from ccfailover.runtime import SECOND

HARD = ("all_off", "outsource_never", "licence", "data_class", "criteria_version")
SOFT = ("max_step", "daily_cost", "blocked", "flap_block", "automation")


class QueuePlan(NamedTuple):
    """What a plan does to one queue. `before` None: unknown. `cost_per_hour` is of `after`.

    `untouched` as in `Allocation`: the lever is left alone, so there is nothing to judge. `way`
    are the shares that its lever will pass, `after` the last; empty: not known yet.
    """

    queue: Queue
    before: Shares | None
    after: Shares
    cost_per_hour: Decimal = Decimal(0)
    untouched: bool = False
    way: tuple[Shares, ...] = ()

    @property
    def moved(self) -> int:
        """Percent of the load that changes place; all of it when `before` is unknown."""
        if self.before is None:
            return 100
        return _moved(self.before, self.after)

    @property
    def at_once(self) -> int:
        """Percent of the load that changes place in the largest single move."""
        if self.before is None:
            return 100
        if self.way:
            return max(_moved(one, two) for one, two in pairwise((self.before, *self.way)))
        marks = sorted({0, *self.queue.increments, 100})
        return ceil(self.moved * max(right - left for left, right in pairwise(marks)) / 100)

    @property
    def levers(self) -> tuple[str, ...]:
        specs = (self.queue.route, self.queue.intake)
        return tuple(dict.fromkeys(spec.lever for spec in specs if spec is not None))


def _moved(before: Shares, after: Shares) -> int:
    return sum(max(0, share - before.of(name)) for name, share in after.items())


def judge(
    policy: Policy,
    *,
    runbook: str,
    queue_plans: Sequence[QueuePlan],
    world: World,
    at: int,
    home_down_fresh: bool,
    overrides: Mapping[str, str],
    spent_today: Decimal,
    last_moves: Mapping[str, int],
    is_blocked: Callable[[int], str | None],
    automatic: bool,
    automation_off: str | None = None,
) -> list[Finding]:
    """What the guards say, hard ones first; a finding of level `hard` or `soft` stops the plan.

    `home_down_fresh`: a reading that is not stale says that the site to be left is down.
    `overrides`: guard → reason. `spent_today` is in the policy's currency. `last_moves`: lever →
    instant (µs) of its last automatic or planned move. `is_blocked` gives the reason, or None.
    `automation_off`: who switched it off, and why, where the run acts by itself.
    """
    kind = KIND_OF.get(runbook, "failover")
    touched = [plan for plan in queue_plans
               if not plan.untouched and plan.before != plan.after]
    found = [*_bad_overrides(overrides), *_hard(policy, touched, world, kind, at)]
    if kind == "reassert":
        # It was weighed when it was decided: setting it again is no move of anybody's.
        return [*found, *(_weigh(finding, kind, home_down_fresh, overrides, automatic)
                          for finding in _automation(touched, automation_off))]
    for finding in (
        *_max_step(policy, touched),
        *_daily_cost(policy, queue_plans, touched, world, at, spent_today),
        *_blocked(touched, at, is_blocked),
        *_flap_block(policy, touched, at, last_moves),
        *_automation(touched, automation_off),
    ):
        found.append(_weigh(finding, kind, home_down_fresh, overrides, automatic))
    return found


def _weigh(finding: Finding, kind: str, home_down_fresh: bool, overrides: Mapping[str, str],
           automatic: bool) -> Finding:
    reason = overrides.get(finding.guard, "").strip()
    if reason:
        level, tail = "warning", f"; overridden: {reason}"
    elif kind == "failover" and home_down_fresh:
        level, tail = "warning", "; home is down, so the failover goes on"
    elif automatic:
        level, tail = "soft", "; a person may run it"
    else:
        level, tail = "soft", f"; or override {finding.guard} and say why"
    return Finding(finding.guard, level, finding.sentence + tail, finding.queue)


def _bad_overrides(overrides: Mapping[str, str]) -> Iterator[Finding]:
    for guard, reason in overrides.items():
        if guard in SOFT:
            if not reason.strip():
                yield Finding("override", "hard", f"the override of {guard} needs a reason")
        elif guard in HARD:
            yield Finding("override", "hard", (
                f"{guard} is a hard guard and cannot be overridden; "
                f"these can: {', '.join(SOFT)}"))
        else:
            yield Finding("override", "hard", (
                f"there is no guard {guard!r}; these can be overridden: {', '.join(SOFT)}"))


def _hard(policy: Policy, plans: Iterable[QueuePlan], world: World, kind: str,
          at: int) -> Iterator[Finding]:
    for plan in plans:
        sites = [policy.sites[name] for name in plan.after if name in policy.sites]
        treated = [name for name in plan.after if name in TREATMENTS]
        down = [site.name for site in sites if world.site_state(site.name) is State.DOWN]
        # Unknown shares that stay at `normal` are no move: nothing is switched off by that.
        is_move = plan.before is not None or plan.after != plan.queue.normal
        if is_move and not treated and len(down) == len(sites):
            yield Finding("all_off", "hard", (
                f"{plan.queue.name} would go to nobody who can answer ({plan.after}; "
                f"down: {', '.join(down) or 'every destination is unknown to the policy'}); "
                "give part of it to a site that works, or to a treatment"), plan.queue.name)
        for site in sites:
            raised = plan.before is None or plan.after[site.name] > plan.before.of(site.name)
            broken = forbidden(policy, plan.queue, site, kind=kind, at=at) if raised else None
            if broken:
                yield broken


def _max_step(policy: Policy, plans: Iterable[QueuePlan]) -> Iterator[Finding]:
    most = policy.guards.max_step
    if most is None:
        return
    for plan in plans:
        step = plan.at_once
        if step > most:
            unknown = " (today's shares are unknown)" if plan.before is None else ""
            yield Finding("max_step", "soft", (
                f"{plan.queue.name} would move {step} % at once{unknown}, {step - most} % more "
                f"than max_step ({most} %) lets it; set smaller increments"), plan.queue.name)


def _daily_cost(
    policy: Policy, plans: Sequence[QueuePlan], touched: Sequence[QueuePlan], world: World,
    at: int, spent: Decimal,
) -> Iterator[Finding]:
    """Spent + activation + what an hour costs × hours to midnight, all queues together."""
    limit = policy.guards.daily_cost
    planned = {plan.queue.name for plan in plans}
    present = {name: shares_now(queue, world) for name, queue in policy.queues.items()}
    carrying = {name for shares in present.values() for name in shares or ()}
    started = {name for plan in touched for name in plan.after
               if name in policy.sites and name not in carrying}
    activation = sum((policy.sites[name].price.per_activation for name in started), Decimal(0))
    before = Decimal(0)
    for plan in touched:
        if plan.before is not None:
            before += cost_per_hour(policy, plan.queue, plan.before, plan.queue.load_per_hour)[0]
    an_hour = sum((plan.cost_per_hour for plan in plans), Decimal(0))
    dearer = activation > 0 or sum((plan.cost_per_hour for plan in touched), Decimal(0)) > before
    if limit is None or not dearer:
        return  # what makes the day cheaper is never stopped for its cost
    for name, queue in policy.queues.items():
        shares = present[name]
        if name not in planned and shares is not None:
            an_hour += cost_per_hour(policy, queue, shares, queue.load_per_hour)[0]
    hours = hours_left_today(at, policy.timezone)
    total = spent + activation + an_hour * hours
    if total > limit:
        yield Finding("daily_cost", "soft", (
            f"the day would cost {_money(total)} {policy.currency} (spent {_money(spent)}, "
            f"activation {_money(activation)}, then {_money(an_hour)} an hour for "
            f"{hours:.1f} h), {_money(total - limit)} more than daily_cost "
            f"({_money(limit)}) lets it; move less, or later"))


def _blocked(plans: Sequence[QueuePlan], at: int,
             is_blocked: Callable[[int], str | None]) -> Iterator[Finding]:
    reason = is_blocked(at) if plans else None
    if reason is not None:
        yield Finding("blocked", "soft", (
            f"moves are blocked now ({reason}); wait until the window ends"))


def _flap_block(policy: Policy, plans: Iterable[QueuePlan], at: int,
                last_moves: Mapping[str, int]) -> Iterator[Finding]:
    asked = policy.guards.flap_block
    told: set[str] = set()
    for plan in plans:
        for lever in plan.levers:
            if lever in told or lever not in last_moves:
                continue
            past = (at - last_moves[lever]) / SECOND
            if past < asked:
                told.add(lever)
                yield Finding("flap_block", "soft", (
                    f"{lever} was moved {past / 60:.0f} min ago, and flap_block asks for "
                    f"{asked / 60:.0f} min between moves: wait {(asked - past) / 60:.0f} min, or, "
                    "once somebody has looked: ccfailover ack"),
                    plan.queue.name)


def _automation(plans: Sequence[QueuePlan], off: str | None) -> Iterator[Finding]:
    if off is not None and plans:
        yield Finding("automation", "soft", f"automation is off: {off}")


def _money(value: Decimal) -> str:
    return f"{value.quantize(HUNDREDTH):,}"
