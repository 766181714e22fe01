"""What the ledger says of one move: ids, keys, digests, and rows made from claimed items.

One row stands for one physical copy at the source. The first copy of an application carries the
lender's id; a further copy of the same application, and a message whose id cannot be read, have
ids of their own (`…#copy:<message>`, `#message:<message>`), so that counts add up copy by copy.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, TypeVar

from ccfailover.model.items import ItemState, LedgerRow, Lot, Tally, WorkItem
from ccfailover.model.journal import Lease

T = TypeVar("T")

COPY = "#copy:"
NAMELESS = "#message:"
LONGEST_ID = 200
NOT_DELETED = "its copy could not be deleted at"

NO_REASON = "no reason recorded"
UNDATED = "no date of submission: its legal deadline is unknown"

_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}")

AT_TARGET = frozenset({ItemState.DELIVERED, ItemState.SETTLED, ItemState.STRANDED})
"""The target has the item (or had it, until it was done or returned)."""

AT_SOURCE = frozenset({
    ItemState.LEFT, ItemState.QUARANTINED, ItemState.CLAIMED, ItemState.DELIVERED,
    ItemState.STRANDED,
})
"""A copy is, or may still be, at the source."""

class Ledger(Protocol):
    """The part of the store that moves need. `ccfailover.store.Store` is one."""

    def record_items(self, rows: Sequence[LedgerRow], *, lease: Lease | None,
                     lot: Lot | None = None) -> str | None: ...

    def items(self, *, run: str | None = None, step: str | None = None, queue: str | None = None,
              states: Collection[ItemState] | None = None,
              like: str | None = None) -> Iterator[LedgerRow]: ...

    def items_of(self, queue: str, ids: Collection[str]) -> list[LedgerRow]: ...

    def item_tally(self, *, run: str, step: str, queue: str, mark: str) -> Sequence[Tally]: ...

    def item_reasons(self, *, run: str, step: str, queue: str, states: Collection[ItemState],
                     most: int) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class Move:
    """Which move: a run's step that takes one queue's items from one site to another."""

    run: str
    step: str
    queue: str
    source: str
    target: str

    def key(self, item: WorkItem) -> str:
        """The idempotency key `item:run:hop`: the same on every attempt of this run, another one
        when the item travels again, so that no platform swallows a return as a repetition."""
        return f"{item.item_id}:{self.run}:{item.hops + 1}"  # as LedgerRow.delivery_key

    def row(self, item: WorkItem, state: ItemState, at: int, *, row_id: str | None = None,
            reason: str = "", possible_duplicate: bool = False) -> LedgerRow:
        return LedgerRow(
            self.run, self.step, row_id or item.item_id, self.queue, self.source, self.target,
            state, at, reason, item.message_id, item.handle, item.submitted, item.hops + 1,
            possible_duplicate, None, _digest(self.run, item))


def _digest(run: str, item: WorkItem) -> str:
    """Of the body, keyed by run and id: tells copies apart and says nothing else."""
    made = _keyed(run).copy()
    made.update(item.item_id.encode() + b"\0" + item.body)
    return made.hexdigest()


@lru_cache(maxsize=64)
def _keyed(run: str) -> hashlib.blake2b:
    return hashlib.blake2b(key=run.encode()[:64], digest_size=16)


def same_body(row: LedgerRow, item: WorkItem) -> bool:
    """Is the body of `item` the one that `row` was written for? False when the row has none."""
    return bool(row.digest) and hmac.compare_digest(row.digest, _digest(row.run, item))


def moved_on(row: LedgerRow, state: ItemState, at: int, reason: str | None = None, *,
             handle: str | None = None) -> LedgerRow:
    """`row` in its next state; the reason of the former state goes unless another is given."""
    row = row.to(state, at, reason or "", row.target_ref, row.possible_duplicate)
    return row if handle is None else replace(row, handle=handle)


def vanished(row: LedgerRow, state: ItemState, at: int, what: str, *, worked: bool) -> LedgerRow:
    """A delivery whose copy is gone from its source, and not by a deletion that we saw succeed.

    Ours may have worked unheard. Where the source's own consumers may have been at work
    (`worked`), they may have had it instead, and then two sites work one application.
    """
    kept = "" if row.reason.startswith(NOT_DELETED) else row.reason  # what is gone was not kept
    said = f"{what}: it may have been worked there" if worked else kept or what
    return replace(
        moved_on(row, state, at, said), possible_duplicate=row.possible_duplicate or worked)


def is_copy(row: LedgerRow) -> bool:
    """A further copy of an application that has a row of its own."""
    return COPY in row.item_id


def is_nameless(row: LedgerRow) -> bool:
    return row.item_id.startswith(NAMELESS)


def application(row: LedgerRow) -> str:
    """The lender's id; for a message without a readable one, the ledger's own."""
    return row.item_id.split(COPY, 1)[0]


def copy_id(item: WorkItem) -> str:
    return f"{item.item_id}{COPY}{item.message_id}"


def message_key(item: WorkItem) -> str:
    """Tells messages apart; a platform that gives them no ids is left with the claim's handle."""
    return item.message_id or item.handle


def nameless_id(item: WorkItem) -> str:
    return f"{NAMELESS}{item.message_id or item.handle[:LONGEST_ID]}"


def usable_id(item_id: str) -> bool:
    """An id that can be a key and be shown: printable, not too long, none of our own marks."""
    return (0 < len(item_id) <= LONGEST_ID and item_id.isprintable()
            and COPY not in item_id and not item_id.startswith(NAMELESS))


def cut(ids: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """In pieces of at most `size`."""
    for start in range(0, len(ids), size):
        yield ids[start:start + size]


def is_dated(item: WorkItem) -> bool:
    """Does the item itself say when it was submitted? (A platform's own time of arrival is no
    such date, and neither is `NA`.)"""
    said = item.fields.get("submitted")
    return isinstance(said, str | int) and _says_a_date(str(said)[:64])


@lru_cache(maxsize=4096)  # there are far fewer days than applications
def _says_a_date(text: str) -> bool:
    return _DATE.match(text) is not None


def by_urgency(items: Iterable[WorkItem]) -> list[WorkItem]:
    """The nearest legal deadline first: the clock of every application runs from the day it was
    submitted. Those without a date may be the oldest of all, and go before the others."""
    return sorted(items, key=lambda item: (is_dated(item), item.submitted or "",
                                           item.item_id, item.message_id))


def count_reasons(rows: Iterable[LedgerRow]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        reason = row.reason or NO_REASON
        counts[reason] = counts.get(reason, 0) + 1
    return by_frequency(counts)


def by_frequency(counts: Mapping[str, int]) -> Mapping[str, int]:
    """The most frequent reasons first; those of nothing are left out."""
    return dict(sorted(((why, count) for why, count in counts.items() if count > 0),
                       key=lambda pair: (-pair[1], pair[0])))
