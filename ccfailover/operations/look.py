"""Look at the world now, without waiting for the next `check` and without telling the store.

A look on demand takes several readings in a row where that settles a verdict, so that a person
who asks gets an answer; what cron has recorded, and so every trigger's hold, stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ccfailover.health import ProbeJob, assess
from ccfailover.model.health import Outcome, ProbeHistory, Reading, Target, World

if TYPE_CHECKING:
    from ccfailover.model.policy import ProbeSpec, Queue
    from ccfailover.model.shares import Shares
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run

LOOK_SECONDS = 4.0
"""How long a look may take altogether, whatever hangs."""

PAUSE = 0.1


def look(desk: Desk, *, sites_only: bool = False, budget: float = LOOK_SECONDS) -> World:
    """A fresh World. Probes that are slower than the budget read as they do when they hang."""
    from ccfailover.health import poller  # what is only remembered needs none

    runtime, policy = desk.runtime, desk.policy
    histories = dict(desk.store.histories())
    began = runtime.monotonic()
    end = began + budget
    jobs: Sequence[ProbeJob] = poller.jobs_for(policy, now=runtime.now(), histories=histories,
                                               only_due=False)
    if sites_only:
        jobs = [job for job in jobs if job.target.noun != "queue"]
    specs = {job.target.key: job.spec for job in jobs}
    rounds = max((max(job.spec.fall, job.spec.rise) for job in jobs), default=1)
    for turn in range(rounds):
        left = end - runtime.monotonic()
        if not jobs or left <= 0:
            break
        if turn:
            runtime.sleep(min(PAUSE, left))
        # The first round may use what it needs; the later ones share what is left.
        for reading in poller.poll(jobs, desk.kinds.probe, runtime,
                                   left if turn else min(left, budget / 2)):
            histories[reading.key] = assess.step(histories.get(reading.key), reading,
                                                 specs[reading.key])
        jobs = [job for job in jobs if unsettled(histories.get(job.target.key))]
    # What was read at the beginning of a slow look is no staler than what was read at its end.
    return assess.assess(policy, histories, runtime.now(), slack=runtime.monotonic() - began)


def read_levers(desk: Desk, run: Run, budget: float = 3.0) -> dict[str, Shares]:
    """Queue → what the lever of each of the run's queues reads now; one that cannot be read within
    `budget` seconds is left out."""
    from ccfailover.errors import CcfError
    from ccfailover.model.plan import Mode

    views = desk.kinds.levers(Mode.SHADOW)
    queues = [desk.policy.queues[name] for name in run.plan.shares_after
              if name in desk.policy.queues]

    def read(queue: Queue) -> Shares | None:
        lever = queue.route or queue.intake
        try:
            return views.route_view(lever).read().shares if lever is not None else None
        except CcfError:
            return None  # what cannot be read is not told as if it had been

    found = desk.runtime.each_by(read, queues, 8, desk.runtime.monotonic() + budget)
    return {queue.name: shares for queue, shares in zip(queues, found, strict=True)
            if shares is not None}


def unsettled(history: ProbeHistory | None) -> bool:
    """Whether another reading could change the verdict."""
    return (history is None or history.streak > 0 or history.settled is Outcome.UNKNOWN
            or history.settled is not history.last.outcome)


def remembered(desk: Desk) -> World:
    """The World as the last checks recorded it; costs nothing outside the store."""
    return assess.assess(desk.policy, desk.store.histories(), desk.runtime.now())


class Watch:
    """Site states during a run: a look on demand, remembered for two seconds."""

    def __init__(self, desk: Desk, world: World | None = None) -> None:
        self._desk = desk
        self._world = world
        self._at = desk.runtime.monotonic() if world else float("-inf")

    def state(self, site: str) -> str:
        return self.world().site_state(site).value

    def world(self) -> World:
        now = self._desk.runtime.monotonic()
        if self._world is None or now - self._at > 2.0:
            self._world = look(self._desk, sites_only=True, budget=3.0)
            self._at = self._desk.runtime.monotonic()
        return self._world

    def observe(self, spec: ProbeSpec) -> Reading:
        """One fresh reading of one probe."""
        from ccfailover.health import poller

        runtime = self._desk.runtime
        job = ProbeJob(Target("queue", spec.key.split(".")[1], spec.key), spec)
        for reading in poller.poll([job], self._desk.kinds.probe, runtime, spec.timeout):
            return reading
        return Reading(spec.key, runtime.now(), Outcome.UNKNOWN, "the probe gave no reading")


def home_evidence(world: World, sites: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
    """What bounds when each site's fault began, for the recovery time in the report."""
    out = {}
    for name in sites:
        found = world.sites.get(name)
        if found is None:
            continue
        out[name] = {"state": found.state.value, "since": found.since, "reason": found.reason,
                     "last_good": found.last_good, "first_bad": found.first_bad,
                     "observers_down": list(found.observers_down)}
    return out
