"""What a move comes to, in counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
    claim ended first). `target_refuses`: it took so little that the move was given up.
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
