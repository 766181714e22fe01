"""What earlier runs left behind: where each queue is by the journal, what it costs, when it moved.

One home for every question that is answered by reading ended runs, newest first, no further back
than the answer needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from ccfailover.operations.run_list import folded

if TYPE_CHECKING:
    from ccfailover.model.journal import Record
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run

HOUR = 3_600_000_000

Moved = tuple[int, str, dict[str, int]]
"""When a queue was moved last (µs), by whom and why, to which shares."""


def ended(desk: Desk, since: int = 0) -> Iterator[Run]:
    """Real runs that ended at or after `since` (µs) and left something in effect, newest first.

    Drills move nothing, and a run that was rolled back left the world as it was.
    """
    for at, record in reversed(_ends(desk)):
        if at < since:
            return
        if record.data.get("state") in ("succeeded", "succeeded_with_exceptions", "aborted"):
            run = folded(desk, record.data["run"])
            if run.plan.mode.value == "real":
                yield run


def _ends(desk: Desk) -> list[tuple[int, Record]]:
    """Every run's end and its instant (µs), in order: that of the journal, which no clock can
    turn round, but for runs that ended elsewhere before they were imported."""
    ends, last = [], 0
    for record in desk.store.read("runs"):
        if record.kind == "run.ended":
            imported = record.data.get("ended_at")
            last = last if imported is not None else max(last, record.at)
            ends.append((int(imported) if imported is not None else last, record))
    return sorted(ends, key=lambda end: (end[0], end[1].seq))


def left_at(run: Run) -> dict[str, dict[str, int]]:
    """Queue → the shares that the run left it at: those of its last lever step in effect.

    A step that was skipped counts: whoever skipped it answered for its aim. A queue whose levers
    the run never moved is not in it.
    """
    found: dict[str, dict[str, int]] = {}
    for step in run.steps.values():
        if "to" in step.spec.params and step.status.value in ("succeeded", "skipped"):
            found[str(step.spec.params["queue"])] = dict(step.spec.params["to"])
    return found


def _superseded(desk: Desk, run: Run) -> Iterator[Run]:
    """The runs whose moves a run in effect took over, the latest first."""
    for earlier in reversed(run.plan.supersedes):
        found = folded(desk, earlier)
        yield found
        yield from _superseded(desk, found)


def last_runs(desk: Desk) -> dict[str, Run]:
    """Queue → the last run in effect that moved it: a run itself, or one that it superseded,
    whose moves stand where it made none."""
    found: dict[str, Run] = {}
    for run in ended(desk):
        for each in (run, *_superseded(desk, run)):
            for queue in left_at(each):
                found.setdefault(queue, each)
        if all(name in found for name in desk.policy.queues):
            break
    return found


def last_movers(desk: Desk) -> dict[str, Moved]:
    """The last move of each queue that was ever moved, by a run in effect or by `adopt`."""
    found: dict[str, Moved] = {}
    for queue, run in last_runs(desk).items():
        text = f"{run.plan.runbook} {run.id} by {run.requester.partition('[')[0]}"
        found[queue] = (run.ended_at or run.planned_at, text, left_at(run)[queue])
    adopted = desk.store.fact("adopted") or {}
    for queue, data in adopted.items():
        if queue not in found or data["at"] > found[queue][0]:
            found[queue] = (data["at"], f"adopted by {data['by']}", dict(data["shares"]))
    return found


def last_moves(desk: Desk) -> Mapping[str, int]:
    """When each lever was last moved by a run (µs), for the anti-flap guard.

    An `ack` after the move lifts the block; planned runs (switchover, failback) make none, nor
    does what was only set again.
    """
    window = int(desk.policy.guards.flap_block * 1_000_000)
    acked = desk.store.fact("acked_at") or 0
    moves: dict[str, int] = {}
    for run in ended(desk, max(desk.runtime.now() - window, acked + 1)):
        if run.plan.runbook in ("switchover", "failback", "reassert"):
            continue
        for step in run.steps.values():
            if step.spec.lever and step.status.value == "succeeded" and step.ended_at:
                moves[step.spec.lever] = max(step.ended_at, moves.get(step.spec.lever, 0))
    return moves


def spent_today(desk: Desk) -> Decimal:
    """What runs have cost since midnight (policy's time zone): rate × hours in effect.

    A run is in effect until a later one moved one of its queues. Plans name the rate; invoices
    are for later.
    """
    from datetime import datetime
    from zoneinfo import ZoneInfo

    now = desk.runtime.now()
    here = datetime.fromtimestamp(now / 1_000_000, ZoneInfo(desk.policy.timezone))
    midnight = int(here.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1_000_000)
    total = Decimal(0)
    over: dict[str, int] = {}
    for run in ended(desk):
        queues = left_at(run)
        until = min((over[queue] for queue in queues if queue in over), default=now)
        begun = max(run.started_at or run.planned_at, midnight)
        if until > begun:
            total += Decimal(run.plan.cost_per_hour) * Decimal(until - begun) / Decimal(HOUR)
        for queue in queues:
            over[queue] = min(run.started_at or run.planned_at, over.get(queue, now))
        if all(over.get(queue, now) <= midnight for queue in desk.policy.queues):
            break
    return total
