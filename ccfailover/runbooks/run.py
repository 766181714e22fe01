"""Journal → state of a run. Folded every time, never stored; pure.

A run's stream (`run:<id>`) holds these kinds:

    run.planned  run.started  run.resumed  run.paused  run.superseded  lease.stolen  note
    step.started  step.observed  step.succeeded  step.failed  step.skipped  step.rehearsed
    step.guarded  step.holding  step.backing_off  override.given
    branch.paused  branch.aborted
    rollback.started  undo.started  undo.succeeded  undo.failed  run.stuck
    confirmation.given  approval.given  approval.declined  stop.requested
    run.succeeded  run.succeeded_with_exceptions  run.aborted  run.rolled_back   (these end it)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from ccfailover.errors import StoreError
from ccfailover.model.journal import Record
from ccfailover.model.plan import Json, OnFailure, Plan, StepSpec


class RunState(str, Enum):
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    ROLLING_BACK = "rolling_back"
    STUCK = "stuck"
    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_EXCEPTIONS = "succeeded_with_exceptions"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"

    @property
    def is_open(self) -> bool:
        """An open run keeps its scope: nothing else starts there."""
        return self in _OPEN


_OPEN = frozenset({RunState.PLANNED, RunState.RUNNING, RunState.PAUSED, RunState.INTERRUPTED,
                   RunState.ROLLING_BACK, RunState.STUCK})

ENDINGS = {
    "run.succeeded": RunState.SUCCEEDED,
    "run.succeeded_with_exceptions": RunState.SUCCEEDED_WITH_EXCEPTIONS,
    "run.rolled_back": RunState.ROLLED_BACK,
    "run.aborted": RunState.ABORTED,
    "run.superseded": RunState.SUPERSEDED,
}

_PHASES = {
    "run.planned": RunState.PLANNED,
    "run.started": RunState.RUNNING,
    "run.resumed": RunState.RUNNING,
    "run.paused": RunState.PAUSED,
    "rollback.started": RunState.ROLLING_BACK,
    "run.stuck": RunState.STUCK,
    **ENDINGS,
}


class StepStatus(str, Enum):
    PENDING = "pending"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    REHEARSED = "rehearsed"
    UNDOING = "undoing"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"


@dataclass(frozen=True)
class StepRecord:
    """What the journal says of one step. `snapshot` is the first one, for ever.

    `truth` is the last word on its aim (`yes`, `no`, `unknown`); a step that is STARTED in a run
    that is no longer running is in doubt.
    """

    spec: StepSpec
    branch: str
    status: StepStatus = StepStatus.PENDING
    attempts: int = 0
    snapshot: Json = None
    has_snapshot: bool = False
    truth: str = ""
    reason: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)
    exceptions: tuple[str, ...] = ()
    vetoed: bool = False
    started_at: int | None = None
    ended_at: int | None = None
    tried: tuple[int, int] = (0, 0)
    """Number and instant (µs) of its last start."""
    begun: int = 0
    """Its first start's number in the journal: an order that no clock can turn round."""

    @property
    def touched(self) -> bool:
        """Something may have been done, so that a rollback has to look at it."""
        return self.has_snapshot and self.status not in (StepStatus.PENDING, StepStatus.UNDONE,
                                                         StepStatus.REHEARSED)


@dataclass(frozen=True)
class Run:
    """A run as its journal tells it. `phase` does not know of crashes: see `state`.

    `inherited` are the moves of the runs that this one superseded, and of those before them:
    where a rollback has to go back to. `back` is the direction it was last going. `overrides`
    are those of the plan and those given since; `automatic`: no person set it going last.
    """

    id: str
    plan: Plan
    phase: RunState
    steps: Mapping[str, StepRecord]
    planned_at: int
    started_at: int | None
    ended_at: int | None
    requester: str
    context: Mapping[str, Json]
    notes: tuple[str, ...]
    stop_requested: bool
    head: tuple[int, str]
    back: bool = False
    inherited: Mapping[str, StepRecord] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    automatic: bool = False
    since: tuple[int, int] = (0, 0)
    """Number and instant (µs) of the event that brought it into its phase."""
    last_sign: tuple[int, int] = (0, 0)
    """The same of the last event by somebody who carried it; people's words do not count."""

    def state(self, alive: bool | None) -> RunState:
        """`alive`: whether the lease's holder lives; a phase that needs one without it is
        interrupted. None (cannot tell) is given the benefit of its unexpired lease."""
        needs_holder = self.phase in (RunState.RUNNING, RunState.ROLLING_BACK, RunState.PLANNED)
        return RunState.INTERRUPTED if needs_holder and alive is False else self.phase

    @property
    def rolling_back(self) -> bool:
        """Whether the last direction was back: a resume of an interrupted rollback goes on back.

        A branch that its recipe undid does not turn the run round: the others go on forward.
        """
        return self.back

    def exceptions(self) -> list[str]:
        """Why this run must not be called plainly succeeded."""
        out = [f"{guard} overridden: {why}" for guard, why in self.overrides.items()]
        for step in self.steps.values():
            if step.status is StepStatus.SKIPPED:
                out.append(f"{step.spec.id} skipped: {step.reason}")
            elif (step.status is StepStatus.FAILED
                    and step.spec.on_failure is OnFailure.CONTINUE):
                out.append(f"{step.spec.id} failed and was passed over: {step.reason}")
            out.extend(f"{step.spec.id}: {text}" for text in step.exceptions)
        return out

    def problems(self) -> list[StepRecord]:
        """Steps that stopped their branch, in plan order."""
        return [s for s in (*self.steps.values(), *self.inherited.values())
                if s.status in (StepStatus.FAILED, StepStatus.STARTED, StepStatus.UNDO_FAILED)]

    def first_moves(self) -> dict[str, StepRecord]:
        """The first move of each lever that may still be in effect, and every move of items,
        inherited ones included, in the order in which they were first begun."""
        def key(step: StepRecord) -> str:
            return step.spec.lever or step.spec.id

        found = {key(step): step for step in self.inherited.values() if step.touched}
        mine = [step for step in self.steps.values() if step.snapshot is not None]
        moved = {key(step) for step in mine if step.touched}
        for step in sorted(mine, key=lambda step: step.begun):
            if key(step) in moved:
                found.setdefault(key(step), step)
        return found


def _inherit(earlier: Sequence[Run]) -> dict[str, StepRecord]:
    """What is left to a successor, under names of its own: `r3-1f2e:loan_calls/1-shift_route`."""
    left = {}
    for run in earlier:
        for step in run.first_moves().values():
            name = step.spec.id if ":" in step.spec.id else f"{run.id}:{step.spec.id}"
            left[name] = replace(step, spec=replace(step.spec, id=name),
                                 status=StepStatus.SUCCEEDED)
    return left


def fold(records: Sequence[Record], *earlier: Run) -> Run:
    """The run that these records tell; `earlier` are the runs that it superseded, oldest first.

    Raises StoreError when they do not begin with a plan.
    """
    if not records or records[0].kind != "run.planned":
        raise StoreError("the run's journal does not begin with its plan",
                         where=records[0].stream if records else None,
                         hint="ccfailover journal verify")
    first = records[0]
    plan = Plan.from_json(first.data["plan"])
    steps = {spec.id: StepRecord(spec, branch.name)
             for branch in plan.all_branches() for spec in branch.steps}
    inherited = _inherit(earlier)
    phase, started, ended = RunState.PLANNED, None, None
    context: Mapping[str, Json] = {}
    notes: list[str] = []
    overrides = dict(plan.overrides)
    stop = back = automatic = False
    since = last_sign = (0, 0)
    for record in records:
        kind = record.kind
        last_sign = (record.seq, record.at) if record.fence else last_sign
        if kind in _PHASES and not (ended and kind != "run.superseded"):
            phase, since = _PHASES[kind], (record.seq, record.at)
        if kind in ("run.started", "run.resumed", "rollback.started"):
            # A stop that was asked for before the first step is meant for this very start.
            stop, back = stop and kind == "run.started", kind == "rollback.started"
            automatic = bool((record.data.get("context") or {}).get("automatic"))
            if kind == "run.started" and started is None:
                started, context = record.at, record.data.get("context", {})
        elif kind in ENDINGS:
            ended = record.at
        elif kind == "stop.requested":
            stop = True
        elif kind == "override.given":
            overrides[str(record.data["guard"])] = str(record.data["reason"])
        elif kind == "note":
            notes.append(str(record.data.get("text", "")))
        name = record.data.get("step")
        if isinstance(name, str) and name in steps:
            steps[name] = _step(steps[name], record)
        elif isinstance(name, str) and name in inherited:
            inherited[name] = _step(inherited[name], record)
    last = records[-1]
    return Run(
        id=first.stream.removeprefix("run:"), plan=plan, phase=phase, steps=steps,
        planned_at=first.at, started_at=started, ended_at=ended, requester=first.actor,
        context=context, notes=tuple(notes), stop_requested=stop, head=(last.seq, last.hash),
        back=back, inherited=inherited, overrides=overrides, automatic=automatic,
        since=since, last_sign=last_sign,
    )


def _step(step: StepRecord, record: Record) -> StepRecord:
    data = record.data
    match record.kind:
        case "step.started":
            kept = step.snapshot if step.has_snapshot else data.get("snapshot")
            return replace(step, status=StepStatus.STARTED, attempts=step.attempts + 1,
                           snapshot=kept, has_snapshot=True, ended_at=None,
                           started_at=step.started_at or record.at,
                           begun=step.begun or record.seq, tried=(record.seq, record.at))
        case "step.observed":
            return replace(step, truth=data.get("truth", ""), reason=data.get("detail", ""))
        case "step.succeeded":
            return replace(step, status=StepStatus.SUCCEEDED, truth="yes", ended_at=record.at,
                           reason=data.get("detail", ""), data=data.get("data") or {},
                           exceptions=tuple(data.get("exceptions", ())))
        case "step.rehearsed":
            return replace(step, status=StepStatus.REHEARSED, truth=data.get("truth", ""),
                           ended_at=record.at, reason=data.get("detail", ""),
                           data={"guards": data["guards"]} if data.get("guards") else {},
                           exceptions=(f"not rehearsed: {data['unreadable']}",)
                           if data.get("unreadable") else (),
                           started_at=step.started_at or record.at)
        case "step.failed":
            return replace(step, status=StepStatus.FAILED, truth=data.get("truth", ""),
                           reason=data.get("reason", ""), ended_at=record.at,
                           vetoed=bool(data.get("veto")))
        case "step.skipped" if step.status in (StepStatus.UNDOING, StepStatus.UNDO_FAILED):
            # What could not be undone stays as it is, and the rollback goes on without it.
            return replace(step, status=StepStatus.UNDONE, ended_at=record.at,
                           exceptions=(f"not undone, skipped: {data.get('reason', '')}",))
        case "step.skipped":
            return replace(step, status=StepStatus.SKIPPED, reason=data.get("reason", ""),
                           ended_at=record.at)
        case "undo.started":
            return replace(step, status=StepStatus.UNDOING)
        case "undo.succeeded":
            return replace(step, status=StepStatus.UNDONE, reason=data.get("detail", ""),
                           exceptions=tuple(data.get("exceptions", ())), ended_at=record.at)
        case "undo.failed":
            return replace(step, status=StepStatus.UNDO_FAILED, reason=data.get("reason", ""),
                           truth=data.get("truth", ""), ended_at=record.at)
    return step
