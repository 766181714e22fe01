"""What mutants are made with: a broken part in the place of a sound one, and nothing patched."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from ccfailover.runbooks import engine
from ccfailover.runbooks.step import Step
from ccfailover.simulation.engine_sim import Flows
from ccfailover.wiring.kinds import step_class

Effects = Generator[Any, Any, Any]
Tamper = Callable[[Effects], Effects]
Wanted = Callable[[Any], bool]
StepKinds = Callable[[str], type[Step]]


@dataclass(frozen=True)
class Mutant:
    """One planted bug. `name` says what is wrong with it, as a sentence. `equivalent` says why it
    breaks no promise: such a one does not count, and must not be caught."""

    name: str
    flows: Flows = field(default_factory=Flows)
    kinds: StepKinds = step_class
    equivalent: str = ""


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


def drop(wanted: Wanted, answer: Callable[[Any], Any]) -> Flows:
    """The effect is not performed; the engine gets `answer` of it."""
    def tamper(flow: Effects) -> Effects:
        reply: Any = None
        while True:
            try:
                effect = flow.send(reply)
            except StopIteration as end:
                return end.value
            reply = answer(effect) if wanted(effect) else (yield effect)

    return everywhere(tamper)


def duplicate(wanted: Wanted) -> Flows:
    """The effect is performed twice; the engine gets the second answer."""
    def tamper(flow: Effects) -> Effects:
        reply: Any = None
        while True:
            try:
                effect = flow.send(reply)
            except StopIteration as end:
                return end.value
            reply = yield effect
            if wanted(effect):
                again = yield effect
                reply = reply if isinstance(effect, engine.Branches) else again

    return everywhere(tamper)


def swap(wanted: Wanted, answer: Callable[[Any], Any]) -> Flows:
    """The effect is performed after the next one; until then the engine has `answer` of it."""
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
            if not kept and wanted(effect):
                kept.append(effect)
                reply = answer(effect)
                continue
            reply = yield effect
            for held in kept:
                yield held
            kept = []

    return everywhere(tamper)


def answered(wanted: Wanted, change: Callable[[Any, Any], Any]) -> Flows:
    """The effect is performed, and the engine gets something else than its answer."""
    def tamper(flow: Effects) -> Effects:
        reply: Any = None
        while True:
            try:
                effect = flow.send(reply)
            except StopIteration as end:
                return end.value
            reply = yield effect
            if wanted(effect):
                reply = change(effect, reply)

    return everywhere(tamper)


def changed(wanted: Wanted, change: Callable[[Any], Any]) -> Flows:
    """Another effect is performed in its place."""
    def tamper(flow: Effects) -> Effects:
        reply: Any = None
        while True:
            try:
                effect = flow.send(reply)
            except StopIteration as end:
                return end.value
            reply = yield change(effect) if wanted(effect) else effect

    return everywhere(tamper)


def step(name: str, change: Callable[[type[Any]], type[Step]]) -> StepKinds:
    """The kinds of steps, `change`d where they are called `name` (`a|b`: both)."""
    made: dict[str, type[Step]] = {}

    def kinds(kind: str) -> type[Step]:
        if kind not in name.split("|"):
            return step_class(kind)
        if kind not in made:
            made[kind] = change(step_class(kind))
        return made[kind]

    return kinds


LEVERS = "shift_route|redirect_intake"
