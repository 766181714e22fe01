"""Tell people of a run that needs one: put it into the outbox, once for each time it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run, RunState


def tell(desk: Desk, run: Run, state: RunState) -> None:
    """`paused`, `stuck`, `interrupted` … and what stopped it; told again, it is one message."""
    from ccfailover.notify.outbox import Messages  # only when there is something to tell

    message = Messages(desk.policy.heading).run(
        state.value, run=run.id, runbook=run.plan.runbook, subject=run.plan.subject,
        mode=run.plan.mode, head=run.head,
        details=[f"{step.spec.id}: {step.reason}" for step in run.problems()])
    if not desk.store.outbox_has(message.key):
        message.enqueue(desk.store)
