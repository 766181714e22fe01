"""Which site takes how much of a queue, when a site is left, overloaded or back.

Shares are planned from scratch for the whole queue, never as a change of today's: the same facts
give the same shares, however often a plan is made. Cost never lowers a share here; it is a guard.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import State, World
from ccfailover.model.plan import Finding
from ccfailover.model.policy import Policy, Queue, Site
from ccfailover.model.shares import Shares
from ccfailover.planning.capacity import DEFERRED, handle_seconds
from ccfailover.planning.cost import cost_per_hour
from ccfailover.planning.eligibility import (
    down_dependencies,
    forbidden,
    reason_of,
    unavailable,
)
from ccfailover.planning.placing import (
    Placement,
    ceil_to,
    floor_to,
    heads_of,
    number,
    percent_of,
    treatments,
    usable_step,
)
from ccfailover.planning.receivers import Facts, receivers

KINDS = ("failover", "overflow", "switchover", "failback")
BACKLOG_HORIZON = 3600.0
"""Seconds in which an overflow wants the home backlog served, where the queue names no rto."""
_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Allocation:
    """What to set a queue's lever to, why, and which backlogs travel (source, target).

    `untouched`: nothing can or need be done, so `shares` are today's and the lever must be left
    alone; only then may a site that is left still have a share. `heads` are the heads of each
    ramped site that the shares keep busy (see `capacity_per_hour(heads_taken=)`).
    """

    shares: Shares
    findings: tuple[Finding, ...]
    moves: tuple[tuple[str, str], ...]
    cost_per_hour: Decimal
    assumptions: tuple[str, ...]
    untouched: bool = False
    heads: Mapping[str, float] = field(default_factory=dict)


def allocate(
    policy: Policy,
    queue: Queue,
    world: World,
    *,
    leaving: frozenset[str],
    kind: str,
    at: int,
    is_open: Callable[[Site, int], bool],
    capabilities: Capabilities,
    fraction: int | None = None,
    only_to: tuple[str, ...] | None = None,
    load_per_hour: float | None = None,
    active_minutes: Mapping[str, float] = _NOTHING,
    heads_taken: Mapping[str, float] = _NOTHING,
    demanded: bool = False,
) -> Allocation:
    """The shares of `queue` once `leaving` (sites that are dead or being emptied) are left.

    `kind` is failover | overflow | switchover | failback, `at` an instant in µs, `fraction` the
    percent of the load that an overflow moves (None: what home cannot serve), `only_to` the only
    backups that may take work. `load_per_hour` None: the policy's figure. `active_minutes` says
    for how long a site has been working for us (absent: not yet), `heads_taken` how many heads of
    its ramp other queues of this plan already have (sum of earlier `Allocation.heads`).
    `demanded`: `only_to` was said of this very queue, so that a failover which it makes
    impossible is refused; without it the queue is treated and the other queues go on.

    A finding of level `hard` refuses the plan (of this queue). Raises UsageError for an unknown
    `kind` or a `fraction` outside 1..100.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of move {kind!r}", hint=f"one of {', '.join(KINDS)}")
    if fraction is not None and not 1 <= fraction <= 100:
        raise UsageError(f"{fraction} % cannot be moved", hint="say a percentage from 1 to 100")
    load = load_per_hour if load_per_hour is not None else queue.load_per_hour
    facts = Facts(policy, queue, world, leaving, kind, at, is_open, capabilities, only_to,
                   load, active_minutes, heads_taken, demanded)
    if kind == "failback":
        return _failback(facts)
    if kind == "overflow":
        return _overflow(facts, fraction)
    return _empty_out(facts)


def _empty_out(facts: Facts) -> Allocation:
    """Failover and switchover: nothing stays at a site that is left."""
    queue, place, found = facts.queue, facts.placement(), receivers(facts)
    findings = list(found.findings)
    _keep_normal(facts, place)
    for site in found.sure:
        place.give(site, place.rest)
    takers = found.sure
    if place.rest == 100 and facts.kind == "failover":
        for site in found.doubtful:
            if place.give(site, place.rest):
                findings.append(facts.finding("receiver_unknown", "warning", (
                    f"{site.name} is unknown ({reason_of(facts.world, site.name)}) and gets "
                    f"{place.parts[site.name]} %: no healthy site can take it; look at it now")))
        takers = [*takers, *found.doubtful]
    findings.extend(_passed_over(facts, place, found.doubtful))
    untouched = False
    if place.rest and not facts.gone(queue.home):
        findings.append(facts.finding("beyond_capacity", "warning", (
            f"{queue.home} keeps {place.rest} % that nobody else can take")))
        place.give(facts.home, place.rest, beyond=True)
    elif place.rest:
        finding, untouched = _treat(facts, place, takers)
        findings.extend(finding)
    return _finish(facts, place, findings, sorted(facts.leaving), untouched=untouched)


def _keep_normal(facts: Facts, place: Placement) -> None:
    """Who is not left keeps the normal share; home no more than it can serve."""
    reachable = facts.capabilities.destinations
    for name, percent in facts.queue.normal.items():
        site = facts.policy.sites.get(name)
        if site is None:
            if reachable is None or name in reachable:
                kept = floor_to(percent, place.step)
                place.parts[name] = kept
                place.rest -= kept
        elif _keeps(facts, site):
            place.give(site, percent, beyond=name != facts.queue.home)


def _keeps(facts: Facts, site: Site) -> bool:
    """Whether a site that is not left goes on with its normal share. A backup that is closed, or
    stands on what is down, answers nobody; home's own hours are part of what is normal."""
    if facts.gone(site.name) or forbidden(
            facts.policy, facts.queue, site, kind=facts.kind, at=facts.at):
        return False
    return site.name == facts.queue.home or not unavailable(
        facts.policy, facts.queue, site, facts.world, at=facts.at, is_open=facts.is_open,
        capabilities=facts.capabilities)


def _passed_over(facts: Facts, place: Placement, doubtful: list[Site]) -> list[Finding]:
    return [
        facts.finding("receiver_unknown", "warning", (
            f"{site.name} is unknown ({reason_of(facts.world, site.name)}) and gets nothing: "
            "unknown is not healthy"))
        for site in doubtful if site.name not in place.parts
    ]


def _treat(facts: Facts, place: Placement, takers: list[Site]) -> tuple[list[Finding], bool]:
    """Where the remainder goes when no receiver can serve it; True: the lever is left alone."""
    queue, rest = facts.queue, place.rest
    possible = treatments(queue, facts.capabilities)
    if possible:
        place.treat(possible[0])
        if possible[0] == queue.home_down:
            sentence = f"{rest} % of {queue.name} goes to {possible[0]}: no site can take it"
        elif queue.home_down == "hold":
            sentence = f"{place.noun} cannot be held: {rest} % goes to {possible[0]}"
        else:
            sentence = (f"the lever cannot send to {queue.home_down} (home_down): "
                        f"{rest} % goes to {possible[0]}")
        return [facts.finding("treatment", "warning", sentence)], False
    holding = queue.home_down == "hold" and queue.channel in DEFERRED
    last = next((name for name in reversed(place.parts) if name in facts.policy.sites), None)
    if last is None and takers and not holding:
        last = takers[-1].name
    if last is not None:
        place.give(facts.policy.sites[last], rest, beyond=True)
        much = f"{rest} %"
        if facts.load is not None:
            much += f" ({number(facts.load * rest / 100)} {place.noun} an hour)"
        why = (f"{queue.name} is held, and nothing is held at a site that is left"
               if holding else "the lever has no treatment")
        return [facts.finding("beyond_capacity", "warning", (
            f"{last} gets {much} beyond its capacity: {why}"))], False
    if holding:
        return [facts.finding("hold", "warning", (
            f"{queue.name} is held: nobody may and can take it, so what waits and what arrives "
            f"stays where it is ({facts.now})"))], True
    return [facts.finding("all_off", "warning", (
        f"nobody can take {queue.name} and the lever has no treatment: it is left as it is "
        f"({facts.now}); find a site that can, then: ccfailover failover --queue {queue.name}"
        " --to SITE"))], True


def _overflow(facts: Facts, fraction: int | None) -> Allocation:
    """Part leaves a home that stays; what no backup can take stays there, too."""
    queue, place, home = facts.queue, facts.placement(), facts.home
    if facts.gone(home.name):
        return _refuse(facts, "home_down", (
            f"{home.name} is down or being left: an overflow leaves a home that works; "
            f"use: ccfailover failover {home.name}"))
    own = queue.normal.of(home.name)
    if fraction is not None:
        amount, findings = min(ceil_to(fraction, place.step), own), []
        if amount != fraction:
            findings = [facts.finding("share_step", "info", (
                f"{fraction} % → {amount} %: the lever moves in steps of {place.step} %, and "
                f"{own} % is there to move"))]
    else:
        amount, findings = _surplus(facts, place, own)
    if not amount:
        return _finish(facts, None, findings, (), untouched=True)
    found = receivers(facts)
    findings.extend(found.findings)
    findings.extend(_passed_over(facts, place, found.doubtful))
    place.give(home, own - amount, beyond=True)
    for name, percent in queue.normal.items():
        if name == home.name:
            continue
        if name not in facts.policy.sites:
            place.parts[name] = floor_to(percent, place.step)
            place.rest -= place.parts[name]
        elif _keeps(facts, facts.policy.sites[name]):
            place.give(facts.policy.sites[name], percent, beyond=True)
    for site in found.sure:
        place.give(site, place.rest)
    if place.rest:
        findings.append(facts.finding("beyond_capacity", "warning", (
            f"{home.name} keeps {place.rest} % more than it should: no backup can take it")))
        place.give(home, place.rest, beyond=True)
    return _finish(facts, place, findings, (home.name,), keeps=home.name)


def _surplus(facts: Facts, place: Placement, own: int) -> tuple[int, list[Finding]]:
    """Percent of the load that home cannot serve, rounded up to the step; 0 when there is none.

    surplus = arrivals at home + waiting / horizon − capacity, all an hour; what waits counts for
    deferred work only. No more is moved than `max_step` allows at once.
    """
    queue, home, load = facts.queue, facts.home, facts.load
    # Nobody is on the line for deferred work: what comes at night is served in the morning.
    closed = queue.channel not in DEFERRED and not facts.is_open(home, facts.at)
    able = 0.0 if closed else facts.capacity(home)
    if able is None or load is None:
        missing = f"the capacity of {home.name}" if able is None else "the load"
        return 0, [facts.finding("surplus", "hard", (
            f"how much of {queue.name} must leave cannot be computed: {missing} is unknown; "
            "put it into the policy, or say how many percent"))]
    work, waiting = load * own / 100, None
    if queue.channel in DEFERRED:
        view = facts.world.queues.get(queue.name)
        waiting = view.depth.get(home.name) if view else None
        work += (waiting or 0) * 3600 / (queue.rto or BACKLOG_HORIZON)
    over = work - able
    with_backlog = f", {waiting} waiting" if waiting else ""
    if over <= 0:
        return 0, [facts.finding("surplus", "info", (
            f"{home.name} can serve {number(able)} of {number(work)} {place.noun} an hour"
            f"{with_backlog}: nothing has to leave"))]
    percent = percent_of(over, load) if load > 0 else 100.0
    amount = min(ceil_to(percent, place.step), floor_to(own, place.step))
    findings = [facts.finding("surplus", "info", (
        f"{home.name} {'is closed now and ' if closed else ''}can serve {number(able)} of "
        f"{number(work)} {place.noun} an hour{with_backlog}: {number(percent)} % of the load is "
        f"too much → {amount} % leaves"))]
    most = facts.policy.guards.max_step
    if most is not None:
        away = max(0, own - facts.now.of(home.name))
        allowed = floor_to(away + most, place.step)
        if amount > allowed:
            findings.append(facts.finding("max_step", "warning", (
                f"{amount} % → {allowed} %: {away} % has left already, and max_step lets "
                f"{most} % leave at once")))
            amount = allowed
    return amount, findings


def _failback(facts: Facts) -> Allocation:
    """`normal`, exactly; nothing at all while a site of it cannot be trusted with it."""
    queue, step = facts.queue, usable_step(facts.capabilities)
    for name in (queue.home, *queue.normal):
        site = facts.policy.sites.get(name)
        if site is None:
            continue
        state = facts.world.site_state(name)
        why = f"is {state.value} ({reason_of(facts.world, name)})"
        if name in facts.leaving:
            return _refuse(facts, "home_down", f"{name} is being left: nothing can return there")
        if state in (State.DOWN, State.UNKNOWN):
            return _refuse(facts, "home_down", (
                f"{name} {why}: {queue.name} returns once it is healthy; "
                "see: ccfailover status --probe"))
        fallen = down_dependencies(site, facts.world)
        if fallen:
            return _refuse(facts, "dependency", (
                f"{name} stands on {', '.join(fallen)}, which is down: {queue.name} stays "
                "until it is back"))
    if any(percent % step for percent in queue.normal.values()):
        return _refuse(facts, "share_step", (
            f"the lever moves in steps of {step} %, which cannot express normal "
            f"({queue.normal}); correct it in the policy"))
    place = facts.placement()
    place.parts, place.rest = dict(queue.normal), 0
    findings = []
    if facts.world.site_state(queue.home) is State.DEGRADED:
        findings.append(facts.finding("home_degraded", "warning", (
            f"{queue.home} is degraded ({reason_of(facts.world, queue.home)})")))
    sources = [name for name in queue.backlogs if name not in queue.normal]
    return _finish(facts, place, findings, sources)


def _refuse(facts: Facts, guard: str, sentence: str) -> Allocation:
    return _finish(facts, None, [facts.finding(guard, "hard", sentence)], (), untouched=True)


def _finish(
    facts: Facts,
    place: Placement | None,
    findings: list[Finding],
    sources: Collection[str],
    *,
    untouched: bool = False,
    keeps: str | None = None,
) -> Allocation:
    queue = facts.queue
    if place is not None:
        findings = [*findings, *place.findings(keeps=keeps)]
    shares = facts.now if untouched or place is None else Shares(place.parts)
    cost, left_out = cost_per_hour(facts.policy, queue, shares, facts.load)
    sites = [facts.policy.sites[name] for name in shares if name in facts.policy.sites]
    moves: list[tuple[str, str]] = []
    if not untouched:
        targets = [site.name for site in sites if site.name in queue.backlogs]
        moves = [(source, target) for source in sources if source in queue.backlogs
                 for target in targets if target != source]
    heads = {
        site.name: busy for site in sites if site.ramp
        if (busy := heads_of(shares, site, facts.load, handle_seconds(site, queue))) is not None
    }
    return Allocation(
        shares, tuple(findings), tuple(moves), cost,
        (*_assumptions(facts, sites), *left_out), untouched, heads,
    )


def _assumptions(facts: Facts, sites: list[Site]) -> list[str]:
    out = []
    if facts.load is not None:
        out.append(f"{facts.queue.name}: {number(facts.load)} contacts arrive an hour")
    for site in sites:
        minutes = facts.active_minutes.get(site.name, 0.0)
        later = [(after, heads) for after, heads in site.ramp if after > minutes * 60]
        if later:
            after, heads = min(later)
            out.append(f"{site.name} has {heads} heads {number(after / 60)} min after it is "
                       "activated: plan again then")
    return out
