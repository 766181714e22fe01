"""Drift: a lever that reads other than the journal says.

Somebody moved it by hand, or a write landed after its run had been taken over or had ended. Each
occurrence is journaled once as `drift.seen`, told once, and ends with `drift.gone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ccfailover.health.current import current_shares
from ccfailover.model.shares import Shares
from ccfailover.operations.history import last_movers

if TYPE_CHECKING:
    from ccfailover.model.health import World
    from ccfailover.model.policy import Queue
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run, RunState

FACT = "drift"

_MOVING = ("planned", "running", "rolling_back")
"""States in which somebody is at work on a run's levers: its journal is not finished."""


@dataclass(frozen=True)
class Expected:
    """Where a queue is by the journal: since when (µs), by whom, at which shares.

    `run` is the unfinished run that left it there. `sure` is false while a run moves the queue,
    or left a step in doubt: then nothing is drift.
    """

    at: int
    by: str
    shares: Mapping[str, int]
    run: str | None = None
    sure: bool = True


@dataclass(frozen=True)
class Drift:
    """What a lever reads, and what the journal says of it; `run` as in `Expected`."""

    queue: str
    actual: Mapping[str, int]
    expected: Mapping[str, int]
    run: str | None

    def told(self) -> str:
        """What is wrong and what to do about it, for people."""
        whose = f"run {self.run} left it at" if self.run else "the journal says"
        return (f"{self.queue} is at {Shares(self.actual)}, {whose} "
                f"{Shares(self.expected)} ({self.todo()})")

    def todo(self) -> str:
        if self.run:
            return f"ccfailover resume {self.run} sets it again, rollback {self.run} undoes it"
        return (f"ccfailover adopt {self.queue}, if it is meant; else ccfailover reassert "
                f"{self.queue}")


def expectations(desk: Desk, opened: Sequence[tuple[Run, RunState]]) -> dict[str, Expected]:
    """For every queue of the policy. `opened` are the unfinished runs and their states."""
    moved = last_movers(desk)
    found = {}
    for name, queue in desk.policy.queues.items():
        at, by, shares = moved.get(name, (0, "", queue.normal.to_json()))
        expected = Expected(at, by, shares)
        for run, state in opened:
            if run.plan.mode.value == "real" and name in run.plan.shares_after:
                expected = _by_run(expected, run, state, queue)
        found[name] = expected
    return found


def _by_run(before: Expected, run: Run, state: RunState, queue: Queue) -> Expected:
    """Where an unfinished run left a queue. What is in doubt is expected nowhere."""
    lever = queue.route or queue.intake
    unsure = Expected(before.at, before.by, before.shares, run.id, sure=False)
    if state.value in _MOVING or lever is None:
        return unsure
    steps = [step for step in run.steps.values() if step.spec.lever == lever.lever
             and "to" in step.spec.params and step.status.value != "pending"]
    earlier = [step for step in run.inherited.values() if step.spec.lever == lever.lever]
    if not steps:
        # What a superseded run did last is not among what is inherited of it.
        return unsure if earlier else before
    by = f"{run.plan.runbook} {run.id} by {run.requester.partition('[')[0]}"
    last, undone = steps[-1], [step for step in steps if step.status.value == "undone"]
    at = max(step.ended_at or 0 for step in steps)
    if len(undone) == len(steps) and not any(step.exceptions for step in steps):
        first = (earlier or steps)[0].snapshot
        return Expected(at, by, first["shares"], run.id)
    if undone or last.status.value not in ("succeeded", "skipped"):
        return unsure
    return Expected(at, by, last.spec.params["to"], run.id)


def drifted(queue: Queue, world: World, expected: Expected) -> bool | None:
    """Whether a queue's lever reads other than expected. None: not known, also when the reading
    is older than the last move."""
    actual, view = current_shares(queue, world), world.queues.get(queue.name)
    if (not expected.sure or actual is None or view is None or view.shares_at is None
            or view.shares_at < expected.at):
        return None
    return actual.to_json() != dict(expected.shares)


def look_for(desk: Desk, world: World, opened: Sequence[tuple[Run, RunState]]) -> list[Drift]:
    """Every drift that is seen now; journaled and told of once, however many checks overlap."""
    expected = expectations(desk, opened)
    verdicts: dict[str, Drift | None] = {}
    for name, queue in desk.policy.queues.items():
        verdict, actual = drifted(queue, world, expected[name]), current_shares(queue, world)
        if verdict is not None and actual is not None:
            verdicts[name] = Drift(name, actual.to_json(), dict(expected[name].shares),
                                   expected[name].run) if verdict else None
    _record(desk, verdicts)
    return [drift for drift in verdicts.values() if drift is not None]


def _record(desk: Desk, verdicts: Mapping[str, Drift | None]) -> None:
    """Compare and set, so that of two checks one writes; the next check repeats what was lost."""
    store = desk.store
    before: dict[str, Any] = store.fact(FACT) or {}
    after, events = dict(before), []
    for name, drift in verdicts.items():
        known = before.get(name)
        if drift is None:
            if known is not None:
                del after[name]
                events.append(("drift.gone", {"queue": name, "since": known["since"]}))
            continue
        seen = {"actual": dict(drift.actual), "expected": dict(drift.expected), "run": drift.run}
        if known is None or {key: known[key] for key in seen} != seen:
            after[name] = {**seen, "since": desk.runtime.now()}
            events.append(("drift.seen", {"queue": name, **seen}))
    if events and not store.swap_fact(FACT, after or None, expected=before or None,
                                      events=events, actor=str(desk.actor)):
        return
    for name, drift in verdicts.items():
        if drift is not None and name in after:
            _tell(desk, drift, after[name]["since"])


def _tell(desk: Desk, drift: Drift, since: int) -> None:
    """Once for each occurrence: also when the check that saw it first died before it told."""
    key = f"drift/{drift.queue}/{since}"
    if not desk.store.outbox_has(key):
        from ccfailover.notify.outbox import Messages  # only when there is something to tell

        Messages(desk.policy.heading, desk.store.head("runs")).drift(
            drift.queue, drift.told(), key=key,
            head=desk.store.head("automation")).enqueue(desk.store)
