"""Recipe + today's state → Plan: what would be done, in which order, and what stands against it.

Pure: it is given the picture of the world and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Protocol

from ccfailover.errors import UsageError
from ccfailover.health.current import current_shares
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import State, World
from ccfailover.model.plan import Branch, Json, Mode, Plan, StepSpec
from ccfailover.model.policy import LeverSpec, Policy, Queue, Site
from ccfailover.model.shares import Shares
from ccfailover.planning.allocation import Allocation, allocate
from ccfailover.planning.guards import QueuePlan, judge
from ccfailover.runbooks.recipe import Line, Recipe
from ccfailover.runbooks.restoring import KIND, restored
from ccfailover.runbooks.shared import contradictions, lead, levers_of, together
from ccfailover.runbooks.step import Binding, Step

KINDS = {"full_failover": "failover", "switchover": "switchover", "overflow": "overflow",
         "failback": "failback", KIND: KIND}


@dataclass(frozen=True)
class Request:
    """What somebody asked for. `subject` is a site, or the queue of an overflow.

    `percent` is the part of a queue that overflows (None: computed from capacity).
    """

    runbook: str
    subject: str
    reason: str
    mode: Mode = Mode.REAL
    queues: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    percent: int | None = None
    until: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    supersedes: str | None = None
    automatic: bool = False

    def to_json(self) -> dict[str, Json]:
        """What a plan made again must be made from; who asked and why is not part of it."""
        return {"runbook": self.runbook, "subject": self.subject, "queues": list(self.queues),
                "to": list(self.to), "percent": self.percent, "until": self.until}


@dataclass(frozen=True)
class Circumstances:
    """What planning needs to know beyond the policy: seen, never assumed.

    `loads` are arrivals an hour where they were measured; `last_moves` and `spent_today` come
    from the journal, and so does `baseline`: where each queue is to be, for a reassertion.
    """

    world: World
    capabilities: Callable[[LeverSpec], Capabilities]
    is_open: Callable[[Site, int], bool]
    is_blocked: Callable[[int], str | None]
    loads: Mapping[str, float] = field(default_factory=dict)
    last_moves: Mapping[str, int] = field(default_factory=dict)
    spent_today: Decimal = Decimal(0)
    baseline: Mapping[str, Shares] = field(default_factory=dict)


class StepKinds(Protocol):
    def step(self, kind: str) -> type[Step]: ...


def affected(policy: Policy, request: Request, world: World) -> list[Queue]:
    """The queues a request is about, most important first. Raises UsageError for bad names."""
    for name in request.queues:
        if name not in policy.queues:
            raise UsageError(f"there is no queue {name!r} in the policy",
                             not_done="nothing was planned",
                             hint=f"one of: {', '.join(policy.queues)}")
    for name in request.to:
        if name not in policy.sites:
            raise UsageError(f"there is no site {name!r} in the policy",
                             not_done="nothing was planned",
                             hint=f"one of: {', '.join(policy.sites)}")
    subject = request.subject
    if request.runbook == KIND:
        return [queue for queue in policy.by_priority() if queue.name in request.queues]
    if request.runbook == "overflow" or subject in policy.queues and subject not in policy.sites:
        if subject not in policy.queues:
            raise UsageError(f"there is no queue {subject!r} in the policy",
                             not_done="nothing was planned",
                             hint=f"one of: {', '.join(policy.queues)}")
        return [policy.queues[subject]]
    if subject not in policy.sites:
        raise UsageError(f"there is no site {subject!r} in the policy",
                         not_done="nothing was planned",
                         hint=f"one of: {', '.join(policy.sites)}")
    found = []
    for queue in policy.by_priority():
        now = current_shares(queue, world) or queue.normal
        there = subject in now or subject in queue.normal or subject in queue.backlogs
        mine = queue.home == subject if KINDS.get(request.runbook) == "failback" else there
        if mine and (not request.queues or queue.name in request.queues):
            found.append(queue)
    return found


def make_plan(policy: Policy, request: Request, recipe: Recipe, kinds: StepKinds,
              seen: Circumstances) -> Plan:
    """Bind the recipe. What stands against the plan is in its findings: the caller refuses."""
    world, kind = seen.world, KINDS.get(request.runbook, "failover")
    queues = affected(policy, request, world)
    if not queues:
        raise UsageError(f"no queue of the policy has work at {request.subject}",
                         not_done="nothing was planned",
                         hint="ccfailover status")
    leaving = (frozenset({request.subject}) if kind in ("failover", "switchover")
               and request.subject in policy.sites else frozenset())
    queues, findings = together(policy, queues)
    branches: list[Branch] = []
    led: dict[str, tuple[str, float]] = {}
    queue_plans: list[QueuePlan] = []
    before: dict[str, Mapping[str, int] | None] = {}
    after: dict[str, Mapping[str, int]] = {}
    cost = Decimal(0)
    heads: dict[str, float] = {}
    for queue in queues:
        lever = queue.route or queue.intake
        allocation = restored(policy, queue, world, seen.baseline) if kind == KIND else allocate(
            policy, queue, world, kind=kind, leaving=frozenset({queue.home})
            if kind in ("failover", "switchover") and not leaving else leaving, at=world.at,
            is_open=seen.is_open, fraction=request.percent, only_to=request.to or None,
            capabilities=seen.capabilities(lever) if lever else Capabilities(),
            load_per_hour=seen.loads.get(queue.name, queue.load_per_hour),
            heads_taken=heads, demanded=bool(request.queues),
        )
        for site, count in allocation.heads.items():
            heads[site] = heads.get(site, 0.0) + count
        findings.extend(allocation.findings)
        now = current_shares(queue, world)
        before[queue.name] = now.to_json() if now else None
        after[queue.name] = allocation.shares.to_json()
        cost += allocation.cost_per_hour
        # Held, refused, or nobody can take it: the rest of the failover goes on without it.
        steps = [] if allocation.untouched else _bind(
            recipe.branch, policy, request, kinds, seen, queue, now, allocation, led)
        led = lead(led, queue, steps)
        queue_plans.append(QueuePlan(queue=queue, before=now, after=allocation.shares,
                                     cost_per_hour=allocation.cost_per_hour,
                                     untouched=allocation.untouched, way=_way(steps)))
        branches.append(Branch(queue.name, _number(queue.name, steps)))
    findings.extend(contradictions(queue_plans))
    findings.extend(judge(
        policy, runbook=kind, queue_plans=queue_plans, world=world, at=world.at,
        home_down_fresh=_left_is_down(policy, request, world), overrides=request.overrides,
        spent_today=seen.spent_today, last_moves=seen.last_moves, is_blocked=seen.is_blocked,
        automatic=request.automatic,
    ))
    ends = {
        name: Branch(name, _number(name, _bind(lines, policy, request, kinds, seen, None, None,
                                               None)))
        for name, lines in (("before", recipe.before), ("after", recipe.after))
    }
    kept = tuple(branch for branch in branches if branch.steps)
    return Plan(
        runbook=request.runbook, subject=request.subject, mode=request.mode,
        policy_name=policy.name, policy_sha256=policy.sha256, reason=request.reason,
        before=ends["before"], branches=kept, after=ends["after"],
        scopes=_scopes(policy, queues, kept, request.mode, ends.values()), shares_before=before,
        shares_after=after,
        findings=tuple(findings), cost_per_hour=str(cost), overrides=dict(request.overrides),
        supersedes=(request.supersedes,) if request.supersedes else (),
        basis={"request": request.to_json(), "states": _states(policy, queues, world),
               "environment": policy.environment, "currency": policy.currency,
               "objectives": {queue.name: _objectives(queue) for queue in queues}},
    )


def _bind(lines: Sequence[Line], policy: Policy, request: Request, kinds: StepKinds,
          seen: Circumstances, queue: Queue | None, before: Shares | None,
          allocation: Allocation | None,
          led: Mapping[str, tuple[str, float]] | None = None) -> list[StepSpec]:
    bound: list[StepSpec] = []
    for line in lines:
        bound.extend(kinds.step(line.kind).bind(Binding(
            policy=policy, runbook=KINDS.get(request.runbook, "failover"),
            subject=request.subject, mode=request.mode, queue=queue, before=before,
            after=allocation.shares if allocation else None,
            moves=allocation.moves if allocation else (), capabilities=seen.capabilities,
            params=line.params, reason=request.reason, led=led or {},
        )))
    return bound


def _way(steps: Sequence[StepSpec]) -> tuple[Shares, ...]:
    """The places on the way of the lever that gets there in the fewest moves."""
    ways: dict[str, tuple[Shares, ...]] = {}
    for step in steps:
        if step.lever and "to" in step.params:
            ways[step.lever] = (*ways.get(step.lever, ()), Shares(step.params["to"]))
    return min(ways.values(), key=len, default=())


def _number(branch: str, steps: Sequence[StepSpec]) -> tuple[StepSpec, ...]:
    return tuple(replace(step, id=f"{branch}/{number}-{step.id}")
                 for number, step in enumerate(steps, 1))


def _scopes(policy: Policy, queues: Sequence[Queue], branches: Sequence[Branch],
            mode: Mode, ends: Iterable[Branch]) -> tuple[str, ...]:
    """Every lever, and every queue that one of these levers carries."""
    named = {step.lever for branch in (*branches, *ends) for step in branch.steps if step.lever}
    several = {lever.lever: lever.parts for queue in policy.queues.values()
               for lever in (queue.route, queue.intake) if lever is not None}
    levers = {part.lever for name in named for part in several.get(name, ())} | (
        named - set(several))
    names = {queue.name for queue in queues if any(b.name == queue.name for b in branches)}
    names |= {queue.name for queue in policy.queues.values() if levers_of(queue) & levers}
    if mode is Mode.SHADOW:
        return ()  # it writes nothing, so it must stand in nobody's way
    return tuple(sorted({*(f"lever:{lever}" for lever in levers),
                         *(f"queue:{name}" for name in names)}))


def _objectives(queue: Queue) -> dict[str, Json]:
    """What the policy promises for a queue, so that the journal alone can tell whether it was
    kept; seconds."""
    return {"home": queue.home, "channel": queue.channel, "rto": queue.rto, "mtd": queue.mtd,
            "rpo": queue.rpo}


def _states(policy: Policy, queues: Sequence[Queue], world: World) -> dict[str, str]:
    sites = {site for queue in queues for site in (queue.home, *queue.backups)}
    return {name: world.site_state(name).value for name in sorted(sites)}


def _left_is_down(policy: Policy, request: Request, world: World) -> bool:
    """Whether the site that is left is down as seen now: a stale `down` is `unknown`."""
    subject = request.subject
    site = policy.queues[subject].home if subject in policy.queues else subject
    return world.site_state(site) is State.DOWN


def changed(policy: Policy, made: Plan, now: Plan) -> list[str]:
    """What an earlier plan rests on that is no longer so; empty when it may be run.

    A home that got worse voids nothing (that is what the plan is for), unless it is to receive.
    Nor does what an overflow that the plan pre-empts has moved or ended meanwhile.
    """
    out: list[str] = []
    moving = {queue for plan in (made, now) for queues in plan.pre_empts.values()
              for queue in queues}
    for run in sorted(set(now.pre_empts) - set(made.pre_empts)):
        out.append(f"it would pre-empt overflow {run} on {', '.join(now.pre_empts[run])}; when the "
                   "plan was made that was not in the way")
    if made.policy_sha256 != now.policy_sha256:
        out.append(f"the policy was {made.policy_sha256[:12]}, is {now.policy_sha256[:12]}")
    if made.mode is not now.mode or made.basis.get("request") != now.basis.get("request"):
        out.append(f"it was made for {made.runbook} {made.subject} ({made.mode.value}), "
                   f"not for {now.runbook} {now.subject} ({now.mode.value})")
    receivers = {site for parts in now.shares_after.values() for site in parts}
    homes = {queue.home for queue in policy.queues.values()} - receivers
    then, today = made.basis.get("states", {}), now.basis.get("states", {})
    for site in sorted({*then, *today}):
        was, is_now = then.get(site, "unknown"), today.get(site, "unknown")
        got_worse = State(is_now).worse_than(State(was))
        if was != is_now and not (site in homes and got_worse):
            out.append(f"{site} was {was}, is {is_now}")
    for queue in sorted({*made.shares_after, *now.shares_after}):
        for text, old, new in (
            ("is at", made.shares_before.get(queue), now.shares_before.get(queue)),
            ("would go to", made.shares_after.get(queue), now.shares_after.get(queue)),
        ):
            if old != new and not (text == "is at" and queue in moving):
                out.append(f"{queue} {text} {_show(new)}; when the plan was made: {_show(old)}")
    if not out and _as_of(made, now, moving).hash != now.hash:
        out.append("its steps are others now (another version of ccfailover or of the recipe)")
    return out


def _as_of(made: Plan, now: Plan, moving: set[str]) -> Plan:
    """The plan made then, with what has been weighed above as it is now: a home that got worse,
    or an overflow that went on or ended, makes no other plan."""
    basis = {**made.basis, "states": now.basis.get("states", {})}
    basis.pop("pre_empts", None)
    if now.pre_empts:
        basis["pre_empts"] = now.pre_empts
    newer = {branch.name: branch for branch in now.branches if branch.name in moving}
    chosen = tuple(run for run in made.supersedes if run not in made.pre_empts)
    return replace(
        made, basis=basis, supersedes=(*chosen, *now.pre_empts),
        shares_before={queue: now.shares_before.get(queue) if queue in moving else shares
                       for queue, shares in made.shares_before.items()},
        branches=tuple(newer.get(branch.name, branch) for branch in made.branches))


def _show(parts: Mapping[str, int] | None) -> str:
    return str(Shares(parts)) if parts else "unknown"
