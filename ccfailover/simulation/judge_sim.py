"""What must hold whatever goes wrong: told of every effect and every landing, it says what broke.

It sees the truth, which nobody who acts does. Each promise has a name; a violation begins with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ccfailover.model.health import State
from ccfailover.model.items import WorkItem
from ccfailover.model.plan import StepSpec
from ccfailover.model.shares import TREATMENTS, Shares
from ccfailover.runbooks import engine
from ccfailover.runbooks.drive import LEASE_SECONDS
from ccfailover.runbooks.run import Run, RunState, StepStatus
from ccfailover.runtime import SECOND
from ccfailover.simulation.clock_sim import Process, Scheduler, Task
from ccfailover.simulation.engine_sim import Carrier, Office
from ccfailover.simulation.faults_sim import Sender
from ccfailover.simulation.grammar_sim import Grammar
from ccfailover.simulation.items_sim import ItemJudge
from ccfailover.simulation.lease_sim import HEARS_WITHIN, STOPS_WITHIN, LeaseJudge
from ccfailover.simulation.levers_sim import LeverJudge, aim_of
from ccfailover.simulation.success_sim import LOOKS, HoldJudge, SuccessJudge
from ccfailover.simulation.world_sim import HOME, SimWorld

SLACK = 31.0
"""Seconds for which a write may be tried again without asking anew who is down."""


class Judge:
    """Told what it judges by `sees`, once that exists."""

    world: SimWorld
    office: Office
    items: ItemJudge
    success: SuccessJudge
    levers: LeverJudge

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.violations: list[str] = []
        self.disturbed: dict[str, float] = {}
        self._landed: dict[str, float] = {}
        self._reads: dict[tuple[Task | None, str], tuple[Any, Any]] = {}
        self._fences: dict[Task | None, float] = {}
        self._asked_at: dict[Task | None, float] = {}
        self._first: dict[tuple[str, str], Any] = {}
        self._first_by: dict[tuple[str, str], Carrier] = {}
        self._moved: dict[str, set[str]] = {}
        self._families: dict[str, tuple[str, ...]] = {}
        self._taken: dict[str, float] = {}
        self._waits: dict[str, float] = {}
        self._holders: dict[str, Carrier] = {}
        self._late: dict[tuple[int, str], set[tuple[str, bool]]] = {}
        self._began: dict[tuple[int, str], tuple[float, int]] = {}
        self._snapshots: dict[tuple[int, str], Any] = {}
        self._warned: dict[Task | None, bool] = {}
        self.holding = HoldJudge(self.broken)
        self.limits: Counter[str] = Counter()
        self.leases = LeaseJudge(scheduler, self.broken, self._now)

    def _now(self) -> int:
        return self.office.runtime.now()

    def sees(self, world: SimWorld, office: Office) -> None:
        self.world, self.office = world, office
        self.items = ItemJudge(world, self.broken)
        self.items.store = self.leases.store = office.store
        self.leases.owns = self._process_owns
        self.success = SuccessJudge(world, office.store, self.items, self.broken)
        self.success.disturbed = self.disturbed
        self.levers = LeverJudge(office, self.disturbed, self._landed, self.broken)

    def broken(self, promise: str, what: str) -> None:
        self.violations.append(f"{promise}: {what} (at {self.scheduler.seconds:.3f} s)")

    # --- what the platform tells -------------------------------------------------------------

    def sent(self, operation: str, ref: str) -> Sender:
        task = self.scheduler.task
        process = task.process if task else None
        effect = process.specs.get(task) if isinstance(process, Carrier) else None
        spec = getattr(effect, "step", None)
        if isinstance(process, Carrier):
            self.leases.sends(process, operation, process.lease)
        if operation in ("shift", "set_open") and not isinstance(effect, engine.Apply):
            self.broken("the engine decides", f"{operation} {ref} outside of an Apply")
        return Sender(operation, ref, self.scheduler.seconds, process, task,
                      spec.id if spec else "", bool(getattr(effect, "undo", False)))

    def landed(self, sender: Sender, before: Shares | bool, after: Shares | bool, *,
               late: bool) -> None:
        ref, carrier = sender.ref, sender.process
        if late or not isinstance(carrier, Carrier):
            self.disturbed[ref] = self.scheduler.seconds
        else:
            self._landed[ref] = self.scheduler.seconds
        if isinstance(after, Shares) and isinstance(before, Shares):
            self._shares(sender, before, after, late)
        if isinstance(carrier, Carrier) and carrier.run is not None:
            self._moved.setdefault(carrier.run.id, set()).add(ref)
            if not self._owns(carrier):
                self.disturbed[ref] = self.scheduler.seconds
            if self._was_succeeded(carrier) and not late:  # what the network kept is not ours
                (late_ones := self._late.setdefault((carrier.number, ref), set())).add(
                    (sender.step, sender.undo))
                if len(late_ones) > 1:
                    self.broken("one late write", f"{carrier} wrote {ref} again, overtaken")

    def put(self, sender: Sender, items: Sequence[WorkItem]) -> None:
        if isinstance(sender.process, Carrier):
            self.leases.puts(sender.process)
            self.items.put(sender, items, sender.process.policy)

    def deleting(self, ref: str, handle: str) -> None:
        task = self.scheduler.task
        if task is not None and isinstance(task.process, Carrier):
            self.items.deleting(ref, handle)

    def read(self, ref: str, told: Shares | bool, truth: Shares | bool) -> None:
        self._reads[(self.scheduler.task, ref)] = (told, truth)
        if told != truth:
            self.disturbed[ref] = self.scheduler.seconds

    def _shares(self, sender: Sender, before: Shares, after: Shares, late: bool) -> None:
        if sum(after.values()) != 100:
            self.broken("shares sum to 100", f"{sender.ref} is {after}")
        if not isinstance(sender.process, Carrier):
            return
        if not late and self._all_off(after, sender.at) and not self._all_off(before, sender.at):
            self.broken("never all off", f"{sender.ref} {before} → {after}")
        name = sender.ref.removesuffix("_route")
        told = self._reads.get((sender.task, sender.ref), (before, before))[0]
        lenient = sender.undo or (run := sender.process.run) and run.plan.runbook == "overflow"
        may = sender.process.may_undo if lenient else sender.process.may
        foreign = set(after) - may[name] - set(before) - set(told)
        if foreign and not late:  # what a late write leaves there, it may have lowered when sent
            self.broken("hard guard", f"{name} at {', '.join(sorted(foreign))}")
        if not late:
            self._not_over_others(sender, told)
        for site in () if late else after:  # what it raises now, it may have lowered when sent
            if site in TREATMENTS or after.of(site) <= max(before.of(site), told.of(site)):
                continue  # not raised, as far as anybody could see
            bad = (State.DOWN, State.UNKNOWN) if sender.undo else (State.DOWN,)
            if all(state in bad for state in self.world.told_during(
                    site, sender.at - SLACK, sender.at)):
                self.broken("never a dead site", f"{sender.step}{' undone' * sender.undo}: "
                                                 f"{sender.ref} {before} → {after}")

    def _not_over_others(self, sender: Sender, told: Shares) -> None:
        """Whoever reads that somebody else has moved a lever leaves it as it is."""
        carrier = sender.process
        effect = carrier.specs.get(sender.task) if isinstance(carrier, Carrier) else None
        if not isinstance(effect, engine.Apply) or not isinstance(carrier, Carrier):
            return
        if effect.undo:
            mine = [aim_of(spec) for name in self._family(carrier.run_id)
                    for spec in self.office.load(name).plan.steps()
                    if spec.lever == effect.step.lever and "to" in spec.params]
        elif self._snapshots.get((carrier.number, effect.step.id)) == effect.snapshot and sum(
                record.kind == "step.started" and record.data["step"] == effect.step.id
                for record in self.office.store.read(f"run:{carrier.run_id}")) == 1:
            mine = [Shares(effect.snapshot["shares"])]
        else:
            return
        if told not in mine:
            self.broken("somebody else's move stands", f"{sender.ref} was read as {told}, and set "
                                                       f"by {effect.step.id}")

    def _all_off(self, shares: Shares, at: float) -> bool:
        return all(site not in TREATMENTS and self.world.told_during(site, at - SLACK, at)
                   == {State.DOWN} for site in shares)

    # --- what the processes tell -------------------------------------------------------------

    def asked(self, carrier: Carrier, effect: engine.Effect) -> None:
        task = self.scheduler.task
        self._asked_at[task] = self.scheduler.seconds
        if isinstance(effect, engine.Apply):
            self._before_apply(carrier, effect, task)
        elif isinstance(effect, engine.Snapshot):
            self.leases.goes_on(carrier, carrier.run_id, effect.step.id, within=HEARS_WITHIN)
        elif isinstance(effect, engine.Append) and effect.kind == "step.started":
            name = str(effect.data["step"])
            self._began[(carrier.number, name)] = (self.scheduler.seconds,
                                                   self.office.runtime.now())
            self._snapshots[(carrier.number, name)] = effect.data.get("snapshot")
            self._remember_first(carrier, name, task)

    def _remember_first(self, carrier: Carrier, name: str, task: Task | None) -> None:
        """What a lever was before the first step of a chain of runs touched it, as it was read:
        a process may die once the words are written, so it is noted before."""
        run = carrier.run
        if run is None or name not in run.steps or not run.steps[name].spec.lever \
                or not self._owns(carrier):
            return
        lever = run.steps[name].spec.lever
        key = self._key(run.id, lever.partition(":")[2])
        begun = any(step.spec.lever == lever and step.touched
                    for step in (*run.steps.values(), *run.inherited.values()))
        if not begun and self._first_by.get(key) is not carrier:
            self._first[key] = self._reads.get((task, key[1]), (None, None))[0]
            self._first_by[key] = carrier

    def _before_apply(self, carrier: Carrier, effect: engine.Apply, task: Task | None) -> None:
        self.leases.acts(carrier, effect.step.id)
        self.leases.goes_on(carrier, carrier.run_id, effect.step.id, within=STOPS_WITHIN)
        if self._warned.get(task):
            self.broken("guards are journaled", f"{effect.step.id} applied after a warning")
        fenced = self._fences.pop(task, None)
        if fenced is None:
            self.broken("fence first", f"{effect.step.id} applied without a look at the fence")
        elif (not self._owns(carrier) and carrier.frozen_at < fenced
              and max(self.leases.jumped_at, self._taken.get(carrier.run_id, -1.0)) < fenced):
            self.broken("one owner", f"{effect.step.id} applied by {carrier} without the lease")
        if self.scheduler.seconds < self._waits.get(carrier.run_id, -1.0) and self._owns(carrier) \
                and self.leases.jumped_at < self._waits[carrier.run_id] - LEASE_SECONDS:
            self.broken("one owner", f"{effect.step.id} applied by {carrier} while a call of the "
                                     "former holder may have been under way")
        if not self._owns(carrier):
            return  # frozen since it looked at the fence: its successor goes on writing
        wanted = {"step.guarded", *(("undo.started", "step.backing_off") if effect.undo
                                    else ("step.started",))}
        stream = f"run:{carrier.run_id}"
        last = self.office.store.head(stream)[0]
        said = [record.kind for record in self.office.store.read(stream, last - 40)
                if record.data.get("step") == effect.step.id]
        if not said or said[-1] not in wanted:
            self.broken("write ahead", f"{effect.step.id} applied after {said[-1:]}")

    def answered(self, carrier: Carrier, effect: engine.Effect, answer: Any) -> None:
        task = self.scheduler.task
        if isinstance(effect, engine.CheckFence):
            self._after_fence(carrier, effect, task)
        elif isinstance(effect, engine.Holds):
            self.holding.looked(task, effect, answer)
        elif isinstance(effect, engine.Guard):
            self._warned[task] = bool(answer.said)
        elif isinstance(effect, engine.Append | engine.End):
            self._warned[task] = self._warned.get(task, False) and effect.kind != "step.guarded"
            self._journaled(carrier, effect, task)
        elif isinstance(effect, engine.Apply):
            self.holding.applied(task, effect)
            if answer.error is not None:
                return
            asked = self._asked_at[task]
            if max(carrier.frozen_at, self.leases.jumped_at) <= asked - LOOKS:
                self.success.ramp(carrier.run, effect, asked)

    def took(self, carrier: Carrier, runs: Sequence[str]) -> None:
        """It has taken runs up, or superseded them, perhaps from somebody at work. The call of
        that moment is the one late write, for which whoever carries the run on has to wait."""
        lease = carrier.lease
        if lease is None or self._was_succeeded(carrier):  # by now
            return
        # It may have stood still since it was given the lease, and the clock been set back.
        at = self.scheduler.seconds - max(0, self.office.runtime.now() - lease.since) / SECOND
        self._taken.update(dict.fromkeys(runs, at))
        former = [self._holders[run] for run in runs if run in self._holders]
        self._holders[lease.run] = carrier
        if any(other.alive and other.driver and not other.let_go for other in former):
            self._waits[lease.run] = at + LEASE_SECONDS - 1

    def left(self, carrier: Carrier, run: Run) -> None:
        """A process that ends in good order, and not overtaken, says how the run stands."""
        if (run.phase.is_open and run.phase not in (RunState.PAUSED, RunState.STUCK)
                and not self._was_succeeded(carrier)):
            self.broken("the run says how it stands", f"{run.id} was left {run.phase.value}")

    def fell(self, carrier: Carrier, error: Exception) -> None:
        self.leases.fell(carrier, error)

    def stop_asked(self, run_id: str) -> None:
        self.leases.stop_asked(run_id)

    def _after_fence(self, carrier: Carrier, effect: engine.CheckFence,
                     task: Task | None) -> None:
        now = self.scheduler.seconds
        self._fences[task] = now
        asked = self._asked_at[task]
        if carrier.frozen_at < asked and self.leases.jumped_at < asked and not self._owns(carrier):
            self.broken("fence", f"{carrier} was let pass without the lease")

    def _journaled(self, carrier: Carrier, effect: engine.Append | engine.End,
                   task: Task | None) -> None:
        kind, run = effect.kind, carrier.run
        if run is None:
            return
        if kind == "step.holding":
            self.holding.said(task, str(effect.data["step"]))
        if kind == "run.rolled_back":
            self._rolled_back(carrier)
        elif kind == "run.succeeded":
            taken = self.leases.taken_at(carrier)
            if carrier.frozen_at < taken:
                self.levers.looked_again(run, taken)
        name = effect.data.get("step")
        step = run.steps.get(str(name)) or run.inherited.get(str(name))
        here = (carrier.number, str(name))
        if step is not None and kind == "step.succeeded" and here in self._began:
            self.success.succeeded(run.id, step.spec, self._snapshots[here], effect.data, carrier,
                                   self._began[here])
        if step is None or not step.spec.lever:
            return
        ref = step.spec.lever.partition(":")[2]
        if kind == "step.failed" and here in self._began:
            self.success.failed(step.spec, str(effect.data.get("reason")), ref,
                                self._began[here], self.world.calm_at)
        told, truth = self._reads.get((task, ref), (None, None))
        if kind == "step.succeeded":
            self._agrees("journal is true", step.spec, aim_of(step.spec), told, truth)
        elif kind == "undo.succeeded":
            if not str(effect.data.get("detail", "")).startswith("undone with"):
                self._agrees("undo restores the first snapshot", step.spec,
                             self._first.get(self._key(run.id, ref)), told, truth)
            self._first_by.pop(self._key(run.id, ref), None)
            for name in self._family(run.id):
                self._moved.get(name, set()).discard(ref)

    def _agrees(self, promise: str, spec: StepSpec, aim: Any, told: Any, truth: Any) -> None:
        """What was read before the words were written; a switch that lies is believed."""
        if told != aim or (truth != aim and told == truth):
            self.broken(promise, f"{spec.id}: aim {aim}, read {told}, truth {truth}")

    def _rolled_back(self, carrier: Carrier) -> None:
        run = self.office.load(carrier.run_id)
        if any(record.kind == "step.skipped" for name in self._family(run.id)
               for record in self.office.store.read(f"run:{name}")):
            return
        # Whoever wrote that it is undone may have died before we heard of it.
        undone = {step.spec.lever.partition(":")[2]
                  for step in (*run.steps.values(), *run.inherited.values())
                  if step.status is StepStatus.UNDONE}
        left = {ref for name in self._family(run.id)
                for ref in self._moved.get(name, ())} - undone
        said = json.dumps([record.data for record in self.office.store.read(f"run:{run.id}")
                           if record.kind.startswith("undo.")])
        self.items.rolled_back(run, said)
        late = {ref for ref in left if ref in self.disturbed}
        if left - late:
            self.broken("undo is whole", f"{run.id} rolled back, never undone: {sorted(left)}")

    # --- who owns what -----------------------------------------------------------------------

    def _process_owns(self, process: Process) -> bool:
        return isinstance(process, Carrier) and self._owns(process)

    def _owns(self, carrier: Carrier) -> bool:
        return carrier.lease is not None and self.office.store.fence_is_ours(carrier.lease)

    def _was_succeeded(self, carrier: Carrier) -> bool:
        """Whether somebody else took its run up, or ended it."""
        held = {(lease.run, lease.fence) for lease in self.office.store.leases()}
        return carrier.lease is not None and (carrier.lease.run, carrier.lease.fence) not in held

    def _family(self, run_id: str) -> tuple[str, ...]:
        """A run after those that it superseded, and those before them."""
        if run_id not in self._families:
            plan = self.office.store.read(f"run:{run_id}")[0].data["plan"]
            self._families[run_id] = (*(name for earlier in plan.get("supersedes") or ()
                                        for name in self._family(earlier)), run_id)
        return self._families[run_id]

    def _key(self, run_id: str, ref: str) -> tuple[str, str]:
        """Under which a lever's first snapshot is kept: that of the first run that had one."""
        return next(((name, ref) for name in self._family(run_id) if (name, ref) in self._first),
                    (run_id, ref))

    # --- the end -----------------------------------------------------------------------------

    def unserved(self) -> str:
        """Which queue's arrivals go to a dead site although somebody may and can take them."""
        world = self.world
        for name, lever in world.levers.items():
            queue = world.policy.queues[name]
            dead = [site for site in world.platform.shares(lever.ref)
                    if site not in TREATMENTS and world.told(site) is State.DOWN]
            takers = [site for site in (HOME, *queue.backups) if site in world.may[name]
                      and world.told(site) is State.HEALTHY]
            if dead and (queue.route is not None or takers):
                return f"{name} is at {', '.join(dead)}, which is down"
        return ""

    def verdict(self) -> None:
        """Once the story has ended."""
        store, unheard = self.office.store, self.office.unheard
        for broken in store.verify():
            self.broken("journal verifies", broken)
        for stream in (f"run:{run_id}" for run_id in store.run_ids()):
            for problem in Grammar(store.read(stream), self.world.policy.people,
                                   unheard.get(stream, ())).check():
                self.broken("the journal makes sense", problem)
        self.items.verdict()
        self.limits.update(self.items.limits)
        self.levers.verdict()
