"""Moves a queue's work items from one site to another, so that none is lost and all are found.

For each batch: claim → ledger `claimed` → put with the key `item:run:hop` → ledger `delivered` →
settle → ledger `settled`. Each arrow may be the last thing this process does. What the next
process finds in the ledger tells it what may have happened: `claimed`, that the target may have
the item; `delivered`, that it has it, and that the source may have a copy too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import ItemState, LedgerRow, WorkItem
from ccfailover.model.journal import Lease
from ccfailover.model.policy import Queue, Site
from ccfailover.providers import Backlog
from ccfailover.runtime import SECOND, Runtime
from ccfailover.transfer.book import Book
from ccfailover.transfer.claims import Claims, claims_of_one_item
from ccfailover.transfer.delivery import LAPSED, REFUSED, Delivery, Outcome, Parcel
from ccfailover.transfer.eligibility import Eligibility
from ccfailover.transfer.pace import Pace
from ccfailover.transfer.result import MoveResult as MoveResult
from ccfailover.transfer.rows import (
    AT_TARGET,
    NOT_DELETED,
    Ledger,
    Move,
    application,
    count_reasons,
    is_copy,
    message_key,
    moved_on,
    reason_of,
    same_body,
    vanished,
)
from ccfailover.transfer.sorting import COLLAPSED, TWIN, Claimed, Limits, Sorted, Sorter

REFUSED_BATCHES = 2
"""Whole batches in a row that the target does not take: then it takes none."""

REFUSED_ITEMS = 20
"""Items in a row that the target refuses for good: then the fault is not with the items."""


class Mover:
    """One move of one step. Keep the object between calls of `run`; after a crash make another
    one with the same `run` and `step` and the new lease: it resolves what is in doubt first.

    `target_capabilities` say whether the target swallows a repeated put, for how long, and how
    large an item it takes. `rate_per_second`: the most to put (None: no limit). `limit`: the most
    items to move in all (None: every eligible one). `only`: the ids to look for, until each was
    moved or none came for `patience`. `give_up_after`: how long a source that does not answer is
    tried, seconds. `patience`: how long to wait for what the source counts and does not show; the
    default outlives a killed process's claims. `worked`: may the source's own consumers be at
    work? Then a copy that is gone without our deleting it may be worked. Raises Fenced and
    StoreError: this process must not go on; Refused when one look would use up an item's claims.
    """

    def __init__(
        self, source: Backlog, target: Backlog, *, store: Ledger, lease: Lease | None, run: str,
        step: str, queue: Queue, source_site: str, target_site: Site, eligibility: Eligibility,
        runtime: Runtime, target_capabilities: Capabilities,
        rate_per_second: float | None = None, limit: int | None = None,
        only: Collection[str] | None = None, stop: Callable[[], bool] = lambda: False,
        check_fence: Callable[[], None] = lambda: None,
        progress: Callable[[int, int | None, str], None] = lambda done, total, note: None,
        batch: int = 10, give_up_after: float = 15.0, patience: float | None = None,
        worked: Callable[[], bool] = lambda: True,
    ) -> None:
        self._source = source
        self._store, self._lease = store, lease
        self._move = Move(run, step, queue.name, source_site, target_site.name)
        self._queue = queue
        self._eligibility = eligibility
        self._capabilities = target_capabilities
        self._runtime = runtime
        self._limit = limit
        self._only = only
        self._stop, self._check_fence, self._progress = stop, check_fence, progress
        self._batch = batch
        self._give_up_after = give_up_after
        self._worked = worked
        self._patience = source.claim_seconds + 15.0 if patience is None else patience
        self._pace = Pace(rate_per_second, runtime)
        self._delivery = Delivery(target, target_capabilities, move=self._move, runtime=runtime,
                                  check_fence=check_fence)
        self._started = False

    def run(self, deadline: float) -> MoveResult:
        """Move until done, or until `deadline` (monotonic seconds), or until asked to stop."""
        if not self._started:
            self._begin()
        while not (why := self._end()):
            if self._stop() or self._runtime.monotonic() >= deadline:
                break
            self._claims.keep_alive()
            size = self._size()
            if not self._pace.wait(deadline, self._stop):
                continue
            self._check_fence()
            began = self._runtime.monotonic()
            batch = self._claims.take(size)
            if batch:
                self._carry(batch, began)
                self._progress(self._book.moved, self._total, self._note())
            elif batch is not None:
                self._claims.pause()
        if not why and not self._stop():
            return self._result(False, f"out of time; {self._note()}")
        return self._finish(why)

    # --- the beginning -----------------------------------------------------------------------

    def _begin(self) -> None:
        move, runtime = self._move, self._runtime
        self._claims = Claims(self._source, runtime=runtime, give_up_after=self._give_up_after,
                              patience=self._patience)
        self._book = Book(self._store, self._lease, move)
        limits = Limits(self._queue.max_item_bytes, self._capabilities.max_item_bytes,
                        claims_of_one_item(self._source, move.source, move.queue))
        self._sorter = Sorter(move, rows=self._book.rows, earlier=self._book.earlier,
                              eligibility=self._eligibility, capabilities=self._capabilities,
                              limits=limits, runtime=runtime)
        self._twins: list[Claimed] = []
        self._unproven: dict[str, bool] = {}
        self._refused_batches = self._refused_items = 0
        self._worn, self._came = False, self._runtime.monotonic()
        self._started = True
        count = self._claims.measure()
        here = self._book.here
        self._unseen = None if count is None else max(0, count.depth - here)
        self._total = None if self._unseen is None else self._unseen + here + self._book.moved
        if self._book.rows:
            self._resolve()

    def _resolve(self) -> None:
        """What an attempt before this one left open, decided from the ledger.

        A settle by an old handle may be answered with yes and delete nothing, so it counts only
        once the copy has failed to come back. Claims are touched only while they are surely
        still ours: extending a claim that is in other hands by now would meddle.
        """
        self._check_fence()
        rows = list(self._book.rows.values())
        open_ = [row for row in rows if row.state in (ItemState.DELIVERED, ItemState.STRANDED)]
        answer = self._claims.settle([row.handle for row in open_ if row.handle]) or {}
        self._unproven = {row.item_id: bool(answer.get(row.handle)) for row in open_}
        now, life = self._runtime.now(), int(self._claims.seconds * SECOND)
        back = [row for row in rows if row.state is ItemState.CLAIMED
                and 0 <= now - row.at < life]
        # Held claims have at least half their life left whenever anything is written.
        alive = 0 <= now - max(row.at for row in rows) < life // 2
        stay: list[LedgerRow] = []
        for row in rows if alive else []:
            if row.state in (ItemState.LEFT, ItemState.QUARANTINED):
                retry = reason_of(row).startswith((REFUSED, LAPSED, TWIN))
                (back if retry else stay).append(row)
        self._claims.extend([row.handle for row in back if row.handle], 0)
        kept = self._claims.extend([row.handle for row in stay if row.handle],
                                   self._claims.seconds)
        since = self._runtime.monotonic()
        for row in stay:
            if kept.get(row.handle):
                message = row.message_id or row.handle
                self._claims.hold(message, row.handle, since=since)
                self._sorter.judged.add(message)

    # --- one batch ---------------------------------------------------------------------------

    def _size(self) -> int:
        size = self._pace.most(self._batch, self._claims.seconds)
        return size if self._limit is None else max(1, min(size, self._limit - self._book.moved))

    def _carry(self, batch: Sequence[WorkItem], began: float) -> None:
        for item in batch:
            self._claims.hold(message_key(item), item.handle, since=began)
        if any(item.item_id in (self._only or ()) for item in batch):
            self._came = began
        found = self._sorter.sort(batch)
        self._worn = self._worn or found.worn
        if self._unseen is not None:
            self._unseen = max(0, self._unseen - found.fresh)
        self._book.record(found.rows)
        outcomes = self._delivery.put(found.put, self._still_ours) if found.put else []
        settle = [*found.settle, *self._delivered(outcomes), *self._collapse(found)]
        self._settle(settle)
        self._pace.spent(len(found.put))

    def _still_ours(self, parcels: Sequence[Parcel]) -> set[str]:
        ours = self._claims.secure([message_key(parcel.item) for parcel in parcels])
        return {parcel.item.item_id for parcel in parcels if message_key(parcel.item) in ours}

    def _delivered(self, outcomes: Sequence[Outcome]) -> list[Claimed]:
        """Write what became of the puts; returns what is to be deleted at the source."""
        self._count_refusals(outcomes)
        now = self._runtime.now()
        rows, done = [], []
        for outcome in outcomes:
            item, row = outcome.parcel.item, outcome.parcel.row
            if outcome.lapsed and outcome.parcel.doubtful:
                self._claims.drop(message_key(item))
                continue  # still in doubt, as the ledger says
            row = replace(row, possible_duplicate=outcome.possible_duplicate,
                          target_ref=outcome.target_ref)
            if outcome.ok:
                row = moved_on(row, ItemState.DELIVERED, now)
                done.append((item, row))
            else:
                row = moved_on(row, ItemState.LEFT, now, outcome.reason)
                if outcome.lapsed:
                    self._claims.drop(message_key(item))
                else:
                    self._sorter.judged.add(message_key(item))
            rows.append(row)
        self._book.record(rows)
        return done

    def _count_refusals(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        if any(outcome.ok for outcome in outcomes):
            self._refused_batches = self._refused_items = 0
        elif all(outcome.permanent for outcome in outcomes):
            self._refused_items += len(outcomes)
        elif not any(outcome.lapsed for outcome in outcomes):
            self._refused_batches += 1

    def _collapse(self, found: Sorted) -> list[Claimed]:
        """Twins whose sibling's fate is known share it: deleted when it was delivered, left when
        it was left. The others wait, hidden."""
        done: list[Claimed] = []
        rows: list[LedgerRow] = []
        waiting: list[Claimed] = []
        for item, row in [*self._twins, *found.twins]:
            sibling = self._book.rows.get(application(row))
            if sibling is None or not self._decided(sibling):
                waiting.append((item, row))
            elif sibling.state in AT_TARGET and same_body(sibling, item):
                rows.append(moved_on(row, ItemState.DELIVERED, self._runtime.now(), COLLAPSED))
                done.append((item, rows[-1]))
            else:
                rows.append(self._stays(row, f"{TWIN}, which stays: {reason_of(sibling)}"))
                self._sorter.judged.add(message_key(item))
        self._twins = waiting
        self._book.record(rows)
        return done

    def _decided(self, row: LedgerRow) -> bool:
        """Not in doubt, and not left by an attempt before this one, which may try it again."""
        return row.state in AT_TARGET or (row.state is not ItemState.CLAIMED
                                          and row.message_id in self._sorter.judged)

    def _stays(self, row: LedgerRow, reason: str) -> LedgerRow:
        return moved_on(row, ItemState.LEFT, self._runtime.now(), reason)

    def _settle(self, pairs: Sequence[Claimed]) -> None:
        """Delete at the source. Only a yes while the claim still held is taken for one."""
        if not pairs:
            return
        held = self._claims.secure([message_key(item) for item, _ in pairs])
        answer = dict(self._claims.settle([item.handle for item, _ in pairs]) or {})
        again = [item.handle for item, _ in pairs if not answer.get(item.handle)]
        if again and not self._claims.dead:
            answer.update(self._claims.settle(again) or {})
        now, rows = self._runtime.now(), []
        for item, row in pairs:
            gone = bool(answer.get(item.handle))
            if gone and message_key(item) in held:
                rows += self._settled(item, row, now)
                self._claims.drop(message_key(item))
            else:
                self._unproven[row.item_id] = gone
        self._book.record(rows)

    def _settled(self, item: WorkItem, row: LedgerRow, now: int) -> list[LedgerRow]:
        """The item's own row, and those of earlier moves that this one brings to an end."""
        self._unproven.pop(row.item_id, None)
        own = moved_on(row, ItemState.SETTLED, now, reason_of(row))
        cleared = self._book.earlier.cleared(item, self._move.source, self._move.run, now)
        if is_copy(row):
            return [own, *cleared]
        return [own, *cleared, *self._book.earlier.returned(application(row), self._move, now)]

    # --- the end -----------------------------------------------------------------------------

    def _end(self) -> str:
        """Why there is nothing more to do; "" when there is."""
        if self._claims.dead:
            return f"{self._move.source} is out of reach: {self._claims.error}"
        if self._worn:
            return "items that stay cannot be kept hidden and have hardly a claim left"
        if self._target_refuses():
            return f"{self._move.target} takes no work"
        if self._limit is not None and self._book.moved >= self._limit:
            return "the limit is reached"
        if self._only is not None and all(self._book.is_settled(item) for item in self._only):
            return "each that was looked for is there"
        if self._claims.proven_empty():
            return "nothing else is there"
        if self._claims.out_of_patience():
            return f"{self._move.source} counts items that it does not show"
        if self._only is not None and self._runtime.monotonic() - self._came > self._patience:
            return f"others came in at {self._move.source}, and none that was looked for"
        return ""

    def _target_refuses(self) -> bool:
        return (self._refused_batches >= REFUSED_BATCHES
                or self._refused_items >= REFUSED_ITEMS)

    def _finish(self, why: str) -> MoveResult:
        """Close what is open as truly as can be told, and show again what stays."""
        proven = not self._claims.dead and self._claims.proven_empty()
        now, rows = self._runtime.now(), []
        for item, row in self._twins:
            rows.append(self._stays(row, f"{TWIN}, of which nothing is known"))
            self._sorter.judged.add(message_key(item))
        self._twins = []
        unproven = list(self._unproven) if why else []
        worked = bool(unproven) and self._worked()
        for row_id in unproven:
            row = self._book.rows[row_id]
            if proven or (self._unproven[row_id] and not self._claims.dead):
                own = vanished(row, ItemState.SETTLED, now,
                               f"no copy came back at {row.source}", worked=worked)
                rows += [own] if is_copy(row) else [
                    own, *self._book.earlier.returned(application(row), self._move, now)]
            elif row.state is not ItemState.STRANDED:
                rows.append(moved_on(row, ItemState.STRANDED, now, reason_of(row)
                                     or f"{NOT_DELETED} {row.source}"))
        self._book.record(rows)
        if not self._claims.dead and not proven:
            count = self._claims.unseen()
            doubt = self._book.count(ItemState.CLAIMED)
            self._unseen = self._unseen if count is None else max(0, count - doubt)
        elif proven:
            self._unseen = 0
        self._claims.give_back()
        self._started = False
        complete = proven or why == "the limit is reached"
        return self._result(bool(why), why or f"stopped; {self._note()}", complete)

    def _result(self, finished: bool, why: str, complete: bool = False) -> MoveResult:
        book, rows = self._book, self._book.rows.values()
        stranded, doubt = book.count(ItemState.STRANDED), book.count(ItemState.CLAIMED)
        parts = [why]
        if stranded:
            parts.append(f"{stranded} delivered, but not deleted at {self._move.source}")
        if doubt:
            parts.append(f"{doubt} in doubt: claimed, and not seen again")
        if self._unseen is None:
            parts.append(f"how many more wait at {self._move.source} cannot be told")
        elif self._unseen:
            parts.append(f"{self._unseen} more counted at {self._move.source}, not reached")
        return MoveResult(
            moved=book.moved,
            left=count_reasons(row for row in rows if row.state is ItemState.LEFT),
            quarantined=book.count(ItemState.QUARANTINED),
            possible_duplicates=sum(row.possible_duplicate for row in rows),
            duplicates_collapsed=book.collapsed,
            remaining_claimed=doubt, stranded=stranded, unreachable=self._unseen,
            finished=finished, complete=complete, source_dead=self._claims.dead,
            detail="; ".join(parts),
            refused=sum(row.state is ItemState.LEFT and reason_of(row).startswith(
                (REFUSED, LAPSED)) for row in rows),
            target_refuses=self._target_refuses())

    def _note(self) -> str:
        return f"{self._book.moved} moved, {self._claims.held} kept at {self._move.source}"
