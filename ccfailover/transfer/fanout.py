"""Parts of a move for workers on other machines: what is dispatched, and by what it is asked for.

A token is permission to work on a move for a while, no more. It names no item: a worker claims
what the source shows, the ledger says where each item is, and the run itself finishes. A token
that is lost, done twice or never taken up therefore costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Protocol

LONGEST = 300
"""Characters of a text in a token; what is longer was not written by us."""


@dataclass(frozen=True)
class Token:
    """Move up to `items`, for at most `seconds`.

    `run`, `step`: under whose name the ledger has the move. `under`, `fence`: the run whose lease
    covers it. `policy`: the hash of the policy that both must have. `rate`: the most items a
    second to the target, by all together (None: no limit).
    """

    run: str
    step: str
    under: str
    fence: int
    queue: str
    source: str
    target: str
    policy: str
    rate: float | None
    items: int
    seconds: float

    @property
    def of_step(self) -> str:
        """What the ids of all tokens of this run and step begin with."""
        return f"{self.under}/{self.run}/{self.step}/"

    @property
    def prefix(self) -> str:
        """What the ids of the tokens of this holder of the lease begin with: those of an earlier
        one are void, and must not stand for these."""
        return f"{self.of_step}{self.fence}/"

    def to_json(self) -> dict[str, str | int | float | None]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Token:
        """Raises ValueError for anything that `to_json` does not make."""
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ValueError("not a token")
        texts = [value[name] for name in
                 ("run", "step", "under", "queue", "source", "target", "policy")]
        numbers = [value["fence"], value["items"], value["seconds"],
                   1 if value["rate"] is None else value["rate"]]
        if not (all(isinstance(each, str) and 0 < len(each) <= LONGEST for each in texts)
                and all(isinstance(each, int | float) and not isinstance(each, bool)
                        and 0 < each < 1e12 for each in numbers)
                and all(isinstance(value[name], int) for name in ("fence", "items"))):
            raise ValueError("not a token")
        return cls(**value)


@dataclass(frozen=True)
class Open:
    """How many tokens wait, and how many are at work (or were, when their worker died)."""

    waiting: int
    at_work: int

    def __bool__(self) -> bool:
        return bool(self.waiting or self.at_work)


class FanOut(Protocol):
    """What a run needs to be helped. All raise Unavailable when it cannot be had."""

    def workers(self) -> int:
        """How many are alive that have this very policy. Costs one query."""

    def offer(self, prefix: str, tokens: Sequence[Token], first: int) -> None:
        """Have them taken by whoever comes: the one number `first` first. An id is offered once,
        however often it is asked for."""

    def open(self, prefix: str) -> Open:
        """Those that have not ended."""

    def sweep(self, prefix: str) -> int:
        """Offer anew what workers had that are dead now; how many these were."""

    def cancel(self, prefix: str) -> int:
        """None that waits is begun any more, and what dead workers had is over; how many the
        latter were. What the living are at, they end by themselves."""

    def forget(self, prefix: str) -> None:
        """Remove what is known of those that have ended."""


def worker_name(policy: str, place: str) -> str:
    """What a worker is called: which policy it has (its hash), and where it is."""
    return f"{policy[:12]} {place}"


def has_policy(worker: str, policy: str) -> bool:
    return worker.startswith(f"{policy[:12]} ")


def who(names: Iterable[str], policy: str) -> tuple[list[str], list[str]]:
    """Where the workers are that have this policy, and where those that have another one."""
    ours, others = list[str](), list[str]()
    for name in names:
        (ours if has_policy(name, policy) else others).append(place_of(name))
    return ours, others


def place_of(worker: str) -> str:
    return worker.partition(" ")[2]
