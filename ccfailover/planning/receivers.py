"""The facts that an allocation rests on, and who of a queue's backups may and can take work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import State, World
from ccfailover.model.plan import Finding
from ccfailover.model.policy import Policy, Queue, Site
from ccfailover.model.shares import Shares
from ccfailover.planning.capacity import capacity_per_hour
from ccfailover.planning.eligibility import (
    down_dependencies,
    forbidden,
    shares_now,
    unavailable,
)
from ccfailover.planning.placing import Placement, usable_step


class Facts(NamedTuple):
    policy: Policy
    queue: Queue
    world: World
    leaving: frozenset[str]
    kind: str
    at: int
    is_open: Callable[[Site, int], bool]
    capabilities: Capabilities
    only_to: tuple[str, ...] | None
    load: float | None
    active_minutes: Mapping[str, float]
    heads_taken: Mapping[str, float]
    demanded: bool

    @property
    def home(self) -> Site:
        return self.policy.sites[self.queue.home]

    @property
    def now(self) -> Shares:
        return shares_now(self.queue, self.world) or self.queue.normal

    def gone(self, site: str) -> bool:
        return site in self.leaving or self.world.site_state(site) is State.DOWN

    def capacity(self, site: Site) -> float | None:
        return capacity_per_hour(
            site, self.queue,
            minutes_since_activation=self.active_minutes.get(site.name),
            heads_taken=self.heads_taken.get(site.name, 0.0),
        )

    def placement(self) -> Placement:
        return Placement(self.queue, usable_step(self.capabilities), self.load, self.capacity)

    def finding(self, guard: str, level: str, sentence: str) -> Finding:
        return Finding(guard, level, sentence, self.queue.name)


class Receivers(NamedTuple):
    """`sure` may and can; `doubtful` may, and nobody knows whether they can."""

    sure: list[Site]
    doubtful: list[Site]
    findings: list[Finding]


def receivers(facts: Facts) -> Receivers:
    """Backups in the policy's order (or the order asked for), those that may and can first."""
    queue, wanted = facts.queue, facts.only_to
    names = list(dict.fromkeys(wanted if wanted is not None else queue.backups))
    sure: list[Site] = []
    doubtful: list[Site] = []
    findings: list[Finding] = []
    for name in names:
        site = facts.policy.sites.get(name)
        if site is None or name not in (*queue.backups, queue.home):
            findings.append(facts.finding("backups", "hard", (
                f"{name} is no backup of {queue.name}; "
                f"backups are {', '.join(queue.backups) or 'not set'}")))
            continue
        if name in facts.leaving:
            continue
        why = forbidden(facts.policy, queue, site, kind=facts.kind, at=facts.at) or unavailable(
            facts.policy, queue, site, facts.world, at=facts.at, is_open=facts.is_open,
            capabilities=facts.capabilities)
        if why:
            findings.append(why)
        elif facts.world.site_state(name) is State.UNKNOWN:
            doubtful.append(site)
        else:
            sure.append(site)
    # A rule that keeps one receiver out must not stop the others, nor one queue the rest of a
    # failover; a demand that cannot be met at all is refused, not turned into something else.
    unmet = wanted is not None and not sure and not doubtful
    level = "hard" if unmet and (facts.demanded or facts.kind != "failover") else "warning"
    common = _common_fall(facts, [n for n in names if n not in facts.leaving])
    if common:
        sure, doubtful, findings = [], [], [common]
    return Receivers(
        sure, doubtful, [Finding(f.guard, level, f.sentence, f.queue) for f in findings])


def _common_fall(facts: Facts, names: list[str]) -> Finding | None:
    """A dependency that is down under every candidate: there is nowhere to shift to."""
    sites = [facts.policy.sites[name] for name in names if name in facts.policy.sites]
    if not sites:
        return None
    fallen = set(down_dependencies(sites[0], facts.world))
    fallen.intersection_update(*(down_dependencies(site, facts.world) for site in sites[1:]))
    fallen.update(facts.world.treat_only.get(facts.queue.name, ()))
    if not fallen:
        return None
    return facts.finding("dependency", "warning", (
        f"{', '.join(sorted(fallen))} is down, and every site that could take {facts.queue.name} "
        f"stands on it ({', '.join(names)}): it is treated, not shifted"))
