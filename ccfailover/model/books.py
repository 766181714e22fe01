"""What providers say of the work they were given, and the canaries sent before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ccfailover.model.items import LedgerRow

CANARY = "ccf-canary"
"""How the id of every canary begins. No application may have such an id."""


def is_canary(item_id: str) -> bool:
    """Whether an id is that of a canary, or claims to be: neither is ever taken for work."""
    return item_id.startswith(CANARY)


class Outcome(str, Enum):
    """COMPLETED, DECLINED: a decision was made; WITHDRAWN: the applicant took it back; after any
    of them nothing is left to do. RETURNED: the provider gave it back undone."""

    COMPLETED = "completed"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    RETURNED = "returned"

    @property
    def is_done(self) -> bool:
        return self is not Outcome.RETURNED


@dataclass(frozen=True)
class Completion:
    """A site's word on one item. `at` (µs) is the site's time, `reference` its own number."""

    site: str
    item_id: str
    outcome: Outcome
    at: int
    reference: str = ""


@dataclass(frozen=True)
class Sent:
    """One delivery, or attempt at one: `row` as it stands now, `first_at` (µs) when the run first
    had the item, `told` everything that the target ever said of the item, oldest first."""

    row: LedgerRow
    first_at: int
    told: tuple[Completion, ...] = field(default=())


class CanaryState(str, Enum):
    """SENT: it is, or may be, in the queue. BACK: taken back and deleted, or never arrived."""

    SENT = "sent"
    BACK = "back"


@dataclass(frozen=True)
class Canary:
    """`name` is its item id; `run` and `step` sent it to `site`'s backlog of `queue`."""

    name: str
    run: str
    step: str
    queue: str
    site: str
    state: CanaryState
    at: int
