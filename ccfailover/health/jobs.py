"""Which probes a policy asks for, the implicit ones of its queues included. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ccfailover.health import ProbeJob
from ccfailover.model.health import ProbeHistory, Target
from ccfailover.model.policy import LeverSpec, Policy, ProbeSpec, Queue
from ccfailover.runtime import SECOND

EVERY = 30.0
"""Seconds between two looks at a route or backlog, at most; less where home's own probes are."""
TIMEOUT = 5.0
SLACK = 0.1
"""A probe is due this part of its interval early (at most a second): cron is never punctual."""


def route_key(queue: str) -> str:
    return f"queue.{queue}.route"


def intake_key(queue: str) -> str:
    return f"queue.{queue}.intake"


def backlog_key(queue: str, site: str) -> str:
    return f"queue.{queue}.backlog.{site}"


def all_jobs(policy: Policy) -> Iterator[ProbeJob]:
    """Sites', dependencies' and queues' probes, in the policy's order."""
    for site in policy.sites.values():
        for spec in site.probes:
            yield ProbeJob(Target("site", site.name, spec.key), spec)
    for dependency in policy.dependencies.values():
        for spec in dependency.probes:
            yield ProbeJob(Target("dependency", dependency.name, spec.key), spec)
    for queue in policy.queues.values():
        for spec in queue.probes:
            yield ProbeJob(Target("queue", queue.name, spec.key), spec)
        yield from lever_jobs(policy, queue)


def lever_jobs(policy: Policy, queue: Queue) -> Iterator[ProbeJob]:
    """The implicit ones: route, intake and every backlog, as often as home itself is looked at."""
    home = policy.sites[queue.home]
    every = min([EVERY, *(probe.every for probe in home.probes)])
    if queue.route is not None:
        yield _implicit(queue, route_key(queue.name), "route", queue.route, every)
    if queue.intake is not None:
        yield _implicit(queue, intake_key(queue.name), "route", queue.intake, every)
    for site, lever in queue.backlogs.items():
        yield _implicit(queue, backlog_key(queue.name, site), "backlog", lever, every)


def _implicit(queue: Queue, key: str, kind: str, lever: LeverSpec, every: float) -> ProbeJob:
    spec = ProbeSpec(key, kind, every, TIMEOUT, 3, 1, lever.provider, {"lever": lever})
    return ProbeJob(Target("queue", queue.name, key), spec)


def jobs_for(
    policy: Policy, *, now: int, histories: Mapping[str, ProbeHistory], only_due: bool
) -> list[ProbeJob]:
    """What to observe now: everything, or with `only_due` what its interval calls for."""
    return [job for job in all_jobs(policy)
            if not only_due or is_due(job.spec, histories.get(job.spec.key), now)]


def is_due(spec: ProbeSpec, history: ProbeHistory | None, now: int) -> bool:
    """A reading from the future (the clock was set back) does not put a probe off."""
    if history is None:
        return True
    wait = (spec.every - min(1.0, SLACK * spec.every)) * SECOND
    return not 0 <= now - history.last.at < wait


def is_stale(policy: Policy, spec: ProbeSpec, at: int, now: int, slack: float = 0.0) -> bool:
    """Older than `stale_after` intervals; or as far in the future, which no clock should be.
    `slack` (seconds) is how long the look took that the reading may be of."""
    return abs(now - at) > (policy.stale_after * spec.every + slack) * SECOND
