"""Every kind of effect that the engine yields: dropped, performed twice, swapped with the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ccfailover.runbooks import engine
from ccfailover.runbooks.engine import Applied, Guarded, Result, Snapped
from ccfailover.runbooks.step import Observed, Truth
from tests.simulation.mutants.parts import Mutant, Wanted, drop, duplicate, swap

APPENDED = ("step.started", "step.observed", "step.succeeded", "step.failed", "branch.paused",
            "branch.aborted", "undo.started", "undo.succeeded", "undo.failed", "run.paused",
            "run.stuck", "step.guarded", "step.holding", "step.backing_off")
ENDED = ("run.succeeded", "run.rolled_back", "run.aborted")


def said(*names: str) -> Wanted:
    return lambda effect: isinstance(effect, engine.Append | engine.End) and effect.kind in names


def a(wanted: type, **having: Any) -> Wanted:
    return lambda effect: isinstance(effect, wanted) and all(
        getattr(effect, name) == value for name, value in having.items())


def polls(effect: Any) -> bool:
    return isinstance(effect, engine.Wait) and effect.seconds > 0


def done(effect: engine.Branches) -> list[Result]:
    return [Result.DONE] * len(effect.engines)


OTHERS: tuple[tuple[str, Wanted, Callable[[Any], Any]], ...] = (
    ("a snapshot", a(engine.Snapshot), lambda effect: Snapped(None)),
    ("a look whether a step holds", a(engine.Holds, undo=False),
     lambda effect: Observed(Truth.YES, "not looked")),
    ("a look whether an undo holds", a(engine.Holds, undo=True),
     lambda effect: Observed(Truth.YES, "not looked")),
    ("a look whether what was done still holds", a(engine.Still),
     lambda effect: Observed(Truth.YES, "not looked")),
    ("a question to the guards", a(engine.Guard), lambda effect: Guarded()),
    ("a check of the fence", a(engine.CheckFence), lambda effect: None),
    ("an apply", a(engine.Apply, undo=False), lambda effect: Applied()),
    ("an undo", a(engine.Apply, undo=True), lambda effect: Applied()),
    ("a question whether to stop", a(engine.Wait, seconds=0), lambda effect: False),
    ("a wait between two looks", polls, lambda effect: False),
    ("a look at the clock", a(engine.Clock), lambda effect: 0.0),
    ("the branches", a(engine.Branches), done),
)

EQUIVALENT = {
    "a look whether an undo holds is done twice":
        "a look changes nothing, and the second is as good as the first",
    "a look whether what was done still holds is done twice":
        "a look changes nothing, and the second is as good as the first",
    "a check of the fence is done twice":
        "it renews the lease twice; nobody acts between the two",
    "a question whether to stop is done twice":
        "the answer can only turn to yes, and then both are right",
    "a wait between two looks is done twice": "it polls half as often",
    "a look at the clock is done twice": "the second is a moment later",
    "a question to the guards is done twice":
        "the second answer is a moment younger, and it is the one that counts",
    "'step.started' is swapped with what comes next":
        "the clock comes next: it is written before anything is done outside",
    "'undo.started' is swapped with what comes next":
        "the clock comes next: it is written before anything is done outside",
    "'step.backing_off' is swapped with what comes next":
        "the clock comes next: it is written before anything is done outside",
    "'step.holding' is swapped with what comes next":
        "it waits a moment first, and then says so",
    "'undo.failed' is swapped with what comes next":
        "it is the last effect of its branch: nothing comes next",
    "'run.paused' is swapped with what comes next":
        "it is the last effect of the run: nothing comes next",
    "'run.stuck' is swapped with what comes next":
        "it is the last effect of the run: nothing comes next",
    "'run.succeeded' is swapped with what comes next":
        "it is the last effect of the run: nothing comes next",
    "'run.rolled_back' is swapped with what comes next":
        "it is the last effect of the run: nothing comes next",
    "'run.aborted' is swapped with what comes next":
        "it is the last effect of the run: nothing comes next",
    "the branches is done twice": "a branch that has ended does nothing the second time",
}


def mutants() -> Iterator[Mutant]:
    kinds: list[tuple[str, Wanted, Callable[[Any], Any]]] = [
        (f"{name!r}", said(name), lambda effect: None) for name in (*APPENDED, *ENDED)]
    for what, wanted, answer in (*kinds, *OTHERS):
        for how, flows in (("is dropped", drop(wanted, answer)),
                           ("is done twice", duplicate(wanted)),
                           ("is swapped with what comes next", swap(wanted, answer))):
            name = f"{what} {how}"
            yield Mutant(name, flows, equivalent=EQUIVALENT.get(name, ""))
    yield Mutant("what was not looked at is taken for undone work", drop(
        a(engine.Holds, undo=False), lambda effect: Observed(Truth.NO, "not looked")))
