"""Tell people of a run that waits for one, and tell them again while it does.

Driven by whoever comes by: the run's own process when it stops, then `check` and `execute-due`.
Each message has a key that says which wait it is about and the how-manieth reminder it is, so
that overlapping checks make one message, and a run that goes on is not told of again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ccfailover.model.journal import LEASE_SECONDS
from ccfailover.runtime import SECOND

if TYPE_CHECKING:
    from ccfailover.model.health import World
    from ccfailover.model.shares import Shares
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run, RunState


@dataclass(frozen=True)
class Wait:
    """What a run waits in: `event` names it, `began` is the number of the event that began it and
    `since` its instant (µs)."""

    event: str
    began: int
    since: int


def tell(desk: Desk, run: Run, state: RunState, *, seen: Mapping[str, Shares] | None = None,
         ) -> bool:
    """The message, or the reminder, that is due for this run now; whether it was a new one.

    After a gap in the checks it is the latest reminder alone. `seen` is what levers read since
    the run stopped.
    """
    wait = waiting(desk, run, state)
    if wait is None:
        return False
    waited = max(0.0, (desk.store.now() - wait.since) / SECOND)
    number = desk.policy.remind.due(waited)
    if not number and wait.event == "approval_wanted":
        return False  # the step has said so itself
    key = f"{run.id}/{wait.event}/{wait.began}" + (f"/{number}" if number else "")
    if desk.store.outbox_has(key):
        return False
    from ccfailover.notify.outbox import Messages  # only when there is something to tell
    from ccfailover.operations.describe import next_for, standing
    from ccfailover.reports.words import clock, span

    since = f"since {clock(wait.since)}"
    details = [f"{since}, for {span(waited)}: reminder {number}" if number else since,
               *(f"{step.spec.id}: {step.reason}" for step in run.problems()),
               *standing(run, seen or {})]
    return Messages(desk.policy.heading, desk.store.head("runs")).run(
        wait.event, run=run.id, runbook=run.plan.runbook, subject=run.plan.subject,
        mode=run.plan.mode, head=run.head, details=details, key=key,
        command=next_for(run, state), more=f" for {span(waited)}" if number else "",
    ).enqueue(desk.store)


def remind(desk: Desk, world: World, runs: Sequence[tuple[Run, RunState]]) -> int:
    """Tell, or remind, of every run of `runs` that waits for a person; how many messages that
    made.

    A run whose process died cannot say so itself.
    """
    return sum(tell(desk, run, state, seen=_seen(run, world)) for run, state in runs)


def waiting(desk: Desk, run: Run, state: RunState) -> Wait | None:
    """What this run waits for a person in, or that another took over; None: nothing to tell."""
    match state.value:
        case "paused" | "stuck" | "superseded":
            return Wait(state.value, *run.since)
        case "interrupted":
            # Its process renewed the lease to the end; its last event may be much older.
            beats = [lease.expires_at - int(LEASE_SECONDS * SECOND) for lease in desk.store.leases()
                     if lease.run == run.id and lease.holder]
            return Wait(state.value, run.last_sign[0], max([run.last_sign[1], *beats]))
        case "running":
            for step in run.problems():
                if step.spec.kind == "approve" and step.status.value == "started":
                    return Wait("approval_wanted", step.tried[0], step.tried[1])
    return None


def _seen(run: Run, world: World) -> dict[str, Shares]:
    """What the run's levers read in the world, where that is newer than its last event."""
    return {name: view.shares for name, view in world.queues.items()
            if name in run.plan.shares_after and view.shares is not None
            and (view.shares_at or 0) > run.last_sign[1]}


def tell_of_theft(desk: Desk, run: Run) -> None:
    """That the run's lease was stolen since it was read, from whom and why."""
    from ccfailover.notify.outbox import Messages

    for record in desk.store.read(f"run:{run.id}", run.head[0]):
        if record.kind == "lease.stolen":
            Messages(desk.policy.heading, desk.store.head("runs")).run(
                "stolen", run=run.id, runbook=run.plan.runbook, subject=run.plan.subject,
                mode=run.plan.mode, head=(record.seq, record.hash),
                details=[f"{record.actor} took it from {record.data['from']}: "
                         f"{record.data['reason']}"]).enqueue(desk.store)
