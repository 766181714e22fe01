"""Moves a queue's work items from one site to another, so that none is lost and all are found.

For each batch: claim → ledger `claimed` → put with the key `item:run:hop` → ledger `delivered` →
settle → ledger `settled`. Several batches are on their way at once (`lanes`). Each arrow may be
the last thing this process does. What the next process finds in the ledger tells it what may have
happened: `claimed`, that the target may have the item; `delivered`, that it has it, and that the
source may have a copy too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import ItemState, LedgerRow, WorkItem
from ccfailover.model.journal import Lease
from ccfailover.model.policy import Queue, Site
from ccfailover.providers import Backlog
from ccfailover.runtime import Runtime
from ccfailover.transfer.again import Again
from ccfailover.transfer.book import Book
from ccfailover.transfer.claims import Claims, claims_of_one_item
from ccfailover.transfer.closing import close
from ccfailover.transfer.delivery import Delivery, Outcome, Parcel
from ccfailover.transfer.eligibility import Eligibility
from ccfailover.transfer.lanes import Lanes
from ccfailover.transfer.lots import Together
from ccfailover.transfer.pace import Pace, Turn
from ccfailover.transfer.records import find_out, pointer
from ccfailover.transfer.refusals import Refusals
from ccfailover.transfer.result import MoveResult as MoveResult
from ccfailover.transfer.result import speed, told
from ccfailover.transfer.resume import take_up
from ccfailover.transfer.rows import (
    AT_TARGET,
    Ledger,
    Move,
    application,
    is_copy,
    message_key,
    moved_on,
    same_body,
)
from ccfailover.transfer.sorting import COLLAPSED, TWIN, Claimed, Limits, Sorted, Sorter

LANES = 3
"""Batches on their way at once: one at the source, one at the target, one in the ledger."""

LIMIT = "the limit is reached"

SMALL = 10
"""With batches of so few items the platform's replies cost more than waiting for them."""


class Mover:
    """One move of one step. Keep the object between calls of `run`; after a crash make another
    one with the same `run` and `step` and the new lease: it resolves what is in doubt first.

    `target_capabilities` say whether the target swallows a repeated put, for how long, and how
    large an item it takes. `rate_per_second`: the most to put (None: no limit), with
    `turn` by all together who take turns there. `limit`: the most
    items to move in all (None: every eligible one). `only`: the ids to look for, until each was
    moved or none came for `patience`. `batch`: the most to claim at once (None: what the source
    gives). `give_up_after`: how long a source that does not answer is
    tried, seconds. `patience`: how long to wait for what the source counts and does not show; the
    default outlives a killed process's claims. `worked`: may the source's own consumers be at
    work? Then a copy that is gone without our deleting it may be worked. Raises Fenced and
    StoreError: this process must not go on; Refused when one look would use up an item's claims.
    """

    def __init__(
        self, source: Backlog, target: Backlog, *, store: Ledger, lease: Lease | None, run: str,
        step: str, queue: Queue, source_site: str, target_site: Site, eligibility: Eligibility,
        runtime: Runtime, target_capabilities: Capabilities,
        rate_per_second: float | None = None, turn: Turn | None = None, limit: int | None = None,
        only: Collection[str] | None = None, stop: Callable[[], bool] = lambda: False,
        check_fence: Callable[[], None] = lambda: None,
        progress: Callable[[int, int | None, str], None] = lambda done, total, note: None,
        batch: int | None = None, lanes: int | None = None, give_up_after: float = 15.0,
        patience: float | None = None, worked: Callable[[], bool] = lambda: True,
    ) -> None:
        self._source = source
        self._store, self._lease = store, lease
        self._move = Move(run, step, queue.name, source_site, target_site.name)
        self._queue = queue
        self._eligibility = eligibility
        self._capabilities = target_capabilities
        self._one_system = target_capabilities.assignee is not None
        self._runtime = runtime
        self._limit = limit
        self._only = only
        self._stop, self._check_fence, self._progress = stop, check_fence, progress
        self._batch = source.batch if batch is None else batch
        self._give_up_after = give_up_after
        self._worked = worked
        self._patience = source.claim_seconds + 15.0 if patience is None else patience
        self._pace = Pace(rate_per_second, runtime, turn)
        self._delivery = Delivery(target, target_capabilities, move=self._move, runtime=runtime,
                                  check_fence=check_fence)
        if lanes is None:
            lanes = 1 if self._batch <= SMALL or limit is not None else LANES
        self._lanes = Lanes(lanes, runtime)
        # Over what the lanes share: the rows at hand, the counts, who waits for whom.
        self._lock = RLock()
        self._started = False

    def run(self, deadline: float) -> MoveResult:
        """Move until done, or until `deadline` (monotonic seconds), or until asked to stop."""
        if not self._started:
            self._begin()
        going = True
        while going:
            self._why, self._over = "", False
            self._lanes.run(lambda: self._work(deadline))
            going = (self._why not in ("", LIMIT) and not self._broken()
                     and self._again.come(deadline, self._stop, self._check_fence))
        if not self._why and not self._stop():
            return self._result(False, f"out of time; {self._note()}")
        return self._finish(self._why)

    def _work(self, deadline: float) -> None:
        """One lane: batch after batch."""
        while self._goes_on(deadline):
            self._claims.keep_alive()
            with self._lanes.claiming:
                if self._over or self._lanes.failed:
                    return
                size = self._size()
                if not self._pace.wait(deadline, self._stop):
                    continue
                self._check_fence()
                began = self._runtime.monotonic()
                batch = self._claims.take(size)
                if batch:
                    self._hold(batch, began)
                    ticket = self._lanes.ticket()
            if batch:
                self._carry(batch, ticket, deadline)
                with self._lock:
                    self._progress(self._book.moved, self._total, self._speed())
            elif batch is not None:
                self._claims.pause()

    def _goes_on(self, deadline: float) -> bool:
        with self._lock:
            if not self._over:
                self._why = self._end()
                self._over = bool(self._why) or self._stop() or (
                    self._runtime.monotonic() >= deadline)
            return not self._over and not self._lanes.failed

    # --- the beginning -----------------------------------------------------------------------

    def _begin(self) -> None:
        move, runtime = self._move, self._runtime
        self._claims = Claims(self._source, runtime=runtime, give_up_after=self._give_up_after,
                              patience=self._patience)
        self._book = Book(self._store, self._lease, move, self._only)
        limits = Limits(self._queue.max_item_bytes, self._capabilities.max_item_bytes,
                        claims_of_one_item(self._source, move.source, move.queue))
        self._sorter = Sorter(move, rows=self._book.rows, earlier=self._book.earlier,
                              eligibility=self._eligibility, capabilities=self._capabilities,
                              limits=limits, holds=self._claims.surely_holds, runtime=runtime,
                              dated="submitted" in self._queue.item)
        self._twins: list[Claimed] = []
        self._unproven: dict[str, bool] = {}
        self._again = Again(self._claims, self._sorter.judged, runtime)
        self._refusals = Refusals()
        self._worn, self._came = False, self._runtime.monotonic()
        self._started = True
        count = self._claims.measure()
        here = self._book.here
        self._unseen = None if count is None else max(0, count.depth - here)
        self._total = None if self._unseen is None else self._unseen + here + self._book.moved
        self._since, self._before = self._runtime.monotonic(), self._book.moved
        if self._one_system or not self._book.empty:
            self._take_up()

    def _take_up(self) -> None:
        """What an attempt before this one left open is this one's now."""
        self._check_fence()
        if self._one_system:
            self._find_out()
        self._unproven = take_up(self._book, self._claims, self._sorter, self._runtime)

    def _find_out(self) -> None:
        """Within one system of record what is in doubt is asked, not waited for."""
        now = self._runtime.now()
        find_out(self._book, self._claims, self._delivery, now,
                 lambda row: self._settled(pointer(row), row, now))

    # --- one batch ---------------------------------------------------------------------------

    def _size(self) -> int:
        size = self._pace.most(self._batch, self._claims.seconds)
        return size if self._limit is None else max(1, min(size, self._limit - self._book.moved))

    def _hold(self, batch: Sequence[WorkItem], began: float) -> None:
        self._claims.hold({message_key(item): item.handle for item in batch}, since=began)
        if self._only is not None and any(item.item_id in self._only for item in batch):
            self._came = began

    def _carry(self, batch: Sequence[WorkItem], ticket: int, deadline: float) -> None:
        with self._at_hand(batch):
            with self._lock:
                found = self._sorter.sort(batch)
                self._worn = self._worn or found.worn
                if self._unseen is not None:
                    self._unseen = max(0, self._unseen - found.fresh)
                rows = self._book.note(found.rows)
            together = Together(self._book)
            together.begin(rows)
            outcomes: list[Outcome] = []
            with self._lanes.turn(ticket) as ours:
                if not ours:
                    return
                if found.put:
                    if self._lanes.count > 1:
                        self._pace.wait(deadline, self._stop)
                    self._pace.turn(len(found.put), self._claims.keep_alive)
                    outcomes = self._delivery.put(found.put, self._still_ours)
                    self._pace.spent(len(found.put))
            with self._lock:
                rows, done = self._delivered(outcomes)
                self._book.note(rows)
                twins, collapsed = self._collapse(found)
                self._book.note(twins)
            together.go_on(rows, ItemState.DELIVERED)
            self._book.write(twins)
            self._settle([*found.settle, *done, *collapsed], together)

    @contextmanager
    def _at_hand(self, batch: Sequence[WorkItem]) -> Iterator[None]:
        with self._lock:
            ids = self._book.ids(batch)
            self._book.open(ids)
        yield
        with self._lock:
            self._book.shut(ids)

    def _still_ours(self, parcels: Sequence[Parcel]) -> set[str]:
        ours = self._claims.secure([message_key(parcel.item) for parcel in parcels])
        return {parcel.item.item_id for parcel in parcels if message_key(parcel.item) in ours}

    def _delivered(self, outcomes: Sequence[Outcome]) -> tuple[list[LedgerRow], list[Claimed]]:
        """What became of the puts, for the ledger, and what is to be deleted at the source."""
        self._refusals.count(outcomes)
        now = self._runtime.now()
        rows, done = list[LedgerRow](), list[Claimed]()
        for outcome in outcomes:
            item, row = outcome.parcel.item, outcome.parcel.row
            if outcome.lapsed and outcome.parcel.doubtful:
                self._claims.drop(message_key(item))
                continue  # still in doubt, as the ledger says
            row = row.to(ItemState.DELIVERED if outcome.ok else ItemState.LEFT, now,
                         row.reason if outcome.ok else outcome.reason,
                         outcome.target_ref, outcome.possible_duplicate)
            if outcome.ok:
                done.append((item, row))
            else:
                if outcome.lapsed:
                    self._claims.drop(message_key(item))
                else:
                    self._sorter.judged.add(message_key(item))
                    if not outcome.permanent:
                        self._again.add(message_key(item))
            rows.append(row)
        return rows, done

    def _collapse(self, found: Sorted) -> tuple[list[LedgerRow], list[Claimed]]:
        """Twins whose sibling's fate is known share it: deleted when it was delivered, left when
        it was left. The others wait, hidden."""
        done: list[Claimed] = []
        rows: list[LedgerRow] = []
        waiting: list[Claimed] = []
        for item, row in [*self._twins, *found.twins]:
            sibling = self._book.row(application(row))
            if sibling is None or not self._decided(sibling):
                waiting.append((item, row))
            elif sibling.state in AT_TARGET and same_body(sibling, item):
                rows.append(moved_on(row, ItemState.DELIVERED, self._runtime.now(), COLLAPSED))
                done.append((item, rows[-1]))
            else:
                rows.append(self._stays(row, f"{TWIN}, which stays: {sibling.reason}"))
                self._sorter.judged.add(message_key(item))
                if (sibling.message_id or sibling.handle) in self._again:
                    self._again.add(message_key(item))
        self._twins = waiting
        return rows, done

    def _decided(self, row: LedgerRow) -> bool:
        """Not in doubt, and not left by an attempt before this one, which may try it again."""
        return row.state in AT_TARGET or (row.state is not ItemState.CLAIMED
                                          and (row.message_id or row.handle)
                                          in self._sorter.judged)

    def _stays(self, row: LedgerRow, reason: str) -> LedgerRow:
        return moved_on(row, ItemState.LEFT, self._runtime.now(), reason)

    def _settle(self, pairs: Sequence[Claimed], together: Together) -> None:
        """Delete at the source. Only a yes while the claim still held is taken for one."""
        if not pairs:
            return
        held = self._claims.secure([message_key(item) for item, _ in pairs])
        answer = dict(self._claims.settle([item.handle for item, _ in pairs]) or {})
        again = [item.handle for item, _ in pairs if not answer.get(item.handle)]
        if again and not self._claims.dead:
            answer.update(self._claims.settle(again) or {})
        now, rows, ended = self._runtime.now(), list[LedgerRow](), list[str]()
        with self._lock:
            for item, row in pairs:
                gone, key = bool(answer.get(item.handle)), message_key(item)
                if gone and key in held:
                    rows += self._settled(item, row, now)
                    ended.append(key)
                else:
                    self._unproven[row.item_id] = gone
            self._claims.drop(*ended)
            self._book.note(rows)
        together.go_on(rows, ItemState.SETTLED)

    def _settled(self, item: WorkItem, row: LedgerRow, now: int) -> list[LedgerRow]:
        """The item's own row, and those of earlier moves that this one brings to an end."""
        self._unproven.pop(row.item_id, None)
        own = moved_on(row, ItemState.SETTLED, now, row.reason)
        if self._book.earlier.empty:
            return [own]
        cleared = self._book.earlier.cleared(item, self._move.source, self._move.run, now)
        if is_copy(row):
            return [own, *cleared]
        return [own, *cleared, *self._book.earlier.returned(application(row), self._move, now)]

    # --- the end -----------------------------------------------------------------------------

    def _end(self) -> str:
        """Why there is nothing more to do; "" when there is."""
        if broken := self._broken():
            return broken
        if self._limit is not None and self._book.moved >= self._limit:
            return LIMIT
        if self._book.all_settled:
            return "each that was looked for is there"
        if self._claims.proven_empty():
            return "nothing else is there"
        if self._claims.out_of_patience():
            return f"{self._move.source} counts items that it does not show"
        if self._only is not None and self._runtime.monotonic() - self._came > self._patience:
            return f"others came in at {self._move.source}, and none that was looked for"
        return ""

    def _broken(self) -> str:
        """Why nothing more can be done; "" when it can."""
        if self._claims.dead:
            return f"{self._move.source} is out of reach: {self._claims.error}"
        if self._worn:
            return "items that stay cannot be kept hidden and have hardly a claim left"
        if self._refusals.enough:
            return f"{self._move.target} takes no work"
        return ""

    def _finish(self, why: str) -> MoveResult:
        """Close what is open as truly as can be told, and show again what stays."""
        if why and self._one_system and not (self._claims.dead or self._refusals.enough):
            self._find_out()
        proven = not self._claims.dead and self._claims.proven_empty()
        rows = []
        for item, row in self._twins:
            rows.append(self._stays(row, f"{TWIN}, of which nothing is known"))
            self._sorter.judged.add(message_key(item))
        self._twins = []
        self._book.record(rows)
        if why and self._unproven:
            close(self._book, self._claims, self._unproven, move=self._move, proven=proven,
                  worked=not self._one_system and self._worked(), now=self._runtime.now())
        if not self._claims.dead and not proven:
            count = self._claims.unseen()
            doubt = self._book.count(ItemState.CLAIMED)
            self._unseen = self._unseen if count is None else max(0, count - doubt)
        elif proven:
            self._unseen = 0
        self._claims.give_back()
        self._started = False
        complete = proven or why == LIMIT
        return self._result(bool(why), why or f"stopped; {self._note()}", complete)

    def _result(self, finished: bool, why: str, complete: bool = False) -> MoveResult:
        return told(self._book, self._move.source, why, unseen=self._unseen, finished=finished,
                    complete=complete, source_dead=self._claims.dead,
                    target_refuses=self._refusals.enough)

    def _note(self) -> str:
        return f"{self._book.moved} moved, {self._claims.held} kept at {self._move.source}"

    def _speed(self) -> str:
        return self._note() + speed(self._book.moved - self._before,
                                    self._runtime.monotonic() - self._since, self._unseen)
