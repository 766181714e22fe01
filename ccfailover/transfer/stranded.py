"""A home that is back still holds what its outsourcer was given when it died: delete that first.

Runs before home's consumers are let loose again; otherwise two sites work the same applications.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ccfailover.model.items import ItemState, LedgerRow, WorkItem
from ccfailover.model.journal import Lease
from ccfailover.model.policy import Queue
from ccfailover.providers import Backlog
from ccfailover.runtime import Runtime
from ccfailover.transfer.claims import Claims, claims_of_one_item
from ccfailover.transfer.earlier import Earlier
from ccfailover.transfer.records import closed
from ccfailover.transfer.rows import Ledger, application, message_key, moved_on, vanished

Key = tuple[str, str, str]
OPEN = frozenset({ItemState.STRANDED, ItemState.DELIVERED})


@dataclass(frozen=True)
class ClearResult:
    """Application ids, sorted. `deleted`: their copies were found and deleted now. `gone`: no
    copy is left, which an empty source proves. `waiting`: may still be there. `given_back`:
    items of home's own that were looked at and shown again. `complete`: nothing waits."""

    deleted: tuple[str, ...]
    gone: tuple[str, ...]
    waiting: tuple[str, ...]
    given_back: int
    complete: bool
    source_dead: bool
    detail: str


def stranded_rows(store: Ledger, queue: str, site: str) -> list[LedgerRow]:
    """Deliveries whose copies at `site` are not known to be deleted."""
    return [row for row in store.items(queue=queue) if row.source == site and row.state in OPEN]


def clear_stranded(
    store: Ledger, source: Backlog, queue: Queue, *, site: str, run: str, lease: Lease | None,
    runtime: Runtime, deadline: float, stop: Callable[[], bool] = lambda: False,
    check_fence: Callable[[], None] = lambda: None, batch: int = 10,
    give_up_after: float = 15.0, patience: float | None = None, one_system: bool = False,
) -> ClearResult:
    """Find at `site` the copies of what other sites were given, and delete them.

    A copy is deleted only when its very message is in the ledger as delivered elsewhere and the
    application has not come back since. Everything else is kept hidden, looked at once, and shown
    again. Claims nothing when the ledger knows of no such copy. `deadline` is in monotonic
    seconds; `run` names the run that does it. `one_system`: records are assigned anew and have no
    copies, so that it is enough to ask where they are. Raises Refused, Fenced, StoreError.
    """
    wait = source.claim_seconds + 15.0 if patience is None else patience
    claims = Claims(source, runtime=runtime, give_up_after=give_up_after, patience=wait)
    clearing = _Clearing(store, claims, queue.name, site=site, run=run, lease=lease,
                         runtime=runtime)
    if not clearing.open:
        return clearing.result("no copies wait there")
    if one_system:
        check_fence()
        clearing.ask()
        return clearing.result(f"{site} is out of reach: {claims.error}" if claims.dead
                               else "a record that was assigned anew leaves no copy")
    clearing.most = claims_of_one_item(source, site, queue.name)
    while not (why := clearing.why_end()):
        if stop() or runtime.monotonic() >= deadline:
            why = "stopped" if stop() else "out of time"
            break
        claims.keep_alive()
        check_fence()
        began = runtime.monotonic()
        found = claims.take(batch)
        if found:
            clearing.sift(found, began)
        elif found is not None:
            claims.pause()
    clearing.close()
    return clearing.result(why)


class _Clearing:
    def __init__(self, store: Ledger, claims: Claims, queue: str, *, site: str, run: str,
                 lease: Lease | None, runtime: Runtime) -> None:
        rows = list(store.items(queue=queue))
        self._earlier = Earlier(rows, run="", step="")
        self.open: dict[Key, LedgerRow] = {
            (row.run, row.step, row.item_id): row for row in rows
            if row.source == site and row.state in OPEN}
        self._store, self._claims = store, claims
        self._site, self._run, self._lease, self._runtime = site, run, lease, runtime
        self._deleted: set[str] = set()
        self._gone: set[str] = set()
        self._looked_at: set[str] = set()
        self.most: int | None = None
        self._worn = False

    def ask(self) -> None:
        now = self._runtime.now()

        def settled(row: LedgerRow) -> list[LedgerRow]:
            return [moved_on(row, self._earlier.when_cleared(row), now, "assigned anew")]

        rows = closed(self.open.values(), self._claims, settled, now)
        self._gone = {application(row) for row in rows}
        self._record(rows)

    def sift(self, batch: Sequence[WorkItem], began: float) -> None:
        ours = []
        for item in batch:
            key = message_key(item)
            self._claims.hold({key: item.handle}, since=began)
            if self._earlier.leftover(item, self._site) is not None:
                ours.append(item)
            elif key in self._looked_at:
                self._worn |= self.most is not None and item.receives >= self.most - 1
            else:
                self._looked_at.add(key)
        self._delete(ours)

    def _delete(self, items: Sequence[WorkItem]) -> None:
        """Only a yes while the claim still held counts; the others show again by themselves."""
        held = self._claims.secure([message_key(item) for item in items])
        answer = self._claims.settle([item.handle for item in items]) or {}
        now, rows = self._runtime.now(), []
        for item in items:
            self._claims.drop(message_key(item))
            if answer.get(item.handle) and message_key(item) in held:
                rows += self._earlier.cleared(item, self._site, self._run, now)
                self._deleted.add(item.item_id)
        self._record(rows)

    def _record(self, rows: Sequence[LedgerRow]) -> None:
        if rows:
            self._store.record_items(rows, lease=self._lease)
            for row in rows:
                self._earlier.replace(row)
            for row in rows:
                self.open.pop((row.run, row.step, row.item_id), None)

    def why_end(self) -> str:
        if self._claims.dead:
            return f"{self._site} is out of reach: {self._claims.error}"
        if not self.open:
            return "every copy is deleted"
        if self._worn:
            return "home's own items cannot be kept hidden and have hardly a claim left"
        if self._claims.proven_empty():
            return "nothing else is there"
        if self._claims.out_of_patience():
            return f"{self._site} counts items that it does not show"
        return ""

    def close(self) -> None:
        if self.open and not self._claims.dead and self._claims.proven_empty():
            now = self._runtime.now()
            rows = [vanished(row, self._earlier.when_cleared(row), now,
                             f"no copy of it was left at {self._site} when {self._run} looked",
                             worked=True)
                    for row in self.open.values()]
            self._gone = {application(row) for row in rows}
            self._record(rows)
        self._claims.give_back()

    def result(self, why: str) -> ClearResult:
        waiting = {application(row) for row in self.open.values()}
        detail = why if not waiting else (
            f"{why}; {len(waiting)} may still be at {self._site}: do not start its consumers")
        return ClearResult(
            deleted=tuple(sorted(self._deleted)), gone=tuple(sorted(self._gone)),
            waiting=tuple(sorted(waiting)), given_back=len(self._looked_at),
            complete=not waiting, source_dead=self._claims.dead, detail=detail)
