"""Tell people of a run that needs one: put it into the outbox, once for each time it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run, RunState


def tell(desk: Desk, run: Run, state: RunState) -> None:
    """`paused`, `stuck`, `interrupted` … and what stopped it; told again, it is one message."""
    from ccfailover.notify.outbox import Messages  # only when there is something to tell

    message = Messages(desk.policy.heading, desk.store.head("runs")).run(
        state.value, run=run.id, runbook=run.plan.runbook, subject=run.plan.subject,
        mode=run.plan.mode, head=run.head,
        details=[f"{step.spec.id}: {step.reason}" for step in run.problems()])
    if not desk.store.outbox_has(message.key):
        message.enqueue(desk.store)


def tell_of_theft(desk: Desk, run: Run) -> None:
    """That the run's lease was stolen since it was read, from whom and why."""
    from ccfailover.notify.outbox import Messages

    for record in desk.store.read(f"run:{run.id}", run.head[0]):
        if record.kind == "lease.stolen":
            Messages(desk.policy.heading).run(
                "stolen", run=run.id, runbook=run.plan.runbook, subject=run.plan.subject,
                mode=run.plan.mode, head=(record.seq, record.hash),
                details=[f"{record.actor} took it from {record.data['from']}: "
                         f"{record.data['reason']}"]).enqueue(desk.store)
