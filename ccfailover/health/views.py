"""What the `backlog` and `route` probes share: reading provider views side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from ccfailover.errors import CcfError
from ccfailover.health import ProbeJob
from ccfailover.health.patience import plain, reading
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.runtime import Runtime

AT_ONCE = 16


def lever_of(job: ProbeJob) -> LeverSpec:
    """Raises ValueError for a job that was not made by `jobs_for`."""
    lever = job.spec.params.get("lever")
    if not isinstance(lever, LeverSpec):
        raise ValueError(f"the probe {job.target.key} names no lever")
    return lever


def read_views(
    read: Callable[[ProbeJob], Reading], jobs: Sequence[ProbeJob], runtime: Runtime,
    deadline: float,
) -> Iterator[Reading]:
    """Every job read by `read`. A platform that fails or is silent is UNKNOWN, never zero.

    Adapters block and their time-outs are their own: one that is still busy at `deadline` is
    left behind.
    """

    def guarded(job: ProbeJob) -> Reading:
        began = runtime.monotonic()
        try:
            return read(job)
        except (CcfError, ValueError) as error:
            return told(job, runtime, began, Outcome.UNKNOWN, str(error))

    for job, found in zip(jobs, runtime.each_by(guarded, jobs, AT_ONCE, deadline), strict=True):
        yield found or reading(job.target.key, runtime.now(), Outcome.UNKNOWN,
                               "the platform did not answer in time")


def told(
    job: ProbeJob, runtime: Runtime, began: float, outcome: Outcome, detail: str,
    values: Mapping[str, float] | None = None, shares: Shares | None = None,
) -> Reading:
    """A reading with the numbers that are numbers."""
    usable = {name: float(value) for name, value in (values or {}).items()
              if isinstance(value, int | float) and math.isfinite(value)}
    return Reading(job.target.key, runtime.now(), outcome, plain(detail),
                   round(runtime.monotonic() - began, 6), usable, shares)
