"""A provider's invoice beside the ledger: what was sent, completed and returned, what that costs by
the policy's price, and each line of the provider's own that does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from ccfailover.model.books import Completion, Sent
from ccfailover.model.items import ItemState
from ccfailover.model.plan import Json
from ccfailover.model.policy import Price
from ccfailover.planning.cost import HUNDREDTH, local_time
from ccfailover.transfer.account import REACHED, after
from ccfailover.transfer.listing import BadLine, Billed
from ccfailover.transfer.rows import AT_TARGET, application

NOTHING = Decimal(0)


@dataclass(frozen=True)
class Finding:
    """A line of the invoice, or an item that lacks one. `credit`: what to claim back for it."""

    what: str
    item_id: str
    detail: str
    line: int | None = None
    credit: Decimal = NOTHING

    def to_json(self) -> dict[str, Json]:
        return {**self.__dict__, "credit": str(self.credit)}


@dataclass
class Day:
    """Of one queue, by the day (provider's time zone) on which it happened."""

    sent: int = 0
    completed: int = 0
    returned: int = 0
    possible_duplicates: int = 0


@dataclass
class Item:
    """What is known of one application at this provider, in any period. `due`: its completion (or,
    at a site that tells of none, its delivery) falls into the period, and it was not returned."""

    queue: str
    sent: bool = False
    done: bool = False
    returned: bool = False
    due: bool = False
    possible_duplicate: bool = False


@dataclass
class Figures:
    """`days`: (queue, day) → counts within the period. `tells`: whether the site says what it has
    completed; if not, what was sent and not returned is priced."""

    tells: bool
    days: dict[tuple[str, date], Day] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)

    @property
    def due(self) -> int:
        return sum(item.due for item in self.items.values())

    def total(self, name: str) -> int:
        return sum(getattr(day, name) for day in self.days.values())


@dataclass(frozen=True)
class Period:
    """Instants (µs), the first within and the last beyond; `day` tells the day of one."""

    begin: int
    end: int
    zone: str

    def __contains__(self, at: int) -> bool:
        return self.begin <= at < self.end

    def day(self, at: int) -> date:
        return local_time(at, self.zone).date()


def figures(sent: Iterable[Sent], unsent: Iterable[Completion], period: Period, *,
            tells: bool) -> Figures:
    """`sent`: everything that any move took to the site, `unsent`: what it says of items that no
    move took there."""
    found = Figures(tells)
    for each in sent:
        if each.row.state in REACHED or each.row.possible_duplicate:
            _add(found, each, period)
    for word in unsent:
        item = found.items.setdefault(word.item_id, Item(""))
        item.done |= word.outcome.is_done
        item.returned |= not word.outcome.is_done
    for item in found.items.values():
        item.due &= not (item.returned and not item.done)
    return found


def _add(found: Figures, each: Sent, period: Period) -> None:
    row, told = each.row, after(each)
    item = found.items.setdefault(application(row), Item(row.queue))
    item.queue = row.queue
    item.possible_duplicate |= row.possible_duplicate
    reached = row.state in REACHED
    item.sent |= reached
    if reached and each.first_at in period:
        day = _day(found, row.queue, each.first_at, period)
        day.sent += 1
        day.possible_duplicates += row.possible_duplicate
        item.due |= not found.tells and row.state in AT_TARGET
    done = [word for word in told if word.outcome.is_done]
    if done and not item.done:  # an item that went twice is done once
        item.done = True
        if done[0].at in period:
            _day(found, row.queue, done[0].at, period).completed += 1
            item.due = True
    back = row.at if row.state is ItemState.RETURNED else next(
        (word.at for word in told if not word.outcome.is_done), None)
    if back is not None:
        item.returned = True
        if back in period:
            _day(found, row.queue, back, period).returned += 1


def _day(found: Figures, queue: str, at: int, period: Period) -> Day:
    return found.days.setdefault((queue, period.day(at)), Day())


@dataclass(frozen=True)
class Bill:
    """What the policy's price makes of the figures; `not_priced`: what it cannot know of."""

    applications: int
    activations: int
    price: Price
    not_priced: tuple[str, ...]

    @property
    def total(self) -> Decimal:
        return _rounded(self.price.per_application * self.applications
                        + self.price.per_activation * self.activations)

    def to_json(self) -> dict[str, Json]:
        return {"applications": self.applications, "activations": self.activations,
                "per_application": str(self.price.per_application),
                "per_activation": str(self.price.per_activation), "total": str(self.total),
                "not_priced": list(self.not_priced)}


@dataclass(frozen=True)
class Compared:
    """The provider's invoice, line by line. `billed`: what its lines say, at the policy's price
    where one names no amount; `credit`: what to claim back in all, less what it has credited."""

    lines: int
    billed: Decimal
    credited: Decimal
    findings: tuple[Finding, ...]
    problems: tuple[BadLine, ...]

    @property
    def credit(self) -> Decimal:
        claimed = sum((each.credit for each in self.findings), NOTHING)
        return _rounded(max(NOTHING, claimed - self.credited))

    def to_json(self) -> dict[str, Json]:
        return {"lines": self.lines, "billed": str(self.billed), "credited": str(self.credited),
                "credit_to_claim": str(self.credit),
                "findings": [each.to_json() for each in self.findings],
                "problems": [each.to_json() for each in self.problems]}


def compare(lines: Iterable[Billed], found: Figures, price: Price, *,
            problems: Iterable[BadLine] = ()) -> Compared:
    """Item by item; `problems` is read once the lines have been."""
    seen: dict[str, int] = {}
    out: list[Finding] = []
    count, billed, credited = 0, NOTHING, NOTHING
    for line in lines:
        count += 1
        amount = price.per_application if line.amount is None else line.amount
        billed += amount
        if amount < 0:
            credited -= amount
            continue
        out += _line(line, amount, found.items.get(line.item_id), price, seen, tells=found.tells)
        seen.setdefault(line.item_id, line.line)
    out += _unbilled(found, seen)
    return Compared(count, _rounded(billed), _rounded(credited), tuple(out), tuple(problems))


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(HUNDREDTH, ROUND_HALF_UP)


def _line(line: Billed, amount: Decimal, item: Item | None, price: Price,
          seen: Mapping[str, int], *, tells: bool) -> Iterator[Finding]:
    name = line.item_id
    if name in seen:
        yield Finding("billed twice", name, f"in line {seen[name]} already", line.line, amount)
    elif item is None:
        yield Finding("billed, never sent", name, "no run ever took it there", line.line, amount)
    elif not item.sent and not item.possible_duplicate:
        yield Finding("billed, sent by no run", name, "the provider tells of it, and no run took "
                      "it there: it came by the intake, or is none of ours; see the system of "
                      "record", line.line)
    elif item.returned and not item.done:
        yield Finding("billed, and returned", name, "it came back undone", line.line, amount)
    else:
        if tells and not item.done:
            yield Finding("billed, not completed", name, "the provider has not said that it is "
                          "done: pay when it is", line.line)
        if amount > price.per_application:
            yield Finding("billed too dear", name, f"{amount}, where the price is "
                          f"{price.per_application}", line.line, amount - price.per_application)
        if item.possible_duplicate:
            yield Finding("possible duplicate", name, "it may have been delivered more than once: "
                          "one decision is owed", line.line)


def _unbilled(found: Figures, seen: Mapping[str, int]) -> Iterator[Finding]:
    what = "completed" if found.tells else "sent"
    for name, item in found.items.items():
        if item.due and item.sent and name not in seen:
            yield Finding(f"{what}, not billed", name, "expect it on the next invoice")
