"""backlog: how much work waits at one site, as the platform that holds it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from ccfailover.health import Probe, ProbeJob
from ccfailover.health.views import lever_of, read_views, told
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import BacklogView
from ccfailover.runtime import Runtime

ViewFor = Callable[[LeverSpec], BacklogView]


class BacklogProbe(Probe):
    """`depth`, `visible`, `hidden` and, where the platform can tell, `oldest_s`.

    One is made for every backlog of every queue; none is written in a policy. A platform that
    does not answer is UNKNOWN: never a depth of 0.
    """

    kind: ClassVar[str] = "backlog"
    summary: ClassVar[str] = "how much work waits at a site; watched for every queue by itself"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "not": {},
        "x-message": "is not written in a policy: every queue's backlogs are watched by themselves",
    }

    def __init__(self, runtime: Runtime, *, view_for: ViewFor) -> None:
        self._runtime = runtime
        self._view_for = view_for

    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        return read_views(self._read, jobs, self._runtime, deadline)

    def _read(self, job: ProbeJob) -> Reading:
        began = self._runtime.monotonic()
        found = self._view_for(lever_of(job)).measure()
        if found.visible < 0 or found.hidden < 0:
            raise ValueError("the platform counts less than nothing")
        values: dict[str, float] = {
            "depth": found.depth, "visible": found.visible, "hidden": found.hidden
        }
        detail = f"{found.depth} waiting"
        if found.oldest_s is not None and found.oldest_s >= 0:
            values["oldest_s"] = found.oldest_s
            detail += f", the oldest for {found.oldest_s:.0f} s"
        return told(job, self._runtime, began, Outcome.GOOD, detail, values)
