"""What other moves of the same queue left behind, and what this one means for them.

Two things depend on it. A copy that an earlier move delivered and could not delete (its site had
died) must be deleted when its site is back, never delivered a second time. And an item that is
taken back is the earlier move's no longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ccfailover.model.items import ItemState, LedgerRow, WorkItem
from ccfailover.transfer.rows import AT_TARGET, Move, application, is_copy, moved_on, same_body

_UNDELETED = frozenset({ItemState.STRANDED, ItemState.DELIVERED})


class Earlier:
    """Rows of other moves (any run but this step's own) of one queue, by application: of those
    that `show` has been given, and of all further copies that `keep` was given."""

    def __init__(self, rows: Iterable[LedgerRow] = (), *, run: str, step: str) -> None:
        self._own = (run, step)
        self._rows: dict[str, list[LedgerRow]] = {}
        self._copies: dict[str, list[LedgerRow]] = {}
        self.show(rows)

    def keep(self, copies: Iterable[LedgerRow]) -> int:
        """Further copies are few, and found by the application, whatever their message; returns
        how many there are, this move's own included."""
        count = 0
        for row in copies:
            count += 1
            if (row.run, row.step) != self._own:
                self._copies.setdefault(application(row), []).append(row)
        return count

    def show(self, rows: Iterable[LedgerRow]) -> None:
        """Know these too, until they are forgotten."""
        fresh: dict[str, dict[tuple[str, str, str], LedgerRow]] = {}
        for row in rows:
            if (row.run, row.step) != self._own:
                fresh.setdefault(application(row), {})[row.run, row.step, row.item_id] = row
        for name, found in fresh.items():
            known = {(row.run, row.step, row.item_id): row
                     for row in (*self._copies.get(name, ()), *self._rows.get(name, ()))}
            self._rows[name] = sorted({**known, **found}.values(), key=lambda row: row.at)

    def forget(self, ids: Iterable[str]) -> None:
        """Only the copies of these applications are still needed."""
        if self._rows:
            for each in ids:
                self._rows.pop(each, None)

    @property
    def empty(self) -> bool:
        """Nothing was moved before, as a rule."""
        return not self._rows and not self._copies

    def _of(self, item_id: str) -> Sequence[LedgerRow]:
        if self.empty:
            return ()
        found = self._rows.get(item_id)
        return found if found is not None else self._copies.get(item_id, ())

    def leftover(self, item: WorkItem, site: str) -> LedgerRow | None:
        """The earlier delivery that makes this copy at `site` one to delete; None: there is none.

        It is one when that very message was delivered from here and the application has not come
        back to `site` since. Another message about the same application may be somebody's new
        work, even with the same body: it is not ours to delete. Only where a platform gives its
        messages no ids does the body decide.
        """
        for row in reversed(self._of(item.item_id)):
            if row.source == site and row.state in AT_TARGET:
                if row.message_id and item.message_id:
                    same = row.message_id == item.message_id
                else:
                    same = same_body(row, item)
                if same and not self.came_back(row):
                    return row
        return None

    def in_doubt(self, item: WorkItem, site: str) -> bool:
        """Did another move claim this copy at `site` and never learn whether its put landed?

        A run that is superseded between put and ledger leaves such rows; nobody resumes them.
        """
        rows = self._of(item.item_id)
        return bool(rows) and any(
            row.source == site and row.state is ItemState.CLAIMED and not is_copy(row)
            and (not row.message_id or row.message_id == item.message_id) for row in rows)

    def taken_on(self, row: LedgerRow) -> bool:
        """Did a later move find this application at the target of `row`, which is in doubt?"""
        return any(other.source == row.target and not is_copy(other)
                   and _after(other, row) for other in self._of(application(row)))

    def came_back(self, row: LedgerRow) -> bool:
        """Did a later move bring this application, or perhaps bring it, to where `row` took it
        from? Then what is found there may be its only copy."""
        touched = {*AT_TARGET, ItemState.CLAIMED, ItemState.RETURNED}
        return any(other.target == row.source and other.state in touched and _after(other, row)
                   for other in self._of(application(row)))

    def cleared(self, item: WorkItem, site: str, run: str, at: int) -> list[LedgerRow]:
        """The earlier delivery's row, now that its copy at `site` has been deleted by `run`."""
        row = self.leftover(item, site)
        if row is None or row.state is ItemState.SETTLED:
            return []
        return [moved_on(row, self.when_cleared(row), at,
                         f"its copy at {site} was deleted by {run}")]

    def when_cleared(self, row: LedgerRow) -> ItemState:
        """What a delivery becomes once no copy is left at its source: RETURNED when the item has
        left its target again meanwhile."""
        left = any(other.source == row.target and other.at >= row.at and not is_copy(other)
                   and other.state in {*AT_TARGET, ItemState.RETURNED}
                   for other in self._of(application(row)))
        return ItemState.RETURNED if left else ItemState.SETTLED

    def copy_waits(self, item_id: str, site: str) -> bool:
        """Does `site` still hold a copy that was delivered from there and not deleted?

        Then a second one must not be put beside it."""
        rows = self._of(item_id)
        return bool(rows) and any(row.source == site and row.state in _UNDELETED for row in rows)

    def returned(self, item_id: str, move: Move, at: int) -> list[LedgerRow]:
        """The earlier moves' rows of an item that `move` has now taken from their target.

        One whose copy may still be at its source stays open wherever the item goes on to: else
        nobody would delete that copy before the source's consumers work it a second time.
        """
        out = []
        for row in self._of(item_id):
            if row.state is not ItemState.SETTLED and row.source != move.target:
                continue
            if row.target == move.source and row.state in AT_TARGET and not is_copy(row):
                how = "taken back" if row.source == move.target else f"moved on to {move.target}"
                out.append(moved_on(row, ItemState.RETURNED, at, f"{how} by {move.run}"))
        return out

    def replace(self, row: LedgerRow) -> None:
        """Keep in step with what is about to be written of another move."""
        for held in (self._rows.get(application(row)), self._copies.get(application(row))):
            if held is not None:
                held[:] = [row if (old.run, old.step, old.item_id)
                           == (row.run, row.step, row.item_id) else old for old in held]


def _after(other: LedgerRow, row: LedgerRow) -> bool:
    """Every journey adds a hop; when a row was written says less, since each may be brought to
    its end late."""
    return (other.hop, other.at) >= (row.hop, row.at)
