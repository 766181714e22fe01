"""Recovery time against its objective, from a run's journal alone.

The plan holds what the policy promised for each queue, the journal when the fault was seen, when
somebody asked, and when the receivers' own counts first met minimum service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccfailover.model.plan import Json
from ccfailover.runbooks.run import Run, StepStatus
from ccfailover.runtime import SECOND

PHASES = ("detect", "decide", "approve", "execute", "verify")


@dataclass(frozen=True)
class Objective:
    """One queue's recovery time, in seconds; None: not known. Instants are µs.

    `actual_lower` counts from `first_bad`, the first bad reading, `actual_upper` from
    `last_good`, the last good one, both to `served_at`. Without a detected fault (a planned move,
    a drill) both start with the request and `by_request` is true. `rto_met` goes by the upper
    bound: what cannot be proved to be in time is not. `moved` is false for a queue that the plan
    leaves where it is.
    """

    queue: str
    home: str | None
    channel: str | None
    moved: bool
    rto: float | None
    mtd: float | None
    by_request: bool
    last_good: int
    first_bad: int
    served_at: int | None
    actual_lower: float | None
    actual_upper: float | None
    rto_met: bool | None
    phases: Mapping[str, float | None]

    def to_json(self) -> dict[str, Json]:
        return {**self.__dict__, "phases": dict(self.phases)}


def objectives(run: Run) -> list[Objective]:
    """One for each queue of the plan, in its order."""
    promised = run.plan.basis.get("objectives", {})
    branches = {branch.name for branch in run.plan.branches}
    return [_objective(run, name, promised.get(name, {}), name in branches)
            for name in run.plan.shares_after]


def _objective(run: Run, queue: str, promised: Mapping[str, Json], moved: bool) -> Objective:
    served = served_at(run, queue)
    fault = run.context.get("detected", {}).get(promised.get("home"), {})
    down = fault.get("state") == "down"
    first_bad = (fault.get("first_bad") if down else None) or run.planned_at
    last_good = (fault.get("last_good") if down else None) or first_bad
    upper = (served - last_good) / SECOND if served else None
    lower = (served - first_bad) / SECOND if served else None
    rto = promised.get("rto")
    return Objective(
        queue=queue, home=promised.get("home"), channel=promised.get("channel"), moved=moved,
        rto=rto, mtd=promised.get("mtd"), by_request=not (down and fault.get("first_bad")),
        last_good=last_good, first_bad=first_bad, served_at=served,
        actual_lower=lower, actual_upper=upper,
        rto_met=None if rto is None or upper is None else upper <= rto,
        phases=phases(run, queue, first_bad, fault.get("since") if down else None, served),
    )


def served_at(run: Run, queue: str) -> int | None:
    """When the receivers' own counts first met minimum service (µs); None when that was never
    shown, or was undone."""
    for step in run.steps.values():
        if (step.branch == queue and step.spec.kind == "verify" and step.truth == "yes"
                and step.status is StepStatus.SUCCEEDED):
            found = step.data.get("served_at")
            return int(found) if isinstance(found, int) else step.ended_at
    return None


def phases(run: Run, queue: str, fault: int, detected: int | None,
           served: int | None) -> dict[str, float | None]:
    """The recovery time split up, in seconds; together they make up the lower bound."""
    approved = max((step.ended_at for step in run.steps.values()
                    if step.spec.kind in ("confirm", "approve") and step.ended_at),
                   default=run.started_at)
    moved = max((step.ended_at for step in run.steps.values()
                 if step.branch == queue and step.spec.kind != "verify" and step.ended_at),
                default=approved)
    # Whoever asked before the verdict was reached did not wait for it.
    known = min(detected or fault, run.planned_at)
    marks = [fault, known, run.planned_at, approved, moved, served]
    out: dict[str, float | None] = {}
    for name, begin, end in zip(PHASES, marks[:-1], marks[1:], strict=True):
        out[name] = None if begin is None or end is None else max(0.0, (end - begin) / SECOND)
    return out
