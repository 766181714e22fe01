"""Everything that a report says of a run, as data: from journal and ledger, and nothing else.

No policy file, no provider and no clock is asked: `made_at` and `alive` are given. So a report
can be made again years later, on another machine, from a copy of the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ccfailover.model.incident import Incident
from ccfailover.model.journal import Record
from ccfailover.model.plan import Finding, Json, Mode
from ccfailover.reports.objectives import Objective, objectives
from ccfailover.reports.words import clock
from ccfailover.reports.work import RECONCILED, Listed, Move, moves
from ccfailover.runbooks.run import Run, RunState, StepRecord, StepStatus, fold
from ccfailover.runtime import SECOND
from ccfailover.store import Store
from ccfailover.store.verify import verify_export

__all__ = ["Event", "Evidence", "Facts", "Header", "Listed", "Move", "Outcome", "QueueShares",
           "Said", "StepFacts", "gather"]


@dataclass(frozen=True)
class Said:
    """A note, a confirmation or an approval: who, when, what. `kind` is the event's."""

    kind: str
    at: int
    actor: str
    text: str


@dataclass(frozen=True)
class Header:
    """`drill` is true for every mode but real; a report of one says so on every page."""

    policy_name: str
    environment: str | None
    policy_sha256: str
    plan_hash: str
    run: str
    number: int | None
    runbook: str
    subject: str
    mode: str
    drill: bool
    reason: str
    requester: str
    host: str | None
    automatic: bool
    supersedes: tuple[str, ...]
    superseded_by: str | None
    consents: tuple[Said, ...]
    planned_at: int
    started_at: int | None
    ended_at: int | None
    made_at: int
    version: str
    cost_per_hour: str
    currency: str


@dataclass(frozen=True)
class Outcome:
    """`state` is never plainly `succeeded` when there is an exception. `seconds` run from the
    request to the end, or to the last event of a run that has not ended. `interruptions` counts
    how often the run was taken up again after its process had gone."""

    state: str
    ended: bool
    seconds: float
    exceptions: tuple[str, ...]
    open_points: tuple[str, ...]
    interruptions: int
    resumes: int


@dataclass(frozen=True)
class QueueShares:
    """`to` is where the plan wanted the queue; `moved` false: it was left where it is."""

    queue: str
    before: Mapping[str, int] | None
    to: Mapping[str, int]
    moved: bool


@dataclass(frozen=True)
class StepFacts:
    """`word` is the status for people; `observations` are looks at a step in doubt."""

    id: str
    branch: str
    kind: str
    title: str
    lever: str
    word: str
    truth: str
    said: str
    attempts: int
    started_at: int | None
    ended_at: int | None
    snapshot: Json
    data: Mapping[str, Json]
    exceptions: tuple[str, ...]
    observations: tuple[Said, ...]

    @property
    def seconds(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at) / SECOND


@dataclass(frozen=True)
class Event:
    """One journal event; `text` is its sentence, `hash` seals it and everything before."""

    seq: int
    at: int
    kind: str
    actor: str
    fence: int
    step: str
    text: str
    hash: str


@dataclass(frozen=True)
class Evidence:
    """`head` is (number, hash) of the last event of this run; `heads` are those, by stream, that
    bind all that was journaled when the report was made (see `Journal.proof`). `problems` is what
    verifying this run's chain found then."""

    store: str
    head: tuple[int, str]
    heads: Mapping[str, tuple[int, str]]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """`reconciliations` are what `transfer reconcile` found of this run, with who and when."""

    header: Header
    outcome: Outcome
    shares: tuple[QueueShares, ...]
    findings: tuple[Finding, ...]
    overrides: Mapping[str, str]
    objectives: tuple[Objective, ...]
    steps: tuple[StepFacts, ...]
    branches: tuple[str, ...]
    moves: tuple[Move, ...]
    reconciliations: tuple[Mapping[str, Json], ...]
    notes: tuple[Said, ...]
    events: tuple[Event, ...]
    evidence: Evidence
    incident: Incident | None = None


def gather(store: Store, run_id: str, *, made_at: int, alive: bool | None, version: str,
           incident: Incident | None = None) -> Facts:
    """The facts of one run. `alive`: whether somebody carries it now (see `Run.state`);
    `incident`: the one that it belongs to.

    Raises StoreError when the run's journal does not begin with its plan.
    """
    records = store.read(f"run:{run_id}")
    run = fold(records)
    state = run.state(alive) if run.phase.is_open else run.phase
    found = moves(run, store.items(run=run_id), pruned=any(
        run_id in each["runs"] for each in store.fact("ledger.pruned") or ()))
    steps = tuple(_step(step, state, records) for step in run.steps.values())
    plan = run.plan
    branches = {branch.name for branch in plan.branches}
    return Facts(
        header=_header(store, run, records, made_at, version),
        outcome=_outcome(run, state, records, steps, found),
        shares=tuple(QueueShares(name, plan.shares_before.get(name), dict(to), name in branches)
                     for name, to in plan.shares_after.items()),
        findings=plan.findings, overrides=dict(run.overrides),
        objectives=tuple(objectives(run)), steps=steps,
        branches=tuple(branch.name for branch in plan.all_branches() if branch.steps),
        moves=found, reconciliations=tuple(_reconciliations(store, run_id)),
        notes=tuple(_said(record, "text") for record in records if record.kind == "note"),
        events=tuple(_event(record) for record in records),
        evidence=Evidence(
            store=store.path, head=run.head,
            heads={**store.proof(), f"run:{run_id}": run.head},
            problems=tuple(verify_export(store.export([f"run:{run_id}"]), heads=[run.head[1]]))),
        incident=incident,
    )


def _header(store: Store, run: Run, records: Sequence[Record], made_at: int,
            version: str) -> Header:
    plan, first = run.plan, records[0]
    number = next((record.data.get("number") for record in store.read("runs")
                   if record.kind in ("run.created", "run.imported")
                   and record.data.get("run") == run.id), None)
    host = first.data.get("actor", {}).get("host") or run.context.get("host")
    return Header(
        policy_name=plan.policy_name, environment=plan.basis.get("environment"),
        policy_sha256=plan.policy_sha256, plan_hash=plan.hash, run=run.id, number=number,
        runbook=plan.runbook, subject=plan.subject, mode=plan.mode.value,
        drill=plan.mode is not Mode.REAL, reason=plan.reason, requester=run.requester, host=host,
        automatic=bool(run.context.get("automatic")), supersedes=plan.supersedes,
        superseded_by=next((str(record.data.get("by")) for record in records
                            if record.kind == "run.superseded"), None),
        consents=tuple(_consents(records, plan.hash)), planned_at=run.planned_at,
        started_at=run.started_at, ended_at=run.ended_at, made_at=made_at, version=version,
        cost_per_hour=plan.cost_per_hour, currency=str(plan.basis.get("currency") or ""),
    )


def _consents(records: Sequence[Record], plan: str) -> Iterator[Said]:
    for record in records:
        if record.kind in ("confirmation.given", "approval.given", "approval.declined"):
            said = _approved(record) if record.kind == "approval.given" else str(
                record.data.get("how") or record.data.get("reason") or "")
            if record.data.get("plan") != plan:
                said += f" (for another plan: {record.data.get('plan')})"
            yield Said(record.kind, record.at, record.actor, said)


def _approved(record: Record) -> str:
    """What an approval was given for, in words."""
    data = record.data
    ready = [f"{site} {was}" for site, was in (data.get("receivers") or {}).items()]
    role = f"as {data['role']}, " if data.get("role") else ""
    until = f", until {clock(data['valid_until'])}" if data.get("valid_until") else ""
    return (f"{role}under policy {str(data.get('policy', ''))[:12]}, with "
            f"{', '.join(ready) or 'no receiver'}{until}")


def _outcome(run: Run, state: RunState, records: Sequence[Record], steps: Sequence[StepFacts],
             found: Sequence[Move]) -> Outcome:
    exceptions = [*run.exceptions(), *_later(records), *_of_items(found)]
    if run.phase is RunState.ABORTED:
        exceptions += [f"aborted, still in effect: {title}"
                       for record in records if record.kind == "run.aborted"
                       for title in record.data.get("in_effect", ())]
    if not run.phase.is_open:
        exceptions += [f"{step.id} is in doubt: {step.said or 'how it ended was never written'}"
                       for step in steps if step.word == "in doubt"]
    if state is RunState.SUCCEEDED and exceptions:
        state = RunState.SUCCEEDED_WITH_EXCEPTIONS
    resumed = [at for at, record in enumerate(records)
               if record.kind in ("run.resumed", "rollback.started")]
    return Outcome(
        state=state.value, ended=not run.phase.is_open,
        seconds=((run.ended_at or records[-1].at) - run.planned_at) / SECOND,
        exceptions=tuple(dict.fromkeys(exceptions)),
        open_points=tuple(f"{step.id} {step.word}: {step.said}" for step in steps
                          if step.word in ("in doubt", "failed", "unknown", "undo failed"))
        if run.phase.is_open else (),
        interruptions=sum(not _stopped(records[:at]) for at in resumed),
        resumes=len(resumed))


_BY_PEOPLE = frozenset({"note", "confirmation.given", "approval.given", "approval.declined",
                        "stop.requested", "step.skipped", "override.given"})


def _stopped(records: Sequence[Record]) -> bool:
    """Whether the run itself said that it stops here; else its process was lost."""
    last = next((record.kind for record in reversed(records) if record.kind not in _BY_PEOPLE), "")
    return last in ("run.paused", "run.stuck", "run.planned")


def _later(records: Sequence[Record]) -> Iterator[str]:
    """What the fold forgets: a step skipped and later undone, a resume under another policy."""
    for record in records:
        if record.kind == "step.skipped":
            yield f"{record.data.get('step')} skipped: {record.data.get('reason', '')}"
        elif record.kind == "run.resumed" and record.data.get("context", {}).get("policy_changed"):
            yield f"resumed by {record.actor} under a policy that had changed since the plan"


def _of_items(found: Sequence[Move]) -> Iterator[str]:
    for move in found:
        for state, what in (("quarantined", "quarantined"), ("stranded", "stranded"),
                            ("claimed", "in doubt"), ("delivered", "not deleted at the source")):
            if move.counts[state]:
                yield (f"ledger: {move.queue}, {move.source} → {move.target}: "
                       f"{move.counts[state]} {what}")
        if move.possible_duplicates:
            yield (f"ledger: {move.queue}, {move.source} → {move.target}: "
                   f"{len(move.possible_duplicates)} possible duplicates at {move.target}")


def _step(step: StepRecord, state: RunState, records: Sequence[Record]) -> StepFacts:
    word = step.status.value.replace("_", " ")
    if step.status is StepStatus.STARTED and state not in (RunState.RUNNING,
                                                           RunState.ROLLING_BACK):
        word = "in doubt"
    elif step.status is StepStatus.FAILED and step.truth == "unknown":
        word = "unknown"
    spec = step.spec
    return StepFacts(
        id=spec.id, branch=step.branch, kind=spec.kind, title=spec.title, lever=spec.lever,
        word=word, truth=step.truth, said=step.reason, attempts=step.attempts,
        started_at=step.started_at, ended_at=step.ended_at, snapshot=step.snapshot,
        data=dict(step.data), exceptions=step.exceptions,
        observations=tuple(
            Said(record.kind, record.at, record.actor,
                 f"{record.data.get('truth', '')}: {record.data.get('detail', '')}")
            for record in records
            if record.kind == "step.observed" and record.data.get("step") == spec.id))


def _reconciliations(store: Store, run_id: str) -> Iterator[Mapping[str, Json]]:
    for record in store.read("automation"):
        if record.kind == RECONCILED and run_id in record.data.get("runs", ()):
            yield {**record.data, "at": record.at, "actor": record.actor}


def _said(record: Record, name: str) -> Said:
    return Said(record.kind, record.at, record.actor, str(record.data.get(name, "")))


def _event(record: Record) -> Event:
    return Event(record.seq, record.at, record.kind, record.actor, record.fence,
                 str(record.data.get("step") or record.data.get("branch") or ""),
                 _sentence(record), record.hash)


def _sentence(record: Record) -> str:
    data = record.data
    match record.kind:
        case "run.planned":
            plan = data.get("plan", {})
            return f"{plan.get('runbook')} {plan.get('subject')} asked for: {plan.get('reason')}"
        case "step.started":
            again = f" (attempt {data['attempt']})" if data.get("attempt", 1) > 1 else ""
            return f"{data.get('intent', '')}{again}"
        case "step.observed":
            return f"{data.get('truth', '')}: {data.get('detail', '')}"
        case "step.rehearsed":
            seen = data.get("unreadable") or data.get("detail", "")
            stop = f"; would be stopped: {data['stopped']}" if data.get("stopped") else ""
            return f"would: {data.get('would', '')}; now: {seen}{stop}"
        case "step.guarded":
            return "; ".join(f"{found.get('sentence')} [{found.get('guard')}]"
                             for found in data.get("guards", ()))
        case "override.given":
            return f"{data.get('guard')}: {data.get('reason')}"
        case "approval.given":
            return _approved(record)
        case "run.superseded":
            return f"by {data.get('by')}" + ", which pre-empted it" * bool(data.get("pre_empted"))
        case "lease.stolen":
            return f"from {data.get('from')}: {data.get('reason')}"
        case "run.started" | "run.resumed" | "rollback.started":
            context = data.get("context") or {}
            changed = "under a policy that had changed" if context.get("policy_changed") else ""
            return "; ".join(filter(None, (str(context.get("reason") or ""), changed)))
    said = [str(data[name]) for name in ("how", "reason", "detail", "text") if data.get(name)]
    said += [str(text) for text in data.get("exceptions") or ()]
    return "; ".join(said)
