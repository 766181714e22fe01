"""route: where a queue's arrivals really go, as the switch itself says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from ccfailover.errors import ProviderError
from ccfailover.health import Probe, ProbeJob
from ccfailover.health.views import lever_of, read_views, told
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import RouteView
from ccfailover.runtime import Runtime

ViewFor = Callable[[LeverSpec], RouteView]


class RouteProbe(Probe):
    """The actual shares, and the switch's own live counts where it keeps any.

    One is made for every route and intake of every queue; none is written in a policy. A switch
    that does not answer, or answers with shares that make no sense, is UNKNOWN.
    """

    kind: ClassVar[str] = "route"
    summary: ClassVar[str] = "the actual shares of a route; watched for every queue by itself"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "not": {},
        "x-message": "is not written in a policy: every queue's levers are watched by themselves",
    }

    def __init__(self, runtime: Runtime, *, view_for: ViewFor) -> None:
        self._runtime = runtime
        self._view_for = view_for

    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        return read_views(self._read, jobs, self._runtime, deadline)

    def _read(self, job: ProbeJob) -> Reading:
        began = self._runtime.monotonic()
        view = self._view_for(lever_of(job))
        state = view.read()
        shares, counts = state.shares, {}
        detail = "; ".join((str(shares), *state.amiss))
        try:
            counts = dict(view.measure())
        except ProviderError:  # the shares are known all the same, and they are what counts
            detail += " (live counts cannot be read)"
        return told(job, self._runtime, began, Outcome.GOOD, detail, counts, shares)
