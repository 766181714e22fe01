"""Acting from a local journal, when the shared store is gone: who may, after which wait, and what
is left out.

Without the shared store nothing can prove that nobody else acts. So a person says that they hold
the baton, one lease time is waited, and only routes and treatments move: which application is
where is known to the shared store alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ccfailover.model.plan import Finding, StepSpec
from ccfailover.runtime import SECOND
from ccfailover.store import local

if TYPE_CHECKING:
    from ccfailover.model.journal import Lease
    from ccfailover.model.plan import Plan
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run

GUARD = "local_journal"

OF_ITEMS = frozenset({"transfer", "hold_consumers"})
"""Steps that move work items, or that let them be worked on because they were moved."""

WHY = "work items wait for the shared store: which is where is not known without it"

LATELY = 600.0
"""Seconds for which a wait that was done is not done again."""


def wait_seconds(desk: Desk) -> float:
    """Until every lease of the shared store has run out: as long as the policy lets one last."""
    return desk.policy.lease


def findings(plan: Plan) -> tuple[Finding, ...]:
    """One for each step that a local journal leaves out."""
    return tuple(
        Finding(GUARD, "warning", f"left out: {step.title}; {WHY}", branch.name)
        for branch in plan.branches for step in of_items(branch.steps))


def of_items(steps: Iterable[StepSpec]) -> list[StepSpec]:
    return [step for step in steps if step.kind in OF_ITEMS]


def notes(desk: Desk) -> list[str]:
    """What is amiss with what this machine keeps of a shared store; empty when nothing is."""
    found, mirror = [], desk.store.mirror
    if mirror is not None and mirror.trouble is not None:
        found.append(f"the mirror of the shared store cannot be kept ({mirror.trouble}): without "
                     f"it nothing can be done here when the server is gone; see {mirror.path}")
    waiting = local.current(desk.local_base) if desk.local_base and desk.local is None else None
    if waiting is not None:
        found.append(f"what was done with the local journal {waiting} is not in the shared store "
                     "yet: ccfailover runs import")
    return found


def lost(desk: Desk) -> list[str]:
    """What this machine saw in the shared store and is there no more, one sentence a stream."""
    mirror = desk.store.mirror
    if mirror is None or not mirror.usable:
        return []
    from ccfailover.store.mirrored import diverged

    return [f"the server has lost what this machine saw there: {each.said}"
            for each in diverged(desk.store._db.query, mirror)]


def with_option(desk: Desk, command: str) -> str:
    """The next command, as it has to be given while a local journal stands in."""
    if desk.local is None or not command.startswith("ccfailover"):
        return command
    return f"{command}   (with --local-journal)"


def wait_out(desk: Desk, tell: Callable[[float], None]) -> None:
    """Let every lease lapse that the shared store may have given, and journal who has the baton.

    `tell` is called with the seconds that are left. Not waited again for ten minutes.
    """
    now = desk.runtime.now()
    taken = [record.at for record in desk.store.read("automation") if record.kind == local.BATON]
    if taken and now - taken[-1] < LATELY * SECOND:
        return
    seconds = wait_seconds(desk)
    end = desk.runtime.monotonic() + seconds
    while (left := end - desk.runtime.monotonic()) > 0:
        tell(left)
        desk.runtime.sleep(min(1.0, left))
    desk.store.append("automation", local.BATON, {
        "waited_s": seconds, "why": desk.local.reason if desk.local else "",
    }, actor=str(desk.actor))


def leave_out(desk: Desk, run: Run, lease: Lease, *, back: bool) -> None:
    """Journal, before a run goes on, that its steps of work items are passed over."""
    stream, actor = f"run:{run.id}", str(desk.actor)
    for name in _left_out(run, back=back):
        if back:
            desk.store.append(stream, "undo.started", {"step": name}, actor=actor, lease=lease)
        desk.store.append(stream, "step.skipped", {"step": name, "reason": WHY}, actor=actor,
                          lease=lease)


def _left_out(run: Run, *, back: bool) -> list[str]:
    if back:
        return [name for name, step in {**run.steps, **run.inherited}.items()
                if step.spec.kind in OF_ITEMS and step.touched]
    return [name for name, step in run.steps.items() if step.spec.kind in OF_ITEMS
            and step.status.value not in ("succeeded", "skipped")]
