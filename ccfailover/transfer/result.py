"""What a move comes to, in counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccfailover.model.items import ItemState
from ccfailover.transfer.book import Book
from ccfailover.transfer.delivery import LAPSED, REFUSED


@dataclass(frozen=True)
class MoveResult:
    """Counts over the whole step, all attempts together, from the ledger.

    `moved`: items that the target got. `left`: copies that stay at the source, by reason;
    `quarantined`: malformed, oversized or contradictory ones, also there. `remaining_claimed`:
    in doubt: claimed once and not seen again. `stranded`: delivered, their copies at the source
    not deleted. `unreachable`: what the source counted and did not show (None: it never said).
    `finished` False: call `run` again; the claims of items that stay are kept until then.
    `complete`: the source is proven to hold nothing else that may go (or the limit is reached).
    `refused`: those of `left` that should have gone, and that the target did not take (or whose
    claim ended first). `target_refuses`: it took so little that the move was given up. `undated`:
    those of `moved` that do not say when they were submitted; they went first.
    """

    moved: int
    left: Mapping[str, int]
    quarantined: int
    possible_duplicates: int
    duplicates_collapsed: int
    remaining_claimed: int
    stranded: int
    unreachable: int | None
    finished: bool
    complete: bool
    source_dead: bool
    detail: str
    refused: int = 0
    target_refuses: bool = False
    undated: int = 0


def told(book: Book, source: str, why: str, *, unseen: int | None, finished: bool,
         complete: bool, source_dead: bool, target_refuses: bool) -> MoveResult:
    """What `book` comes to; `unseen`: what `source` counts beyond it (None: it does not say)."""
    stranded, doubt = book.count(ItemState.STRANDED), book.count(ItemState.CLAIMED)
    parts = [why]
    if stranded:
        parts.append(f"{stranded} delivered, but not deleted at {source}")
    if doubt:
        parts.append(f"{doubt} in doubt: claimed, and not seen again")
    if unseen is None:
        parts.append(f"how many more wait at {source} cannot be told")
    elif unseen:
        parts.append(f"{unseen} more counted at {source}, not reached")
    if book.undated:
        parts.append(f"{book.undated} of them say no date of submission, and went first")
    left = book.left()
    return MoveResult(
        moved=book.moved, left=left, quarantined=book.count(ItemState.QUARANTINED),
        possible_duplicates=book.possible_duplicates, duplicates_collapsed=book.collapsed,
        remaining_claimed=doubt, stranded=stranded, unreachable=unseen,
        finished=finished, complete=complete, source_dead=source_dead, detail="; ".join(parts),
        refused=sum(count for reason, count in left.items()
                    if reason.startswith((REFUSED, LAPSED))),
        target_refuses=target_refuses, undated=book.undated)


def speed(moved: int, seconds: float, left: int | None) -> str:
    """How fast it goes and how long it takes, as a person reads it; "" as long as nobody can
    tell."""
    if seconds < 1 or moved < 1:
        return ""
    rate = moved / seconds
    text = f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.1f}/s"
    if left:
        wait = left / rate
        text += f", {wait:.0f} s left" if wait < 100 else f", {wait / 60:,.0f} min left"
    return text
