"""Work items: pointers to applications that stay in the lender's system of record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple


class ItemState(str, Enum):
    """Where one item is, as the ledger knows it; an item is always in exactly one state.

    LEFT: inspected and not taken (the reason is recorded). CLAIMED: hidden at the source, may
    be on its way. DELIVERED: the target has it, the source copy is not yet deleted. SETTLED:
    only the target has it. STRANDED: delivered, but the source died before the delete.
    QUARANTINED: malformed or oversized. RETURNED: taken back by a later run.
    """

    __hash__ = str.__hash__  # an enum's own is Python code, and states are keys of every count

    LEFT = "left"
    CLAIMED = "claimed"
    DELIVERED = "delivered"
    SETTLED = "settled"
    STRANDED = "stranded"
    QUARANTINED = "quarantined"
    RETURNED = "returned"


@dataclass(init=False, repr=False)
class WorkItem:
    """One claimed message: opaque body, decoded fields, and what travels with it.

    `item_id` is the lender's id of the application (policy `item.id`); `handle` is what the
    platform needs to settle or release this claim; `submitted` is the original time, whatever
    hop this is. `fields` feed eligibility and are never logged. `problem` is set when the body
    could not be understood: such an item is quarantined, never moved.
    """

    item_id: Final[str]
    message_id: Final[str]
    body: Final[bytes]
    fields: Final[Mapping[str, object]]
    handle: Final[str]
    submitted: Final[str | None]
    hops: Final[int]
    receives: Final[int]
    problem: Final[str | None]
    attributes: Final[Mapping[str, str]]

    # Frozen for mypy and not for Python, whose way of freezing triples what making one costs.
    def __init__(
        self, item_id: str, message_id: str, body: bytes, fields: Mapping[str, object],
        handle: str, submitted: str | None = None, hops: int = 0, receives: int = 1,
        problem: str | None = None, attributes: Mapping[str, str] | None = None,
    ) -> None:
        self.item_id = item_id
        self.message_id = message_id
        self.body = body
        self.fields = fields
        self.handle = handle
        self.submitted = submitted
        self.hops = hops
        self.receives = receives
        self.problem = problem
        self.attributes = {} if attributes is None else attributes

    def __repr__(self) -> str:
        """Without what it says: that is the borrower's."""
        return f"WorkItem({self.item_id!r}, {self.message_id!r}, problem={self.problem!r})"

    def travelled(self) -> WorkItem:
        """This item, a hop further."""
        return WorkItem(self.item_id, self.message_id, self.body, self.fields, self.handle,
                        self.submitted, self.hops + 1, self.receives, self.problem,
                        self.attributes)


class PutResult(NamedTuple):
    """What became of one item in a batch. `ok` False with `in_doubt` True: it may be there.

    `target_ref`: what the platform calls it there; one that has no name of its own, the key.
    `retry_after`: the seconds after which the platform wants to be asked again. `repeated`: an
    earlier attempt may have landed, too."""

    item_id: str
    ok: bool
    in_doubt: bool = False
    permanent: bool = False
    detail: str = ""
    target_ref: str | None = None
    retry_after: float | None = None
    repeated: bool = False


class Acknowledged(str, Enum):
    """What the receiver has said of a delivery: nothing yet, that it takes it, that it does not."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Receipt:
    """`reason`: of a rejection; a code or a sentence of ours, never the receiver's own words."""

    state: Acknowledged
    reason: str = ""


@dataclass(frozen=True)
class Tally:
    """How many rows of a move are alike: in one `state`, `marked` (a part of their id) or not,
    possible duplicates or not. `latest`: the newest of them, µs."""

    state: ItemState
    marked: bool
    possible_duplicate: bool
    count: int
    latest: int


@dataclass(init=False, repr=False, unsafe_hash=True)
class LedgerRow:
    """One item in one move. `key` (`run/step`) and `hop` make deliveries idempotent.

    `digest`: of the body, keyed; it tells copies apart and says nothing else ("": not known).
    `possible_duplicate`: the target may have it twice. `resent`: a put whose end nobody knew was
    made again, so that it may have come to the target's door more than once.
    """

    run: Final[str]
    step: Final[str]
    item_id: Final[str]
    queue: Final[str]
    source: Final[str]
    target: Final[str]
    state: Final[ItemState]
    at: Final[int]
    reason: Final[str]
    message_id: Final[str]
    handle: Final[str]
    submitted: Final[str | None]
    hop: Final[int]
    possible_duplicate: Final[bool]
    target_ref: Final[str | None]
    digest: Final[str]
    resent: Final[bool]

    # Frozen for mypy and not for Python, as WorkItem: a move makes three of them an item.
    def __init__(
        self, run: str, step: str, item_id: str, queue: str, source: str, target: str,
        state: ItemState, at: int, reason: str = "", message_id: str = "", handle: str = "",
        submitted: str | None = None, hop: int = 0, possible_duplicate: bool = False,
        target_ref: str | None = None, digest: str = "", resent: bool = False,
    ) -> None:
        self.run = run
        self.step = step
        self.item_id = item_id
        self.queue = queue
        self.source = source
        self.target = target
        self.state = state
        self.at = at
        self.reason = reason
        self.message_id = message_id
        self.handle = handle
        self.submitted = submitted
        self.hop = hop
        self.possible_duplicate = possible_duplicate
        self.target_ref = target_ref
        self.digest = digest
        self.resent = resent

    def __repr__(self) -> str:
        said = {name: value for name, value in vars(self).items()
                if value and name not in ("handle", "digest")}
        return f"LedgerRow({', '.join(f'{name}={value!r}' for name, value in said.items())})"

    @property
    def flags(self) -> int:
        """Possible duplicate and resent, as one number for the store."""
        return self.possible_duplicate | self.resent << 1

    @property
    def delivery_key(self) -> str:
        """Under which the target is given it: the same on every attempt of one run."""
        return f"{self.item_id}:{self.run}:{self.hop}"

    @property
    def plain(self) -> bool:
        """Nothing is to be said of it but its state: it may go on together with others."""
        return not (self.reason or self.possible_duplicate or self.resent)

    def to(self, state: ItemState, at: int, reason: str, target_ref: str | None,
           possible_duplicate: bool) -> LedgerRow:
        """This row in its next state: `dataclasses.replace`, at a tenth of its cost."""
        return LedgerRow(
            self.run, self.step, self.item_id, self.queue, self.source, self.target, state, at,
            reason, self.message_id, self.handle, self.submitted, self.hop, possible_duplicate,
            target_ref, self.digest, self.resent)


@dataclass(frozen=True)
class Lot:
    """Items of one move that go on together, so that the ledger writes their state once for all.

    `rows`: each in the state it is to have now, `plain`, all of one move and in one state. Without
    a `name` they begin a lot, and the ledger gives it one; with it they go on, and whatever else
    is in that lot leaves it and stays as it was.
    """

    rows: Sequence[LedgerRow]
    name: str | None = None
