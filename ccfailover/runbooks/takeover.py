"""How one run comes after another: a failover pre-empts an overflow, a lease is taken over.

What takes time is a generator that yields how many seconds to rest: `resting` sleeps them, and
the simulator lets others take their turns meanwhile.

A failover pre-empts an overflow in whatever state it is open, also one that is being rolled back
or is stuck: that brings work back to a home which has failed, and its guards would stop it there.
Nothing is lost: the first snapshots are inherited, so that a rollback of the failover ends where
one of the overflow would have. It never pre-empts a failover, a switchover or a failback.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeVar

from ccfailover.errors import Refused
from ccfailover.model.journal import BEATS, Lease, Record
from ccfailover.model.plan import Finding, Mode, Plan
from ccfailover.runbooks.plan import KINDS
from ccfailover.runbooks.run import Run
from ccfailover.runtime import SECOND, Runtime
from ccfailover.store import Store

T = TypeVar("T")
Rest = Generator[float, None, T]

LISTEN = 0.25
"""Seconds between two looks whether a run has stopped."""


def pre_empting(plan: Plan, store: Store, load: Callable[[str], Run]) -> Plan:
    """The plan that also takes over from the overflows in its way, and says so.

    Unchanged unless it is a failover and nothing but overflows is in the way: then the start
    raises LeaseHeld, and nobody is asked to stop for nothing.
    """
    if KINDS.get(plan.runbook, "failover") != "failover" or plan.mode is not Mode.REAL:
        return plan
    wanted = set(plan.scopes)
    rivals = [load(lease.run) for lease in store.leases()
              if wanted & set(lease.scopes) and lease.run not in plan.supersedes]
    if not rivals or any(KINDS.get(run.plan.runbook, "failover") != "overflow"
                         for run in rivals):
        return plan
    return replace(
        plan, supersedes=(*plan.supersedes, *(run.id for run in rivals)),
        findings=(*plan.findings, *(_told(run) for run in rivals)),
        basis={**plan.basis, "pre_empts": {run.id: sorted(run.plan.shares_after)
                                           for run in rivals}})


def _told(run: Run) -> Finding:
    queues = ", ".join(sorted(run.plan.shares_after))
    return Finding("pre_emption", "warning", (
        f"pre-empts overflow {run.id} on {queues} (by {run.requester.partition('[')[0]}, "
        f"{run.plan.reason}): it is asked to stop, and its levers and first snapshots are taken "
        "over"))


def stopped(plan: Plan, store: Store, runtime: Runtime, *, within: float, actor: str,
            told: Callable[[Record], None] = lambda record: None) -> Rest[None]:
    """Ask the overflows that a plan pre-empts to stop, and rest until each has let go.

    No longer than `within` seconds, and not at all for one that nobody carries. Whoever has not
    stopped by then is frozen or cut off: the takeover fences it. An overflow that ends meanwhile
    needs no stop.
    """
    why = f"pre-empted by {plan.runbook} {plan.subject}: {plan.reason}"
    waiting = {lease.run for lease in store.leases()
               if lease.run in plan.pre_empts and _listens(store, lease)}
    for run in sorted(waiting):
        told(store.append(f"run:{run}", "stop.requested", {"reason": why}, actor=actor))
    end = runtime.monotonic() + within
    while waiting and (left := end - runtime.monotonic()) > 0:
        yield min(LISTEN, left)
        waiting &= {lease.run for lease in store.leases() if _listens(store, lease)}


def same_way(run: Run, taken: Run) -> None:
    """Raises Refused if the run, now that it is `taken`, goes another way than when it was looked
    at: who said that it shall go on did not mean that what was undone be done again."""
    if run.rolling_back == taken.rolling_back:
        return
    way = "has been rolled back since" if taken.rolling_back else "goes forward again"
    raise Refused(f"run {run.id} {way} (#{taken.head[0]} in its journal): it is no longer the run "
                  "that was looked at", guard="direction", not_done="nothing was done",
                  hint=f"ccfailover runs show {run.id}, then resume {run.id} if you mean it")


def _listens(store: Store, lease: Lease) -> bool:
    """Whether somebody may carry the run who would hear of a stop."""
    return (bool(lease.holder) and lease.expires_at > store.now()
            and store.holder_alive(lease) is not False)


def doubt_left(records: Sequence[Record], now: int, most: float) -> float:
    """For how many seconds more (`most`: one lease time) a former holder's call may be under way:
    its run was superseded, or its lease stolen, before that had run out. Whoever takes the run up
    has to wait for it."""
    until = max((int(record.data.get("doubt_until", 0)) for record in records
                 if record.kind in ("run.planned", "lease.stolen")), default=0)
    return min(most, max(0.0, (until - now) / SECOND))


def outwaited(store: Store, runtime: Runtime, lease: Lease, ttl: float,
              seconds: float) -> Rest[Lease]:
    """Keep the lease, and rest: a call that the former holder had begun has ended by then."""
    end = runtime.monotonic() + seconds
    while (left := end - runtime.monotonic()) > 0:
        yield min(left, ttl / BEATS)
        lease = store.renew(lease, ttl)
    return lease


def resting(rest: Rest[T], runtime: Runtime) -> T:
    """Perform it: sleep as long as it says."""
    while True:
        try:
            seconds = next(rest)
        except StopIteration as end:
            result: T = end.value
            return result
        runtime.sleep(seconds)
