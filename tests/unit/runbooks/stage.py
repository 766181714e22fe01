"""A scripted performer: plays the world to an engine, without threads, clocks or platforms."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ccfailover.errors import Fenced
from ccfailover.model.journal import Record
from ccfailover.model.plan import Branch, Mode, OnFailure, Plan, StepSpec
from ccfailover.runbooks import engine
from ccfailover.runbooks.engine import Applied, Guarded, Result, Snapped
from ccfailover.runbooks.run import Run, fold
from ccfailover.runbooks.step import Observed, Truth

YES = Observed(Truth.YES, "it is so")
NO = Observed(Truth.NO, "it is not so")
UNKNOWN = Observed(Truth.UNKNOWN, "cannot be read back")


def spec(name: str, *, lever: str = "", on_failure: OnFailure = OnFailure.PAUSE,
         deadline: float = 10.0, **params: Any) -> StepSpec:
    return StepSpec(id=name, kind="test", params=params, title=f"do {name}", deadline=deadline,
                    timeout=2.0, poll=1.0, lever=lever, on_failure=on_failure)


def plan(*branches: Branch, before: Sequence[StepSpec] = (), after: Sequence[StepSpec] = (),
         mode: Mode = Mode.REAL, **others: Any) -> Plan:
    told: dict[str, Any] = {
        "runbook": "full_failover", "subject": "hq", "mode": mode, "policy_name": "p",
        "policy_sha256": "0" * 64, "reason": "test", "before": Branch("before", tuple(before)),
        "branches": branches, "after": Branch("after", tuple(after)), "scopes": ("queue:q",),
        "shares_before": {"q": {"hq": 100}}, "shares_after": {"q": {"acme": 100}},
        "findings": (), "basis": {"request": {}, "states": {"hq": "down"}},
    }
    return Plan(**{**told, **others})


@dataclass
class Journal:
    """Records in memory, as a store would hand them out."""

    run: str = "r1-0000"
    records: list[Record] = field(default_factory=list)

    def write(self, kind: str, data: dict[str, Any]) -> None:
        seq = len(self.records) + 1
        self.records.append(Record(f"run:{self.run}", seq, seq * 1_000_000, 1, "kim@host[1]", kind,
                                   data, f"h{seq - 1}", f"h{seq}"))

    def kinds(self) -> list[str]:
        return [record.kind for record in self.records]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [dict(record.data) for record in self.records if record.kind == kind]

    def fold(self, *earlier: Run) -> Run:
        return fold(self.records, *earlier)


class Stage:
    """Performs effects one after the other. `log` is what was asked, in order, as short words.

    `holds[name]` and `applies[name]` are queues of answers; the last one stays for ever. Steps
    that nobody scripted have done their work after one apply. `~name` scripts an undo.
    """

    def __init__(self, plan_: Plan, journal: Journal | None = None,
                 earlier: tuple[Run, ...] = ()) -> None:
        self.journal = journal or Journal()
        if not self.journal.records:
            self.journal.write("run.planned", {"plan": plan_.to_json()})
        self.earlier = earlier
        self.log: list[str] = []
        self.snapshots: dict[str, Any] = {}
        self.seen_snapshots: dict[str, Any] = {}
        self.holds: dict[str, deque[Observed]] = {}
        self.applies: dict[str, deque[Applied]] = {}
        self.done: set[str] = set()
        self.clock = 0.0
        self.waited: list[float] = []
        self.stop_after: int | None = None
        self.fence_fails = False
        self.gone: set[str] = set()
        self.guards: dict[str, Guarded] = {}
        self.die_at: Callable[[str], bool] = lambda word: False

    def forward(self) -> Result | None:
        self.journal.write("run.started", {})
        return self.play(engine.forward(self.journal.fold(*self.earlier)))

    def backward(self) -> Result | None:
        self.journal.write("rollback.started", {})
        return self.play(engine.backward(self.journal.fold(*self.earlier)))

    def play(self, flow: engine.Engine[Any]) -> Any:
        """To its end; None when it was made to die (its generator is just dropped)."""
        try:
            return self._play(flow)
        except Dead:
            return None

    def _play(self, flow: engine.Engine[Any]) -> Any:
        answer: Any = None
        while True:
            try:
                effect = flow.send(answer)
            except StopIteration as end:
                return end.value
            answer = self._do(effect)

    def _do(self, effect: engine.Effect) -> Any:
        word = _word(effect)
        if word:
            self.log.append(word)
        if self.die_at(word):
            raise Dead
        match effect:
            case engine.Append(kind, data) | engine.End(kind, data):
                self.journal.write(kind, dict(data))
            case engine.Snapshot(step):
                found = self.snapshots.get(step.id, {"was": step.id})
                return found if isinstance(found, Snapped) else Snapped(found)
            case engine.Holds(step, snapshot, undo):
                name = f"~{step.id}" if undo else step.id
                self.seen_snapshots[name] = snapshot
                return _next(self.holds.get(name), YES if name in self.done else NO)
            case engine.Still(step, _):
                return NO if step.id in self.gone else YES
            case engine.Guard(step, _, undo):
                return self.guards.get(f"~{step.id}" if undo else step.id, Guarded())
            case engine.CheckFence(_) if self.fence_fails:
                raise Fenced("somebody took it over")
            case engine.Apply(step, _, undo):
                name = f"~{step.id}" if undo else step.id
                self.done.add(name)
                return _next(self.applies.get(name), Applied())
            case engine.Wait(seconds):
                self.clock += seconds
                self.waited.append(seconds)
                return self.stop_after is not None and len(self.waited) > self.stop_after
            case engine.Clock():
                return self.clock
            case engine.Branches(engines):
                return [self._play(each) for each in engines]
        return None


class Dead(BaseException):
    """The process died here; no `except Exception` may notice it."""


def _next(row: deque[Any] | None, otherwise: Any) -> Any:
    if not row:
        return otherwise
    return row.popleft() if len(row) > 1 else row[0]


def _word(effect: engine.Effect) -> str:
    match effect:
        case engine.Append(kind, data) | engine.End(kind, data):
            step = data.get("step")
            return f"{kind} {step}" if step else kind
        case engine.Snapshot(step):
            return f"snapshot {step.id}"
        case engine.Holds(step, _, undo):
            return f"{'undo_holds' if undo else 'holds'} {step.id}"
        case engine.Apply(step, _, undo):
            return f"{'undo' if undo else 'apply'} {step.id}"
        case engine.Guard(step, _, undo):
            return f"guards {'~' if undo else ''}{step.id}"
        case engine.CheckFence(_):
            return "fence"
    return ""
