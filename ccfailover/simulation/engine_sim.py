"""Carries runs as processes do, but effect by effect: the engine's first other interpreter.

The real engine, steps, mover, retries and store; `Driver` turns errors into values as always.
Only threads are missing: every branch, and the heartbeat, is a task of the scheduler, and a
crash drops the generators.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ccfailover.errors import Fenced, LeaseHeld, Refused, StoreError, UsageError
from ccfailover.model.journal import BEATS, LEASE_SECONDS, Actor, Lease
from ccfailover.model.plan import Finding, Plan, StepSpec
from ccfailover.providers.patience import Permit
from ccfailover.runbooks import engine
from ccfailover.runbooks.drive import Driver, Hands
from ccfailover.runbooks.engine import Result
from ccfailover.runbooks.guarding import Automation, before_step
from ccfailover.runbooks.plan import Circumstances, make_plan
from ccfailover.runbooks.run import Run, StepStatus, fold
from ccfailover.runbooks.step import Move, Step
from ccfailover.runbooks.takeover import doubt_left, outwaited, same_way, stopped
from ccfailover.simulation.clock_sim import Flow, Process, Scheduler, Task, VirtualRuntime
from ccfailover.simulation.reach_sim import SimLevers
from ccfailover.simulation.world_sim import SimWorld
from ccfailover.store import Store

StepKinds = Callable[[str], type[Step]]
"""A step kind's name → its class; wiring knows them, so the caller brings it."""

Effects = Generator[Any, Any, Any]


@dataclass(frozen=True)
class Flows:
    """What a simulation is made of. The mutation tests put broken parts here.

    `forward` and `backward` give a run's effects, `driver` performs them, `carrier` (None: the
    one below) is the process around that, `store` the store, and `planner` makes plans.
    """

    forward: Callable[[Run], Effects] = engine.forward
    backward: Callable[[Run], Effects] = engine.backward
    driver: type[Driver] = Driver
    carrier: type[Carrier] | None = None
    store: type[Store] = Store
    planner: Callable[..., Plan] = make_plan


class Witness(Protocol):
    """Who looks at every effect before and after it; see `judge_sim`."""

    def asked(self, carrier: Carrier, effect: engine.Effect) -> None: ...
    def answered(self, carrier: Carrier, effect: engine.Effect, answer: Any) -> None: ...
    def left(self, carrier: Carrier, run: Run) -> None: ...
    def took(self, carrier: Carrier, runs: Sequence[str]) -> None: ...
    def fell(self, carrier: Carrier, error: Exception) -> None: ...
    def stop_asked(self, run_id: str) -> None: ...


@dataclass
class Office:
    """What all processes of a simulation share: the machine, the store, the world."""

    scheduler: Scheduler
    runtime: VirtualRuntime
    store: Store
    world: SimWorld
    levers: SimLevers
    kinds: StepKinds
    flows: Flows
    witness: Witness
    note: Callable[[str], None]
    confirms: Callable[[], bool] = lambda: True
    """Whether whoever starts or resumes a run says yes to what is shown."""
    processes: list[Carrier] = field(default_factory=list)
    unheard: dict[str, list[int]] = field(default_factory=dict)  # by stream: said amid a freeze
    _folded: dict[str, tuple[tuple[int, str], Run]] = field(default_factory=dict)  # up to a head

    def load(self, run_id: str) -> Run:
        head = self.store.head(f"run:{run_id}")
        known = self._folded.get(run_id)
        if known is not None and known[0] == head:
            return known[1]
        records = self.store.read(f"run:{run_id}")
        planned = records[0].data.get("plan", {}) if records else {}
        run = fold(records, *(self.load(earlier) for earlier in planned.get("supersedes") or ()))
        self._folded[run_id] = (head, run)
        return run

    def carrier(self, verb: str) -> Carrier:
        return (self.flows.carrier or Carrier)(self, verb)

    def open_runs(self) -> list[Run]:
        runs = [self.load(lease.run) for lease in self.store.leases()]
        return [run for run in runs if run.phase.is_open]


class Carrier(Process):
    """One process of ccfailover: takes a lease, carries a run, ends or is killed.

    Takes leases as `operations.runs` does. Each public method is the flow of its main task.
    """

    def __init__(self, office: Office, verb: str) -> None:
        super().__init__(len(office.processes) + 1)
        self.office, self.verb = office, verb
        self.actor = Actor("ann", f"host{self.number}", self.number, f"boot{self.number}", "1")
        self.lease: Lease | None = None
        self.driver: Driver | None = None
        self.run: Run | None = None
        self.specs: dict[Task | None, engine.Effect] = {}
        self.outcome = "at work"
        self.let_go = False
        self.policy = office.world.policy
        """What it was started with; others may change it meanwhile."""
        self.may: Mapping[str, frozenset[str]] = office.world.may
        self.may_undo: Mapping[str, frozenset[str]] = office.world.may_undo
        """Where its queues may go, and go back to, by that policy."""
        office.processes.append(self)

    def launch(self, flow: Flow) -> Task:
        return self.office.scheduler.spawn(f"{self} {self.verb}", self._life(flow), self)

    def _life(self, flow: Flow) -> Flow:
        """Errors that a command would show to a person end the process; others are bugs."""
        try:
            yield from flow
            self.outcome = "done"
        except (Fenced, StoreError, LeaseHeld, Refused, UsageError) as error:
            self.outcome = f"{type(error).__name__}: {error}"
            self.office.witness.fell(self, error)
            self.office.note(f"{self} ends: {self.outcome}")
        self.office.scheduler.kill(self)

    @property
    def run_id(self) -> str:
        return self.run.id if self.run is not None else ""

    # --- the verbs ---------------------------------------------------------------------------

    def start(self, plan: Plan, again: Callable[[], Plan | None]) -> Flow:
        """`again` plans anew, once the overflows in the way have stopped."""
        store = self.office.store
        if plan.pre_empts:
            yield from stopped(plan, store, self.office.runtime, actor=str(self.actor),
                               within=self.policy.guards.preempt_within)
            fresh = again()
            if fresh is None:
                return
            plan = fresh
        run_id, self.lease = store.create_run(plan, actor=self.actor, ttl=LEASE_SECONDS,
                                              supersedes=plan.supersedes)
        self.office.witness.took(self, plan.supersedes)
        yield 0.0
        if self.office.confirms():
            yield from self._confirm(run_id, plan)
        yield from self._outwait(self._doubt_left(run_id))
        yield from self._drive(run_id, back=False)

    def steal(self, run: Run) -> Flow:
        """Takes a run from somebody at work."""
        yield from self.resume(run, "simulated")

    def resume(self, run: Run, steal: str = "") -> Flow:
        taken = yield from self._take(run, steal)
        try:
            same_way(run, taken)
        except Refused:
            self.office.store.lapse(self._held())
            raise
        if self.office.confirms():
            yield from self._confirm(run.id, run.plan)
        yield from self._drive(run.id, back=taken.rolling_back)

    def rollback(self, run: Run) -> Flow:
        yield from self._take(run)
        yield from self._drive(run.id, back=True)

    def skip(self, run: Run) -> Flow:
        """Passes over the step that stopped the run."""
        run = yield from self._take(run)
        for step in run.problems()[:1]:
            self._store_append(run.id, "step.skipped",
                               {"step": step.spec.id, "reason": "by hand"})
        yield 0.0
        self.office.store.lapse(self._held())

    def abort(self, run: Run) -> Flow:
        run = yield from self._take(run)
        in_effect = [step.spec.title for step in run.steps.values()
                     if step.status in (StepStatus.SUCCEEDED, StepStatus.STARTED)]
        self.office.store.end_run(self._held(), "run.aborted",
                                  {"reason": "simulated", "in_effect": in_effect},
                                  actor=str(self.actor))

    def stop(self, run: Run) -> Flow:
        self.office.store.append(f"run:{run.id}", "stop.requested", {"reason": "simulated"},
                                 actor=str(self.actor))
        if self.frozen_at < self.office.scheduler.seconds:  # else it was asked before it woke
            self.office.witness.stop_asked(run.id)
        yield 0.0

    # --- lease -------------------------------------------------------------------------------

    def _held(self) -> Lease:
        if self.lease is None:
            raise UsageError("no lease was taken", not_done="nothing was done")
        return self.lease

    def _store_append(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        self.office.store.append(f"run:{run_id}", kind, data, actor=str(self.actor),
                                 lease=self._held())

    def _confirm(self, run_id: str, plan: Plan) -> Flow:
        self.office.store.append(f"run:{run_id}", "confirmation.given",
                                 {"plan": plan.hash, "how": "simulated"}, actor=str(self.actor))
        yield 0.0

    def _take(self, run: Run, steal: str = "") -> Flow:
        self.lease, doubtful = self.office.store.acquire(run.id, actor=self.actor,
                                                         ttl=LEASE_SECONDS, steal=steal)
        self.office.witness.took(self, [run.id])
        yield 0.0
        doubt = LEASE_SECONDS if doubtful else self._doubt_left(run.id)
        yield from self._outwait(doubt)
        if doubt and any(record.kind == "stop.requested"
                         for record in self.office.store.read(f"run:{run.id}", run.head[0])):
            self.office.store.lapse(self._held())
            raise Refused("it was asked to stop while its last holder was waited out",
                          guard="stop")
        return self.office.load(run.id)

    def _doubt_left(self, run_id: str) -> float:
        store = self.office.store
        return doubt_left(store.read(f"run:{run_id}"), store.now(), LEASE_SECONDS)

    def _outwait(self, seconds: float) -> Flow:
        self.lease = yield from outwaited(self.office.store, self.office.runtime, self._held(),
                                          LEASE_SECONDS, seconds)

    # --- the run -----------------------------------------------------------------------------

    def _drive(self, run_id: str, *, back: bool) -> Flow:
        office = self.office
        self.run = run = office.load(run_id)
        self.driver = driver = office.flows.driver(run, self._held(), self._hands(),
                                                   actor=self.actor)
        heart = office.scheduler.spawn(f"{self} heart", self._heartbeat(driver, run), self)
        kind = ("rollback.started" if back
                else "run.resumed" if run.started_at else "run.started")
        if kind == "run.started" and run.stop_requested:
            driver.stop()
        yield from self._perform(self._once(engine.Append(kind, {"context": {}})))
        flow = office.flows.backward(run) if back else office.flows.forward(run)
        failed: Exception | None = None
        try:
            yield from self._perform(flow)
        except (Fenced, StoreError) as error:
            failed = error
        heart.done = True
        if failed is not None:
            raise failed
        after = office.load(run_id)
        office.witness.left(self, after)
        self.let_go = True
        if after.phase.is_open:
            office.store.lapse(self._held())

    @staticmethod
    def _once(effect: engine.Effect) -> Effects:
        yield effect

    def _hands(self) -> Hands:
        office, permit = self.office, Permit()
        return Hands(
            policy=self.policy, store=office.store, runtime=office.runtime,
            levers=SimLevers(office.world, office.runtime, permit), permit=permit,
            make_step=self._make_step,
            site_state=lambda name: office.world.told(name).value,
            observe=office.world.observe, guard=self._guard)

    def _guard(self, run: Run, moves: Sequence[Move]) -> Sequence[Finding]:
        """The guards as they are, over what people know in this world."""
        office, world = self.office, self.office.world
        now = office.runtime.now()
        return before_step(self.policy, run, moves, Circumstances(
            world=world.picture(now), capabilities=office.levers.capabilities,
            is_open=lambda site, at: True, is_blocked=world.is_blocked), Automation(), now)

    def _make_step(self, spec: StepSpec, context: Any) -> Step:
        return self.office.kinds(spec.kind)(spec, context)

    def _perform(self, flow: Effects) -> Generator[Any, None, Any]:
        answer: Any = None
        while True:
            try:
                effect = flow.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(effect, engine.Branches):
                answer = yield from self._branches(effect)
            elif isinstance(effect, engine.Wait):
                answer = yield from self._wait(effect.seconds)
            else:
                yield 0.0
                answer = self._do(effect)

    def _do(self, effect: engine.Effect) -> Any:
        office = self.office
        task = office.scheduler.task
        self.specs[task] = effect
        office.witness.asked(self, effect)
        answer = self._driver()._do(effect)  # what Driver does of itself, but for its threads
        office.witness.answered(self, effect, answer)
        return answer

    def _driver(self) -> Driver:
        if self.driver is None:
            raise UsageError("nothing is driven", not_done="nothing was done")
        return self.driver

    def _branches(self, effect: engine.Branches) -> Generator[Any, None, list[Result]]:
        """Every branch is let end; then the first error is raised, as threads do."""
        tasks = [self.office.scheduler.spawn(f"{self} branch{number}", self._branch(flow), self)
                 for number, flow in enumerate(effect.engines)]
        yield tasks
        for task in tasks:
            if isinstance(task.result, Exception):
                raise task.result
        return [task.result for task in tasks]

    def _branch(self, flow: Effects) -> Generator[Any, None, Any]:
        try:
            return (yield from self._perform(flow))
        except (Fenced, StoreError) as error:
            return error

    def _wait(self, seconds: float) -> Generator[Any, None, bool]:
        driver, runtime = self._driver(), self.office.runtime
        end = runtime.monotonic() + seconds
        while not driver._stop and (left := end - runtime.monotonic()) > 0:
            yield min(0.5, left)
            if driver._lost is not None:
                raise driver._lost
        return driver._stop

    def _heartbeat(self, driver: Driver, run: Run) -> Flow:
        """What `Driver._heartbeat` does in a thread."""
        office = self.office
        renewed, seen = office.runtime.monotonic(), 0
        while True:
            yield 1.0
            try:
                taken = False
                for record in office.store.read(f"run:{run.id}", seen):
                    seen = record.seq
                    taken = taken or record.fence > self._held().fence
                    if record.kind == "stop.requested" and seen > run.head[0]:
                        driver.stop()
                if taken or office.runtime.monotonic() - renewed >= LEASE_SECONDS / BEATS:
                    driver._renewing(lambda: office.store.renew(self._held(), LEASE_SECONDS))
                    renewed = office.runtime.monotonic()
            except Fenced as error:
                driver._lost = error
                return
            except StoreError:
                continue

