"""What is to be done with each item of a claimed batch: put, settle, wait for its twin, or keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ccfailover.model.books import is_canary
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import ItemState, LedgerRow, WorkItem
from ccfailover.runtime import Runtime
from ccfailover.transfer.delivery import Parcel, swallows
from ccfailover.transfer.earlier import Earlier
from ccfailover.transfer.eligibility import Eligibility
from ccfailover.transfer.records import ASSIGNED_BACK, SECOND_RECORD
from ccfailover.transfer.rows import (
    AT_TARGET,
    UNDATED,
    Move,
    by_urgency,
    copy_id,
    is_dated,
    message_key,
    moved_on,
    nameless_id,
    same_body,
    usable_id,
)

TWIN = "identical copy of an item on its way"
COLLAPSED = "collapsed: identical copy, delivered once"
LEFTOVER = "already delivered by an earlier move"
TAKEN_ON = "a later move took it from where it went"

Claimed = tuple[WorkItem, LedgerRow]


@dataclass(frozen=True)
class Limits:
    """`max_receives`: claims that an item survives at the source; None: any number."""

    queue_bytes: int
    target_bytes: int
    max_receives: int | None


@dataclass
class Sorted:
    """`rows` is what the ledger must know before anything is done. `worn`: an item that was
    to stay hidden was claimed again, and has hardly a claim left."""

    put: list[Parcel] = field(default_factory=list)
    settle: list[Claimed] = field(default_factory=list)
    twins: list[Claimed] = field(default_factory=list)
    keep: list[WorkItem] = field(default_factory=list)
    rows: list[LedgerRow] = field(default_factory=list)
    noted: dict[str, LedgerRow] = field(default_factory=dict)
    fresh: int = 0
    worn: bool = False


class Sorter:
    """`rows` are this move's own, by ledger id, kept current by the caller; `holds` says whether
    a message is in this process's hands; `judged` are those that it has decided on already;
    `dated`, whether an item should say when it was submitted."""

    def __init__(self, move: Move, *, rows: Mapping[str, LedgerRow], earlier: Earlier,
                 eligibility: Eligibility, capabilities: Capabilities, limits: Limits,
                 holds: Callable[[str], bool], runtime: Runtime, dated: bool = False) -> None:
        self._move = move
        self._rows = rows
        self._earlier = earlier
        self._eligibility = eligibility
        self._capabilities = capabilities
        self._one_system = capabilities.assignee is not None
        self._limits = limits
        self._holds, self._dated = holds, dated
        self._runtime = runtime
        self._nothing_before = False
        self.judged: set[str] = set()

    def sort(self, batch: Sequence[WorkItem]) -> Sorted:
        out = Sorted()
        # As a rule nothing was moved before this move: then nothing is asked of that.
        self._nothing_before = self._earlier.empty
        later: list[WorkItem] = []
        for item in by_urgency(batch):
            if item.problem is not None or not usable_id(item.item_id) or is_canary(item.item_id):
                self._malformed(item, out)
            elif not self._known(item, out):
                if item.item_id in self._rows or item.item_id in out.noted:
                    later.append(item)
                else:
                    self._decide(item, None, out)
        for item in later:
            self._second(item, out)
        return out

    def _has_row(self, item: WorkItem) -> bool:
        """Is the row of this application about this very message?"""
        row = self._rows.get(item.item_id)
        if row is None or row.message_id != item.message_id:
            return False
        if row.message_id or row.handle == item.handle:
            return True
        # Messages without ids: one with the same body is the same, come back under another
        # handle. Unless the other is still in our hands: then there are two.
        return same_body(row, item) and not self._holds(row.handle)

    # --- seen before -------------------------------------------------------------------------

    def _known(self, item: WorkItem, out: Sorted) -> bool:
        """Deal with a message that has a row of its own; False when it has none."""
        row, own = self._rows.get(copy_id(item)), self._rows.get(item.item_id)
        if row is None and own is None:
            return False
        # Of messages without ids, alike, which come once more, the first to come is the original.
        first = not item.message_id and own is not None and own.state is ItemState.LEFT
        if (row is None or first) and self._has_row(item):
            row = own
        if row is None:
            return False
        if row.state in AT_TARGET and self._earlier.came_back(row):
            self._stay(item, copy_id(item), ItemState.LEFT, TAKEN_ON, out)
        elif row.state in AT_TARGET and self._one_system:
            self._stay(item, copy_id(item), ItemState.LEFT, ASSIGNED_BACK, out)
        elif row.state in AT_TARGET:
            self._settle(item, replace(row, state=ItemState.DELIVERED, handle=item.handle), out)
        elif row.state is ItemState.RETURNED:
            self._stay(item, copy_id(item), ItemState.LEFT, TAKEN_ON, out)
        elif row.state is ItemState.CLAIMED and row.item_id == copy_id(item):
            out.twins.append((item, self._note(replace(row, handle=item.handle), out)))
        elif row.state is ItemState.CLAIMED and self._earlier.taken_on(row):
            # It had landed, and is there no more. The target, which swallows a repetition, would
            # swallow this one, and the copy here would be deleted as delivered.
            self._note(moved_on(replace(row, possible_duplicate=True), ItemState.RETURNED,
                                self._runtime.now(), TAKEN_ON), out)
            self._stay(item, copy_id(item), ItemState.LEFT, TAKEN_ON, out)
        elif row.state is ItemState.CLAIMED:
            self._put(item, row, out)
        elif message_key(item) in self.judged:
            self._keep_again(item, out)
        elif row.item_id == item.item_id:
            self._decide(item, row, out)
        else:
            self._second(item, out)
        return True

    def _keep_again(self, item: WorkItem, out: Sorted) -> None:
        out.keep.append(item)
        most = self._limits.max_receives
        out.worn = out.worn or (most is not None and item.receives >= most - 1)

    # --- seen for the first time -------------------------------------------------------------

    def _malformed(self, item: WorkItem, out: Sorted) -> None:
        if message_key(item) in self.judged:
            self._keep_again(item, out)
            return
        usable = usable_id(item.item_id)
        why = item.problem or "its id cannot be used as a key"
        why = "a canary, and no application" if is_canary(item.item_id) else f"malformed: {why}"
        self._stay(item, copy_id(item) if usable else nameless_id(item), ItemState.QUARANTINED,
                   " ".join(why.split())[:131], out)

    def _decide(self, item: WorkItem, row: LedgerRow | None, out: Sorted) -> None:
        """Judge an item that has no row, or one that an earlier attempt left where it was."""
        before = self._leftover(item)
        if before is not None:
            self._settle(item, self._move.row(
                item, ItemState.DELIVERED, self._runtime.now(), row_id=copy_id(item),
                reason=f"{LEFTOVER} ({before.run})"), out)
            return
        too_big = self._oversized(item)
        if too_big is not None:
            self._stay(item, item.item_id, ItemState.QUARANTINED, too_big, out)
            return
        reason = self._why_not(item)
        if reason is not None:
            self._stay(item, item.item_id, ItemState.LEFT, reason, out)
            return
        self._put(item, row, out)

    def _leftover(self, item: WorkItem) -> LedgerRow | None:
        """A record has no copies: one that is here again was assigned back by somebody."""
        if self._one_system or self._nothing_before:
            return None
        return self._earlier.leftover(item, self._move.source)

    def _why_not(self, item: WorkItem) -> str | None:
        if not (self._nothing_before or self._one_system) and self._earlier.copy_waits(
                item.item_id, self._move.target):
            return (f"a copy of it still waits at {self._move.target}; that one has to be "
                    "cleared first")
        most = self._limits.max_receives
        if most is not None and item.receives >= most:
            return f"claimed {item.receives} times of {most}: the platform puts it aside next"
        return self._eligibility.judge(item)

    def _oversized(self, item: WorkItem) -> str | None:
        size = len(item.body)
        if size > self._limits.queue_bytes:
            return f"oversized: more than the {self._limits.queue_bytes} bytes the queue allows"
        if size > self._limits.target_bytes:
            return (f"oversized: more than the {self._limits.target_bytes} bytes "
                    f"{self._move.target} can take")
        return None

    def _put(self, item: WorkItem, row: LedgerRow | None, out: Sorted) -> None:
        now = self._runtime.now()
        reason = UNDATED if self._dated and not is_dated(item) else ""
        doubtful = row is not None and (row.state is ItemState.CLAIMED or row.possible_duplicate)
        if row is None or not doubtful:
            fresh = self._move.row(
                item, ItemState.CLAIMED, now, reason=reason,
                possible_duplicate=not (self._nothing_before or self._one_system)
                and self._earlier.in_doubt(item, self._move.source))
        else:
            # The instant of the first put is kept: from it the target's window runs.
            twice = row.possible_duplicate or not swallows(self._capabilities, row.at, now)
            fresh = self._move.row(item, ItemState.CLAIMED, row.at, reason=reason,
                                   possible_duplicate=twice)
        out.put.append(Parcel(item, self._note(fresh, out), doubtful))

    # --- a further message with an id that is taken ------------------------------------------

    def _second(self, item: WorkItem, out: Sorted) -> None:
        before = self._leftover(item)
        if before is not None:
            self._decide(item, None, out)
            return
        sibling = out.noted.get(item.item_id) or self._rows.get(item.item_id)
        if sibling is None:
            self._decide(item, None, out)
        elif sibling.state in AT_TARGET and self._earlier.came_back(sibling):
            self._stay(item, copy_id(item), ItemState.LEFT, TAKEN_ON, out)
        elif self._one_system and sibling.message_id == item.message_id:
            self._stay(item, copy_id(item), ItemState.LEFT, ASSIGNED_BACK, out)
        elif self._one_system:
            self._stay(item, copy_id(item), ItemState.QUARANTINED, SECOND_RECORD, out)
        elif not same_body(sibling, item):
            self._stay(item, copy_id(item), ItemState.QUARANTINED,
                       "same id as another item, but another body", out)
        else:
            out.twins.append((item, self._note(self._move.row(
                item, ItemState.CLAIMED, self._runtime.now(), row_id=copy_id(item), reason=TWIN),
                out)))

    # --- endings -----------------------------------------------------------------------------

    def _stay(self, item: WorkItem, row_id: str, state: ItemState, reason: str,
              out: Sorted) -> None:
        old = self._rows.get(row_id)
        self.judged.add(message_key(item))
        out.keep.append(item)
        self._note(self._move.row(item, state, self._runtime.now(), row_id=row_id, reason=reason,
                                  possible_duplicate=old is not None and old.possible_duplicate),
                   out)

    def _settle(self, item: WorkItem, row: LedgerRow, out: Sorted) -> None:
        out.settle.append((item, self._note(row, out)))

    def _note(self, row: LedgerRow, out: Sorted) -> LedgerRow:
        out.fresh += row.item_id not in self._rows
        out.rows.append(row)
        out.noted.setdefault(row.item_id, row)
        return row
