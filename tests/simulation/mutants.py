"""Broken engines and drivers, planted to see that the simulator's judge notices."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from typing import Any

from ccfailover.runbooks import engine
from ccfailover.runbooks.drive import Driver
from ccfailover.runbooks.run import Run, StepStatus
from ccfailover.runbooks.step import Observed, Step, Truth
from ccfailover.simulation.engine_sim import Flows
from ccfailover.wiring.kinds import step_class

Effects = Generator[Any, Any, Any]
Tamper = Callable[[Effects], Effects]


def nested(flow: Effects, tamper: Tamper) -> Effects:
    """`tamper` of a flow and of every branch within it."""
    def inside() -> Effects:
        answer: Any = None
        while True:
            try:
                effect = flow.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(effect, engine.Branches):
                effect = engine.Branches(tuple(nested(each, tamper) for each in effect.engines))
            answer = yield effect

    return tamper(inside())


def everywhere(tamper: Tamper) -> Flows:
    return Flows(lambda run: nested(engine.forward(run), tamper),
                 lambda run: nested(engine.backward(run), tamper))


def drop(wanted: Callable[[Any], bool], answer: Any = None) -> Flows:
    """The effect is not performed; the engine gets `answer`."""
    def tamper(flow: Effects) -> Effects:
        reply: Any = None
        while True:
            try:
                effect = flow.send(reply)
            except StopIteration as end:
                return end.value
            reply = answer if wanted(effect) else (yield effect)

    return everywhere(tamper)


def duplicate(wanted: Callable[[Any], bool]) -> Flows:
    def tamper(flow: Effects) -> Effects:
        reply: Any = None
        while True:
            try:
                effect = flow.send(reply)
            except StopIteration as end:
                return end.value
            reply = yield effect
            if wanted(effect):
                yield effect

    return everywhere(tamper)


def late(wanted: Callable[[Any], bool], until: type) -> Flows:
    """The effect is performed only after the next effect of the kind `until`."""
    def tamper(flow: Effects) -> Effects:
        reply: Any = None
        kept: list[Any] = []
        while True:
            try:
                effect = flow.send(reply)
            except StopIteration as end:
                for held in kept:
                    yield held
                return end.value
            if wanted(effect):
                kept.append(effect)
                reply = None
                continue
            reply = yield effect
            if kept and isinstance(effect, until):
                for held in kept:
                    yield held
                kept = []

    return everywhere(tamper)


def kind(*names: str) -> Callable[[Any], bool]:
    return lambda effect: isinstance(effect, engine.Append | engine.End) and effect.kind in names


def a(wanted: type) -> Callable[[Any], bool]:
    return lambda effect: isinstance(effect, wanted)


def forgetful(run: Run) -> Run:
    """A resume that takes its snapshots anew."""
    return replace(run, steps={name: replace(step, has_snapshot=False, snapshot=None)
                               if step.status in (StepStatus.STARTED, StepStatus.FAILED) else step
                               for name, step in run.steps.items()})


def hasty(run: Run) -> Run:
    """A resume that repeats what is in doubt without a look."""
    return replace(run, steps={name: replace(step, status=StepStatus.FAILED)
                               if step.status is StepStatus.STARTED else step
                               for name, step in run.steps.items()})


def reversed_plan(run: Run) -> Run:
    """A rollback that goes forwards."""
    plan = run.plan
    return replace(run, plan=replace(plan, branches=tuple(
        replace(branch, steps=branch.steps[::-1]) for branch in plan.branches)))


def orphaned(run: Run) -> Run:
    """A rollback that knows nothing of the run that its own superseded."""
    return replace(run, inherited={})


def trusting(flow: Effects) -> Effects:
    """Whoever applied without an error has succeeded: "200 OK" is believed."""
    reply: Any = None
    believed: str | None = None
    while True:
        try:
            effect = flow.send(reply)
        except StopIteration as end:
            return end.value
        if isinstance(effect, engine.Holds) and effect.step.id == believed:
            reply = Observed(Truth.YES, "200 OK")
            continue
        reply = yield effect
        if isinstance(effect, engine.Apply) and reply.error is None and not reply.more:
            believed = effect.step.id


class Fearless(Driver):
    """Goes on when the lease is gone."""

    def _check_fence(self, needs: float) -> None:
        del needs


class Unfenced(Driver):
    """Writes its journal whether or not it owns the run."""

    def _append(self, kind: str, data: Any) -> None:
        self._hands.store.append(f"run:{self._run.id}", kind, data, actor=self._actor)


def careless(name: str) -> type[Step]:
    """Steps that do not ask whether a site is down."""
    found = step_class(name)
    if name not in ("shift_route", "redirect_intake"):
        return found

    class Careless(found):  # type: ignore[valid-type,misc]
        def _raised(self, now: Any, to: Any) -> Iterable[str]:
            return []

    return Careless


def hard_headed(name: str) -> type[Step]:
    """Steps whose undo sets the last shares again."""
    found = step_class(name)
    if name != "shift_route":
        return found

    class HardHeaded(found):  # type: ignore[valid-type,misc]
        def undo_holds(self, snapshot: Any) -> Observed:
            return Observed(Truth.YES, "surely")

    return HardHeaded



ENGINES: dict[str, Flows] = {
    "the start of a step is not written": drop(kind("step.started")),
    "the success of a step is not written": drop(kind("step.succeeded")),
    "the failure of a step is not written": drop(kind("step.failed")),
    "the start of an undo is not written": drop(kind("undo.started")),
    "the success of an undo is not written": drop(kind("undo.succeeded")),
    "the end is not written": drop(kind("run.succeeded", "run.rolled_back", "run.aborted")),
    "the pause is not written": drop(kind("run.paused")),
    "the fence is not checked": drop(a(engine.CheckFence)),
    "nothing is applied": drop(a(engine.Apply), engine.Applied()),
    "the start of a step is written twice": duplicate(kind("step.started")),
    "the success of a step is written twice": duplicate(kind("step.succeeded")),
    "the start is written after the deed": late(kind("step.started"), engine.Apply),
    "the success is written after the next start": late(kind("step.succeeded"), engine.Snapshot),
    "the fence is checked after the deed": late(a(engine.CheckFence), engine.Apply),
    "200 OK is believed": everywhere(trusting),
    "a resume takes a new snapshot": Flows(lambda run: engine.forward(forgetful(run))),
    "a resume repeats without a look": Flows(lambda run: engine.forward(hasty(run))),
    "undo goes forwards": Flows(backward=lambda run: engine.backward(reversed_plan(run))),
    "undo forgets what it superseded": Flows(
        backward=lambda run: engine.backward(orphaned(run))),
    "a lost lease is no obstacle": Flows(driver=Fearless),
    "the journal is open to everybody": Flows(driver=Unfenced),
}

STEPS: dict[str, Callable[[str], type[Step]]] = {
    "work is sent to a dead site": careless,
    "an undo believes itself": hard_headed,
}
