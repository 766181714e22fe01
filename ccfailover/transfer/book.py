"""What the ledger knows of one move: the rows at hand in memory, and running counts of all.

However many items a move has, only those of the batches on their way are held here: what a batch
needs to know is looked up when it has been claimed. So a second mover on the same queue, or this
one's predecessor on another machine, is seen as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ccfailover.model.items import ItemState, LedgerRow, Lot, WorkItem
from ccfailover.model.journal import Lease
from ccfailover.transfer.earlier import Earlier
from ccfailover.transfer.rows import (
    AT_SOURCE,
    AT_TARGET,
    COPY,
    NO_REASON,
    UNDATED,
    Ledger,
    Move,
    by_frequency,
    copy_id,
    is_copy,
    nameless_id,
    usable_id,
)

REASONS = 1000
"""Different reasons that are counted apart; a hostile target can make up any number."""
OTHER = "other reasons"


class Book:
    """`only`: ids to be watched for, see `found`. Not safe for several threads by itself."""

    def __init__(self, store: Ledger, lease: Lease | None, move: Move,
                 only: Collection[str] | None) -> None:
        self._store, self._lease, self._move = store, lease, move
        self._rows: dict[str, LedgerRow] = {}
        self._at_hand: dict[str, int] = {}
        self.earlier = Earlier(run=move.run, step=move.step)
        self._copies = self.earlier.keep(
            store.items(queue=move.queue, like=f"%{COPY}%")) > 0
        self._counts: Counter[tuple[ItemState, bool]] = Counter()
        self.possible_duplicates = 0
        self.newest = 0
        for each in store.item_tally(run=move.run, step=move.step, queue=move.queue, mark=COPY):
            self._counts[each.state, each.marked] += each.count
            self.possible_duplicates += each.count if each.possible_duplicate else 0
            self.newest = max(self.newest, each.latest)
        self.reasons: Counter[str] = Counter()
        if self.count(ItemState.LEFT):
            self.reasons.update(store.item_reasons(
                run=move.run, step=move.step, queue=move.queue, states=(ItemState.LEFT,),
                most=REASONS))
        self.undated = 0
        if self.moved:
            self.undated = store.item_reasons(
                run=move.run, step=move.step, queue=move.queue, states=AT_TARGET, most=REASONS
            ).get(UNDATED, 0)
        self._wanted = None if only is None else {
            item for item in only
            if self.count(ItemState.SETTLED) == 0 or not self._is_settled(item)}

    # --- rows at hand --------------------------------------------------------------------------

    @property
    def rows(self) -> Mapping[str, LedgerRow]:
        """This move's own, by ledger id; complete for the ids of every batch at hand."""
        return self._rows

    def open(self, ids: Collection[str]) -> None:
        """Have at hand what the ledger knows under these ids, until `shut`."""
        self._fetch(ids)
        at_hand = self._at_hand
        for each in ids:
            at_hand[each] = at_hand.get(each, 0) + 1

    def shut(self, ids: Collection[str]) -> None:
        gone = []
        for each in ids:
            self._at_hand[each] -= 1
            if not self._at_hand[each]:
                gone.append(each)
        for each in gone:
            del self._at_hand[each]
            self._rows.pop(each, None)
        self.earlier.forget(gone)

    def row(self, row_id: str) -> LedgerRow | None:
        """This move's own row of that id, wherever it is."""
        found = self._rows.get(row_id)
        if found is None:
            found = next((row for row in self._store.items_of(self._move.queue, [row_id])
                          if self._is_own(row)), None)
        return found

    def stored(self, *states: ItemState) -> Iterator[LedgerRow]:
        """This move's own rows in these states, as the ledger has them."""
        return self._store.items(run=self._move.run, step=self._move.step,
                                 queue=self._move.queue, states=states)

    def doubtful(self) -> Iterator[LedgerRow]:
        """Of this move, and of other runs between the same sites: puts whose end nobody knows."""
        return (row for row in self._store.items(queue=self._move.queue,
                                                 states=(ItemState.CLAIMED,))
                if (row.source, row.target) == (self._move.source, self._move.target))

    def ids(self, batch: Sequence[WorkItem]) -> set[str]:
        """Every id under which there may be a row about an item of the batch."""
        ids = {item.item_id for item in batch}
        if self._copies:
            ids |= {copy_id(item) for item in batch}
        if not all(item.problem is None and usable_id(item.item_id) for item in batch):
            ids |= {nameless_id(item) for item in batch}
        return ids

    def _fetch(self, ids: Collection[str]) -> None:
        """What is at hand already is newer here than in the ledger."""
        unknown = [each for each in ids if each not in self._at_hand]
        others: list[LedgerRow] = []
        for row in self._store.items_of(self._move.queue, unknown):
            if self._is_own(row):
                self._rows[row.item_id] = row
            else:
                others.append(row)
        self.earlier.show(others)

    @property
    def own(self) -> tuple[str, str]:
        """Run and step of this move's own rows."""
        return self._move.run, self._move.step

    def _is_own(self, row: LedgerRow) -> bool:
        return row.run == self._move.run and row.step == self._move.step

    # --- writing -------------------------------------------------------------------------------

    def note(self, rows: Iterable[LedgerRow]) -> list[LedgerRow]:
        """Reckon with these rows from now on; returns what `write` must then be given."""
        rows = list(rows)
        alike = list[tuple[ItemState | None, ItemState]]()
        held, at_hand, (run, step) = self._rows, self._at_hand, self.own
        left, any_item = ItemState.LEFT, self._wanted is None
        for row in rows:  # of a million; so `_is_own` and `plain` stand here in full
            item = row.item_id
            if row.run != run or row.step != step:
                self.earlier.replace(row)
                continue
            old = held.get(item) if item in at_hand else self.row(item)
            if any_item and item in at_hand and COPY not in item and row.state is not left \
                    and not (row.reason or row.possible_duplicate or row.resent) \
                    and (old is None or (old.plain and old.state is not left)):
                held[item] = row  # nearly all of them
                alike.append((None if old is None else old.state, row.state))
            else:
                self._reckon(old, row)
        for (before, now), count in Counter(alike).items():
            if before is not None:
                self._counts[before, False] -= count
            self._counts[now, False] += count
        return rows

    def write(self, rows: Sequence[LedgerRow], lot: Lot | None = None) -> str | None:
        """One durable transaction under the fence; only then may anything rest on it. Returns the
        name of the lot."""
        if not rows and lot is None:
            return None
        return self._store.record_items(rows, lease=self._lease, lot=lot)

    def record(self, rows: Iterable[LedgerRow]) -> None:
        self.write(self.note(rows))

    def _reckon(self, old: LedgerRow | None, row: LedgerRow) -> None:
        copy = is_copy(row)
        if row.reason or (old is not None and old.reason):
            self.undated += _went_undated(row) - (old is not None and _went_undated(old))
        if old is not None:
            self._counts[old.state, copy] -= 1
            self.possible_duplicates -= old.possible_duplicate
            if old.state is ItemState.LEFT:
                self._reason(old, -1)
            if old.possible_duplicate and not row.possible_duplicate:
                row = replace(row, possible_duplicate=True)  # as the ledger keeps it
        self._counts[row.state, copy] += 1
        self.possible_duplicates += row.possible_duplicate
        if row.state is ItemState.LEFT:
            self._reason(row, 1)
        self._copies = self._copies or copy
        if row.item_id in self._at_hand:
            self._rows[row.item_id] = row
        if self._wanted is not None and row.state is ItemState.SETTLED:
            self._wanted.discard(row.item_id)

    def _reason(self, row: LedgerRow, count: int) -> None:
        why = row.reason or NO_REASON
        if why not in self.reasons and (count < 0 or len(self.reasons) >= REASONS):
            why = OTHER
        self.reasons[why] += count

    # --- counts --------------------------------------------------------------------------------

    def count(self, *states: ItemState) -> int:
        return sum(self._counts[state, copy] for state in states for copy in (False, True))

    @property
    def empty(self) -> bool:
        return not any(self._counts.values())

    @property
    def all_settled(self) -> bool:
        """Each of `only` is at the target, and no copy of it at the source."""
        return self._wanted is not None and not self._wanted

    def _is_settled(self, item_id: str) -> bool:
        row = self.row(item_id)
        return row is not None and row.state is ItemState.SETTLED

    @property
    def moved(self) -> int:
        """Applications that the target got."""
        return sum(self._counts[state, False] for state in AT_TARGET)

    @property
    def collapsed(self) -> int:
        """Further copies, deleted because the target has the application already."""
        return sum(self._counts[state, True] for state in AT_TARGET)

    @property
    def here(self) -> int:
        """Copies that are, or may be, at the source."""
        return self.count(*AT_SOURCE)

    def left(self) -> Mapping[str, int]:
        """How many stay, by reason, the most frequent first."""
        return by_frequency(self.reasons)


def _went_undated(row: LedgerRow) -> bool:
    return row.reason == UNDATED and row.state in AT_TARGET
