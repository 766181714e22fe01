"""What an item went through, as one text: a line for each state, oldest first.

A line: state, at (µs), possible duplicate (0 or 1), reason, the target's reference; and, where
a message was looked at, its id and the hop, which later lines then share. Between them stands the
unit separator, which no field can contain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ccfailover.model.items import ItemState
from ccfailover.store.ledger import ITS_OWN

if TYPE_CHECKING:
    from ccfailover.model.items import LedgerRow

_BETWEEN: Final = "\x1f"
_LOOKED_AT: Final = frozenset({ItemState.CLAIMED, ItemState.LEFT, ItemState.QUARANTINED})


def line(row: LedgerRow) -> str:
    """One line for the state that `row` is in, its end included."""
    state, looked = row.state, row.state in _LOOKED_AT
    rest = f"{row.reason}{_BETWEEN}{row.target_ref or ''}"
    if looked:
        rest = f"{rest}{_BETWEEN}{row.message_id}{_BETWEEN}{row.hop}"
    if rest.count(_BETWEEN) > (3 if looked else 1) or "\n" in rest:
        plain = [each.replace(_BETWEEN, " ").replace("\n", " ") for each in
                 (row.reason, row.target_ref or "", row.message_id)]
        rest = _BETWEEN.join([*plain, str(row.hop)] if looked else plain[:2])
    head = f"{state._value_}{_BETWEEN}{row.at}{_BETWEEN}{row.flags}"
    return f"{head}{_BETWEEN}{rest}\n"


def together(rows: Sequence[LedgerRow]) -> str:
    """The line that all of a lot share; of the target's references each has its own."""
    ref = ITS_OWN if any(row.target_ref for row in rows) else None
    return line(replace(rows[0], target_ref=ref))


def history(row: LedgerRow, trail: str) -> Iterator[LedgerRow]:
    """`row` as it was, state by state. Raises ValueError when the trail makes no sense."""
    last, now = row.target_ref, replace(row, handle="", possible_duplicate=False, resent=False)
    for each in trail.rstrip("\n").split("\n") if trail else ():
        state, at, flags, reason, target_ref, *message = each.split(_BETWEEN)
        if message:
            message_id, hop = message
            now = replace(now, message_id=message_id, hop=int(hop))
        now = replace(now, state=ItemState(state), at=int(at), reason=reason,
                      target_ref=(last if target_ref == ITS_OWN else target_ref) or None,
                      possible_duplicate=now.possible_duplicate or bool(int(flags) & 1),
                      resent=now.resent or bool(int(flags) & 2))
        yield now
