"""What the judge asks of a step that says it has succeeded, or failed although all was calm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ccfailover.model.health import State
from ccfailover.model.plan import Json, StepSpec
from ccfailover.model.shares import TREATMENTS, Shares
from ccfailover.runbooks.engine import Apply, Holds
from ccfailover.runbooks.run import Run
from ccfailover.runbooks.step import Observed
from ccfailover.simulation.clock_sim import Process, Task
from ccfailover.simulation.items_sim import ItemJudge
from ccfailover.simulation.world_sim import SimWorld
from ccfailover.store import Store

LOOKS = 6.0
"""Seconds within which a step has seen what people are told of a site."""
COUNTS = 9.0
"""Seconds within which `verify` has seen what a site answers."""


class HoldJudge:
    """An increment that is held for those who do not bear it is told of, once each time."""

    def __init__(self, broken: Callable[[str, str], None]) -> None:
        self.broken = broken
        self._applied: dict[Task | None, str] = {}
        self._told: dict[Task | None, bool] = {}
        self._due: set[Task | None] = set()

    def applied(self, task: Task | None, effect: Apply) -> None:
        self._applied[task] = "" if effect.undo else effect.step.id
        self._told[task] = False
        self._due.discard(task)

    def looked(self, task: Task | None, effect: Holds, seen: Observed) -> None:
        if self._applied.get(task) != effect.step.id or effect.undo:
            return  # what is seen when its time is up is not held: it is backed off at once
        if task in self._due:
            self.broken("a hold is journaled", f"{effect.step.id} is held")
        if seen.back_off and not seen.final and not self._told[task]:
            self._due.add(task)
        elif not seen.back_off:
            self._told[task] = False

    def said(self, task: Task | None, step: str) -> None:
        if task not in self._due:
            self.broken("a hold is journaled", f"{step} is not held, or it was said before")
        self._due.discard(task)
        self._told[task] = True


class SuccessJudge:
    def __init__(self, world: SimWorld, store: Store, items: ItemJudge,
                 broken: Callable[[str, str], None]) -> None:
        self.world, self.store, self.items, self.broken = world, store, items, broken
        self.disturbed: dict[str, float] = {}

    def succeeded(self, run_id: str, spec: StepSpec, snapshot: Json, said: Any,
                  process: Process, began: tuple[float, int]) -> None:
        """`began`: when the step was started, in virtual seconds and by the clock on the wall."""
        if process.frozen_at > self.world.scheduler.seconds - COUNTS:
            return
        match spec.kind:
            case "transfer" if spec.params.get("clear"):
                self.items.cleared(spec)
            case "transfer":
                self.items.transferred(run_id, spec, said, began[1])
            case "notify" if not self.store.outbox_has(f"{run_id}/{spec.id}"):
                self.broken("journal is true", f"{spec.id} is not in the outbox")
            case "verify":
                self._verified(spec)
            case "shift_route" | "redirect_intake" if spec.params.get("soak"):
                self._soaked(spec, snapshot)

    def _told(self, site: str, seconds: float) -> set[State]:
        now = self.world.scheduler.seconds
        return self.world.told_during(site, now - seconds, now)

    def _soaked(self, spec: StepSpec, snapshot: Json) -> None:
        before, to = Shares(snapshot["shares"]), Shares(spec.params["to"])
        for site in to:
            if (site not in TREATMENTS and to.of(site) > before.of(site)
                    and self._told(site, LOOKS) == {State.DOWN}):
                self.broken("ramp", f"{spec.id} succeeded, and {site} is down")

    def ramp(self, run: Run | None, effect: Apply, asked: float) -> None:
        """A further increment is not given to whoever does not bear the one before, nor in a
        blocked window: unless what is left behind is dead."""
        spec, world = effect.step, self.world
        if (effect.undo or run is None or "to" not in spec.params or run.steps[spec.id].attempts
                # The guards were told that the lever was there already: it lied.
                or self.disturbed.get(spec.lever.partition(":")[2], -1.0) > asked - LOOKS):
            return
        if (world.told_during(run.plan.subject, asked - LOOKS, asked) == {State.HEALTHY}
                and all(world.is_blocked(world.clock(asked - ago)) for ago in (0, 3))):
            self.broken("guards", f"{spec.id} applied in a blocked window")
        ill = (State.DEGRADED, State.UNKNOWN)
        before, to = Shares(effect.snapshot["shares"]), Shares(spec.params["to"])
        behind = [name for name in before if before.of(name) > to.of(name)
                  and name not in TREATMENTS]
        if "-1of" in spec.id or "of" not in spec.id or not spec.params["soak"] or any(
                world.told_during(name, asked - LOOKS, asked) != {State.HEALTHY}
                for name in behind):
            return
        for name in to:
            if to.of(name) > before.of(name) > 0 and name not in TREATMENTS and all(
                    state in ill for state in world.told_during(name, asked - LOOKS, asked)):
                self.broken("ramp", f"{spec.id} gives {name} more, which is unwell")

    def _verified(self, spec: StepSpec) -> None:
        queue = self.world.policy.queues[str(spec.params["queue"])]
        now = self.world.scheduler.seconds
        for site in Shares(spec.params["shares"]):
            if site in TREATMENTS:
                continue
            dead = not any(self.world.up(site, now - ago) for ago in (0.0, 3.0, 6.0, COUNTS))
            if self._told(site, LOOKS) == {State.DOWN} or dead and queue.probes:
                self.broken("customers are served", f"{spec.id} succeeded, and {site} is down")

    def failed(self, spec: StepSpec, reason: str, ref: str, began: tuple[float, int],
               calm_at: float) -> None:
        """A platform that is well and that nobody disturbs does what it is told."""
        quiet = max(calm_at, self.disturbed.get(ref, 0.0)) + 1 < began[0]
        if quiet and reason.startswith("not so within") and " reads " in reason:
            self.broken("liveness", f"{spec.id} failed in the calm: {reason}")
