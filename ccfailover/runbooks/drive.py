"""Performs what the engine asks for: real platforms, worker threads, a heartbeat.

This is the only module beside `runtime.py` that may start a thread. Everything that can go wrong
outside becomes a value for the engine; only `Fenced` and a failing store end the process's part:
whoever cannot write the journal, or no longer owns the levers, must not act.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ccfailover.errors import (
    CcfError,
    Fenced,
    PolicyError,
    ProviderError,
    Refused,
    Rejected,
    StateUnknown,
    StoreError,
    UsageError,
)
from ccfailover.model.health import Reading
from ccfailover.model.journal import BEATS, Actor, Lease, Record
from ccfailover.model.journal import LEASE_SECONDS as LEASE_SECONDS
from ccfailover.model.plan import Finding, Json, Mode, StepSpec
from ccfailover.model.policy import Policy, ProbeSpec
from ccfailover.providers.patience import Permit
from ccfailover.runbooks import engine
from ccfailover.runbooks.engine import Applied, Guarded, Result, Snapped
from ccfailover.runbooks.run import Run, fold
from ccfailover.runbooks.step import Levers, Move, Observed, Step, StepContext, Truth
from ccfailover.runtime import Runtime
from ccfailover.store import Store

if TYPE_CHECKING:
    from ccfailover.transfer.fanout import FanOut

T = TypeVar("T")

LONGEST_STEP = 2 / 3
LONGEST_CALL = 1 / 2
"""Parts of the lease that must be left when a step, or a single call of one, begins; less where
it says that it takes less."""

_OTHERS = (PolicyError, StateUnknown, UsageError)
"""A secret that leads nowhere, a step kind that is not installed: one branch's trouble, too."""


@dataclass(frozen=True)
class Hands:
    """What a run acts with; wiring builds it. `levers` of a shadow drill hold views only; every
    attempt to write with them asks `permit` first."""

    policy: Policy
    store: Store
    runtime: Runtime
    levers: Levers
    make_step: Callable[[StepSpec, StepContext], Step]
    site_state: Callable[[str], str]
    observe: Callable[[ProbeSpec], Reading]
    guard: Callable[[Run, Sequence[Move]], Sequence[Finding]]
    permit: Permit = field(default_factory=Permit)
    fan_out: FanOut | None = None


class Watcher(Protocol):
    """Whoever looks on: progress for people, never part of the decision."""

    def event(self, record: Record) -> None: ...
    def progress(self, step: str, done: int, total: int | None, note: str) -> None: ...


class Silent:
    """A watcher for cron."""

    def event(self, record: Record) -> None:
        """Nobody looks."""

    def progress(self, step: str, done: int, total: int | None, note: str) -> None:
        """Nobody looks."""


class Halted(BaseException):
    """A person stopped this process at once: nothing more is begun, nor journaled."""


class Driver:
    """Carries one run, for one process, under one lease."""

    def __init__(self, run: Run, lease: Lease, hands: Hands, *, actor: Actor,
                 watcher: Watcher | None = None) -> None:
        self._run = run
        self._lease = lease
        self._hands = hands
        self._actor = str(actor)
        self._watcher: Watcher = watcher or Silent()
        self._ttl = hands.policy.lease
        self._steps: dict[str, Step] = {}
        self._stop = False
        self._halted = False
        self._lost: Fenced | None = None
        self._until = -math.inf  # by our own clock; what the store has promised lasts longer
        hands.permit.given_by(self._may_write)
        self._beating = threading.Event()

    @property
    def run_id(self) -> str:
        return self._run.id

    def stop(self) -> None:
        """Ask the run to stop at its next safe point; safe to call from a signal handler."""
        self._stop = True

    def halt(self) -> None:
        """Begin nothing more, from this instant on; safe to call from a signal handler. A call
        that is under way may still land: its step is in doubt, and the lease is left to run out.
        """
        self._stop = self._halted = True

    def go(self, *, back: bool, context: Json = None) -> Result:
        """Run forward, or back. Raises Fenced or StoreError when this process must not go on;
        the run is then interrupted and the journal says where."""
        heart = threading.Thread(target=self._heartbeat, daemon=True)
        heart.start()
        try:
            kind = ("rollback.started" if back
                    else "run.resumed" if self._run.started_at else "run.started")
            self._stop = self._stop or (kind == "run.started" and self._run.stop_requested)
            self._append(kind, {"context": context or {}})
            self._run = replace(self._run, automatic=bool((context or {}).get("automatic")))
            flow = engine.backward(self._run) if back else engine.forward(self._run)
            result = self._apart(flow)
            return result if isinstance(result, Result) else Result.PAUSED
        finally:
            self._beating.set()
            heart.join(timeout=0.0 if self._halted else self._ttl)

    def _apart(self, flow: engine.Engine[Any]) -> Any:
        """Perform in a thread of its own, so that this one hears signals at once: Python's
        handlers do not run while the main thread waits for a platform's answer."""
        ended: list[Any] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                ended.append(self._perform(flow))
            except BaseException as error:  # handed to the caller below, never swallowed
                failed.append(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join()
        if failed:
            raise failed[0]
        return ended[0]

    def _perform(self, flow: engine.Engine[Any]) -> Any:
        answer: Any = None
        while True:
            try:
                effect = flow.send(answer)
            except StopIteration as end:
                return end.value
            answer = self._do(effect)

    def _do(self, effect: engine.Effect) -> Any:
        if self._halted:
            raise Halted
        self._not_lost()
        match effect:
            case engine.Append(kind, data):
                return self._append(kind, data)
            case engine.End(kind, data):
                return self._end(kind, data)
            case engine.Snapshot(spec):
                return self._snapshot(spec)
            case engine.Holds(spec, snapshot, undo):
                return self._holds(spec, snapshot, undo)
            case engine.Still(spec, snapshot):
                return self._still(spec, snapshot)
            case engine.Guard(spec, snapshot, undo):
                return self._guard(spec, snapshot, undo)
            case engine.CheckFence(needs):
                return self._check_fence(needs)
            case engine.Apply(spec, snapshot, undo):
                return self._apply(spec, snapshot, undo)
            case engine.Wait(seconds):
                return self._wait(seconds)
            case engine.Clock():
                return self._hands.runtime.monotonic()
            case engine.Branches(engines):
                return self._hands.runtime.each(self._perform, engines, len(engines))

    # --- the journal -------------------------------------------------------------------------

    def _append(self, kind: str, data: Json) -> None:
        record = self._renewing(lambda: self._hands.store.append(
            f"run:{self._run.id}", kind, data, actor=self._actor, lease=self._lease))
        self._watcher.event(record)

    def _end(self, kind: str, data: Json) -> None:
        if kind == "run.succeeded":
            exceptions = fold(self._records()).exceptions()
            if exceptions:
                kind, data = "run.succeeded_with_exceptions", {"exceptions": exceptions}
        record = self._hands.store.end_run(self._lease, kind, data, actor=self._actor)
        self._watcher.event(record)

    def _records(self) -> Sequence[Record]:
        return self._hands.store.read(f"run:{self._run.id}")

    # --- the lease ---------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        """Listen every second for a stop, and for whoever takes the run from us; renew every
        `1 / BEATS` of the lease."""
        runtime, store = self._hands.runtime, self._hands.store
        renewed = runtime.monotonic()
        while not self._beating.wait(1.0):
            try:
                records = self._records()
                if fold(records).stop_requested:
                    self._stop = True
                taken = any(record.fence > self._lease.fence for record in records)
                if taken or runtime.monotonic() - renewed >= self._ttl / BEATS:
                    self._renewing(lambda: store.renew(self._lease, self._ttl))
                    renewed = runtime.monotonic()
            except Fenced as error:
                self._lost = error
                return
            except StoreError:
                # Not lost for certain: the next durable write or fence check decides.
                continue

    def _check_fence(self, needs: float) -> None:
        self._not_lost()
        # A step that takes longer than a short lease asks again before each of its writes.
        needs = min(needs, self._ttl * LONGEST_STEP)
        before = self._hands.runtime.monotonic()
        # It need not have been renewed: what is left of it is what counts.
        left = self._hands.store.check_fence(self._lease, needs)
        self._until = max(self._until, before + left)

    def _not_lost(self) -> None:
        """Raises Fenced once the heartbeat has been told so: nobody waits on for nothing."""
        if self._lost is not None:
            raise self._lost

    def _renewing(self, call: Callable[[], T]) -> T:
        """A call that renews the lease. Counted from before it: the store's clock began later."""
        before = self._hands.runtime.monotonic()
        result = call()
        self._until = max(self._until, before + self._ttl)
        return result

    def _may_write(self, seconds: float) -> None:
        """Before every attempt of a call that may take so long: by our own clock it ends within
        the lease. The store is asked again when it would not. Raises Fenced or StoreError."""
        monotonic, needs = self._hands.runtime.monotonic, min(seconds, self._ttl * LONGEST_CALL)
        if self._lost is None and self._until - monotonic() >= needs:
            return
        self._check_fence(needs)
        if self._until - monotonic() < needs:
            raise Fenced(f"the store took so long to answer that too little of the lease of "
                         f"{self._ttl:g} s is left", where=f"run {self._run.id}",
                         not_done="the call was not made",
                         hint=f"ccfailover status, then ccfailover resume {self._run.id}")

    # --- the world ---------------------------------------------------------------------------

    def _step(self, spec: StepSpec) -> Step:
        """One object per step and process, so that `verify` can count readings in a row."""
        if spec.id not in self._steps:
            hands, run = self._hands, self._run
            context = StepContext(
                run=run.id, key=f"{run.id}/{spec.id}", mode=run.plan.mode, plan=run.plan,
                policy=hands.policy, levers=hands.levers, store=hands.store,
                runtime=hands.runtime, stop=lambda: self._stop,
                progress=lambda done, total, note: self._watcher.progress(
                    spec.id, done, total, note),
                check_fence=lambda: self._check_fence(spec.timeout),
                site_state=hands.site_state, observe=hands.observe, records=self._records,
                lease=self._lease, fan_out=hands.fan_out,
            )
            self._steps[spec.id] = hands.make_step(spec, context)
        return self._steps[spec.id]

    def _snapshot(self, spec: StepSpec) -> Snapped:
        try:
            return Snapped(self._step(spec).snapshot())
        except StoreError:
            raise
        except (ProviderError, Refused, *_OTHERS) as error:
            return Snapped(error=str(error))

    def _holds(self, spec: StepSpec, snapshot: Json, undo: bool) -> Observed:
        try:
            step = self._step(spec)
            return step.undo_holds(snapshot) if undo else step.holds(snapshot)
        except StoreError:
            raise
        except (ProviderError, *_OTHERS) as error:
            return Observed(Truth.UNKNOWN, f"cannot be read back: {error}")
        except Refused as error:
            return Observed(Truth.NO, str(error), final=True)

    def _still(self, spec: StepSpec, snapshot: Json) -> Observed:
        try:
            return self._step(spec).still(snapshot)
        except CcfError as error:
            # What cannot be read now is no proof of anything; the steps to come will tell.
            return Observed(Truth.UNKNOWN, f"cannot be read back: {error}")

    def _guard(self, spec: StepSpec, snapshot: Json, undo: bool) -> Guarded:
        """Guards that cannot be judged stop the step: they fail closed."""
        try:
            step = self._step(spec)
            moves = step.undo_moves(snapshot) if undo else step.moves(snapshot)
            found = self._hands.guard(self._run, moves) if moves else ()
        except StoreError:
            raise
        except (ProviderError, Refused, *_OTHERS) as error:
            return Guarded(f"the guards cannot be judged: {error}")
        stops = [finding.sentence for finding in found if finding.level in ("hard", "soft")]
        return Guarded("; ".join(stops) or None, tuple(finding.to_json() for finding in found))

    def _apply(self, spec: StepSpec, snapshot: Json, undo: bool) -> Applied:
        if self._run.plan.mode is Mode.SHADOW:
            raise Refused("a shadow drill writes nothing", guard="drill", where=spec.id)
        try:
            step = self._step(spec)
            finished = step.undo(snapshot) if undo else step.apply(snapshot)
        except (Fenced, StoreError):
            raise
        except (Rejected, Refused, *_OTHERS) as error:
            return Applied(error=str(error), permanent=True)
        except ProviderError as error:
            return Applied(error=str(error))
        return Applied(more=not finished)

    def _wait(self, seconds: float) -> bool:
        """Sleep in short pieces, so that a stop is heard within a quarter of a second.

        Raises Fenced when the heartbeat has found the lease lost: there is nothing to wait for."""
        runtime = self._hands.runtime
        end = runtime.monotonic() + seconds
        while not self._stop and (left := end - runtime.monotonic()) > 0:
            runtime.sleep(min(0.25, left))
            self._not_lost()
        return self._stop
