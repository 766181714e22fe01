"""Levers that a person moves: how each one stands by their word, and what was asked of them.

One fact holds all of them, so that whoever looks knows with one query; every change is one write,
by compare-and-set, together with the event that says who, what and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ccfailover.errors import StoreError

if TYPE_CHECKING:
    from ccfailover.store import Store

FACT = "by_hand"
ASKED, DONE, REFUSED = "by_hand.asked", "by_hand.done", "by_hand.refused"
_TRIES = 20

Parts = Mapping[str, int]


@dataclass(frozen=True)
class Task:
    """What a person is to set, and what they were told. Instants are µs, `remind` seconds.

    `role`: who may say that it is done; "" is anybody. `key` is the step's. `number` is that of
    the change which asked for it.
    """

    lever: str
    number: int
    to: Parts
    before: Parts | None
    instruction: str
    role: str
    key: str
    asked_by: str
    asked_at: int
    expires_at: int
    remind: float


@dataclass(frozen=True)
class Standing:
    """How one lever stands. `shares` None: nobody has ever said. `number` counts every change;
    `refused` is why the last task was turned down, until there is another."""

    shares: Parts | None = None
    number: int = 0
    at: int | None = None
    by: str = ""
    evidence: str = ""
    task: Task | None = None
    refused: str = ""


Change = tuple[Standing, str, Mapping[str, Any]]
"""The new standing, and the event (kind, data) that goes with it."""


@dataclass(frozen=True)
class Changed:
    """`standing` is the one in force now; `event` None: nothing was changed."""

    standing: Standing
    event: Mapping[str, Any] | None = field(default=None)


def read(store: Store, lever: str) -> Standing:
    """Raises StoreError."""
    return _standing((store.fact(FACT) or {}).get(lever))


def tasks(store: Store) -> list[Task]:
    """Every open task, the oldest first. Raises StoreError."""
    found = [_standing(one).task for one in (store.fact(FACT) or {}).values()]
    return sorted((task for task in found if task is not None), key=lambda task: task.asked_at)


def change(store: Store, lever: str, how: Callable[[Standing], Change | None], *,
           actor: str) -> Changed:
    """Change how a lever stands. `how` is asked for the change from what is now, anew whenever
    somebody was quicker; None: there is nothing to change. What it raises goes through.

    Raises StoreError when the store cannot be written: then it may have been."""
    for _ in range(_TRIES):
        every = store.fact(FACT)
        now = _standing((every or {}).get(lever))
        wanted = how(now)
        if wanted is None:
            return Changed(now)
        standing, kind, data = wanted
        standing = replace(standing, number=now.number + 1)
        if standing.task is not None:
            standing = replace(standing, task=replace(standing.task, number=standing.number))
        after = {**(every or {}), lever: asdict(standing)}
        event = {"lever": lever, "number": standing.number, **data}
        # The fact is journaled as well: a local journal is begun from what the journal says.
        if store.swap_fact(FACT, after, expected=every, actor=actor, events=[
                (kind, event), ("fact.set", {"name": FACT, "value": after})]):
            return Changed(standing, event)
    raise StoreError(f"how {lever} stands is changed all the time by others",
                     where=store.path, not_done="nothing was written")


def _standing(value: Any) -> Standing:
    if value is None:
        return Standing()
    task = value.get("task")
    return Standing(**{**value, "task": Task(**task) if task else None})
