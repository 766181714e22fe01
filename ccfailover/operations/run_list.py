"""Runs as the journal tells them: which there are, and how each stands.

Apart from `runs`, which carries them out: `status` and `check` read and must start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run, RunState


def load(desk: Desk, prefix: str | None) -> Run:
    """By unique prefix, or the only open run. Raises UsageError, naming the candidates."""
    return folded(desk, desk.store.find_run(prefix))


def folded(desk: Desk, run_id: str) -> Run:
    """The run of that id. Raises StoreError when its journal makes no sense."""
    from ccfailover.runbooks.run import fold  # where nothing ever ran, it is not needed

    run = fold(desk.store.read(f"run:{run_id}"))
    if not run.plan.supersedes:
        return run
    # What it superseded tells where its rollback has to go back to.
    return fold(desk.store.read(f"run:{run_id}"),
                *(folded(desk, earlier) for earlier in run.plan.supersedes))


def open_runs(desk: Desk) -> list[Run]:
    """Runs that hold a scope, oldest first."""
    runs = [folded(desk, lease.run) for lease in desk.store.leases()]
    return sorted((run for run in runs if run.phase.is_open), key=lambda run: run.planned_at)


def state_of(desk: Desk, run: Run) -> RunState:
    """With the lease taken into account: a run without a living holder is interrupted."""
    return run.state(alive(desk, run))


def alive(desk: Desk, run: Run) -> bool | None:
    """Whether somebody carries this run: lease in force and holder not provably dead."""
    for lease in desk.store.leases():
        if lease.run == run.id:
            if lease.expires_at <= desk.store.now():
                return False
            return desk.store.holder_alive(lease)
    return False
