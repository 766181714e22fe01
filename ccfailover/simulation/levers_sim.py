"""What the judge asks of levers at the end: the journal is true, and drift is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from typing import Any

from ccfailover.model.plan import StepSpec
from ccfailover.model.shares import Shares
from ccfailover.runbooks.run import Run, StepStatus
from ccfailover.simulation.engine_sim import Office


def aim_of(spec: StepSpec) -> Shares | bool:
    """What a lever step sets: shares, or whether a gate is open."""
    return Shares(spec.params["to"]) if "to" in spec.params else bool(spec.params["open"])


class LeverJudge:
    """`disturbed` and `landed`: when a lever was last moved behind the journal's back (or lied
    about), and when it was last moved by a run."""

    def __init__(self, office: Office, disturbed: Mapping[str, float],
                 landed: Mapping[str, float], broken: Callable[[str, str], None]) -> None:
        self.office, self.broken = office, broken
        self.disturbed, self.landed = disturbed, landed

    def _said(self) -> dict[str, Shares | bool | None]:
        """Lever → what the journal says last of it; None while that is in doubt."""
        said: dict[str, Any] = {}
        specs: dict[str, StepSpec] = {}
        for run_id in self.office.store.run_ids():
            run = self.office.load(run_id)
            for name, step in (*run.steps.items(), *run.inherited.items()):
                specs[f"run:{run_id} {name}"] = step.spec
        for (text,) in self.office.store._db.query(
                "SELECT text FROM journal WHERE stream LIKE 'run:%' ORDER BY rowid"):
            record = json.loads(text)
            spec = specs.get(f"{record['stream']} {record['data'].get('step')}")
            if spec is not None and spec.lever:
                said[spec.lever.partition(":")[2]] = (
                    aim_of(spec) if record["kind"] == "step.succeeded" else None)
        return said

    def _truth(self, ref: str, like: Shares | bool) -> Shares | bool:
        platform = self.office.world.platform
        return platform.shares(ref) if isinstance(like, Shares) else platform.is_open(ref)

    def looked_again(self, run: Run, taken: float) -> None:
        """What an earlier process had done holds when its successor, who took the run up at
        `taken`, ends it: the successor has looked, or done it again. `run` as it was found."""
        last = {step.spec.lever: step for branch in run.plan.branches
                for spec in branch.steps for step in [run.steps[spec.id]] if step.spec.lever}
        for lever, step in last.items():
            ref, aim = lever.partition(":")[2], aim_of(step.spec)
            if (step.status is StepStatus.SUCCEEDED and self._truth(ref, aim) != aim
                    and self.disturbed.get(ref, -1.0) < taken):
                self.broken("a resume looks again", f"{ref} is not at {aim}")

    def verdict(self) -> None:
        """What the journal says last of a lever is so, unless it was disturbed since."""
        for ref, value in self._said().items():
            if value is None or self.disturbed.get(ref, -1.0) >= self.landed.get(ref, -1.0):
                continue
            if (truth := self._truth(ref, value)) != value:
                self.broken("journal is true", f"{ref} is {truth}, the journal says {value}")

    def noticed(self, alarmed: Set[str]) -> None:
        """A late write, or somebody else's move, that stands when no run is open is noticed by
        `check`, which names these queues; and no alarm is false."""
        if self.office.store.open_run_ids():
            return
        said = self._said()
        for name, lever in self.office.world.levers.items():
            value = said.get(lever.ref)
            if not isinstance(value, Shares):
                continue
            truth = self._truth(lever.ref, value)
            if (value != truth) != (name in alarmed):
                self.broken("drift is noticed", f"{lever.ref} is {truth}, the journal says "
                                                f"{value}, alarms: {sorted(alarmed)}")
