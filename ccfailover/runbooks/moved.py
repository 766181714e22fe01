"""What the ledger and a finished move say of a `transfer` step."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ccfailover.model.items import ItemState
from ccfailover.runbooks.step import Observed, Truth
from ccfailover.store import Store

if TYPE_CHECKING:
    from ccfailover.transfer.ready import Ready
    from ccfailover.transfer.result import MoveResult

AT_TARGET = frozenset({ItemState.DELIVERED, ItemState.SETTLED, ItemState.STRANDED})
IN_DOUBT = frozenset({ItemState.CLAIMED, ItemState.DELIVERED})


class Moved:
    """What the step moved, by the ledger. `owner`: the run and step that have the move's rows;
    `undoing`: those of its undo."""

    def __init__(self, store: Store, owner: tuple[str, str], undoing: tuple[str, str]) -> None:
        self._store, self._owner, self._undoing = store, owner, undoing

    def count(self) -> int:
        return sum(self._counts(AT_TARGET).values())

    def any_in_doubt(self) -> bool:
        return any(self._counts(IN_DOUBT).values())

    def in_doubt(self) -> set[str]:
        """Items that this step claimed, or delivered, without knowing how that ended."""
        return self._ids(self._owner, IN_DOUBT)

    def away(self) -> set[str]:
        """Items this step delivered that its undo has not brought back."""
        return self._ids(self._owner, AT_TARGET) - self._ids(self._undoing, AT_TARGET)

    def _counts(self, states: Collection[ItemState]) -> dict[ItemState, int]:
        run, step = self._owner
        return self._store.item_counts(run=run, step=step, states=states)

    def _ids(self, move: tuple[str, str], states: Collection[ItemState]) -> set[str]:
        run, step = move
        return {row.item_id for row in self._store.items(run=run, step=step, states=states)}


def observed(result: MoveResult, ready: Ready | None, source: str, target: str) -> Observed:
    """A finished move: what a person must know of it are its exceptions.

    One whose target took nothing, or takes no more, is no success: the work still waits.
    """
    if result.target_refuses or (result.refused and not result.moved):
        return Observed(Truth.NO, f"{target} took {result.moved} and refused "
                                  f"{result.refused}: {result.detail}", final=True)
    told = []
    if result.refused:
        told.append(f"{result.refused} stay at {source}: {target} did not take them")
    if result.stranded:
        told.append(f"{result.stranded} delivered, their copies at {source} not deleted")
    if result.remaining_claimed:
        told.append(f"{result.remaining_claimed} in doubt: claimed at {source}, not seen again")
    if result.unreachable and not result.complete:  # else: beyond the limit, and meant to stay
        told.append(f"{result.unreachable} at {source} could not be reached")
    elif result.unreachable is None:
        told.append(f"{source} does not say how many it still holds")
    if result.quarantined:
        told.append(f"{result.quarantined} quarantined at {source}")
    if result.possible_duplicates:
        told.append(f"{result.possible_duplicates} possible duplicates at "
                    f"{target}: ccfailover transfer reconcile")
    if ready is not None and ready.left_over:
        told.append(f"{len(ready.left_over)} canaries may still wait at {target}, which are no "
                    f"applications: {', '.join(ready.left_over[:5])}")
    return Observed(Truth.YES, result.detail, exceptions=tuple(told), data={
        "ready": list(ready.said) if ready is not None else [],
        "moved": result.moved, "left": dict(result.left), "stranded": result.stranded,
        "quarantined": result.quarantined, "in_doubt": result.remaining_claimed,
        "unreachable": result.unreachable, "source_dead": result.source_dead,
        "possible_duplicates": result.possible_duplicates,
        "duplicates_collapsed": result.duplicates_collapsed,
        **({"undated": result.undated} if result.undated else {})})
