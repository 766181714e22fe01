"""One provider's account: what it was given of a queue, beside what it says became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from ccfailover.model.books import Completion, Sent, is_canary
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.plan import Json
from ccfailover.model.policy import Queue, Site
from ccfailover.runtime import SECOND
from ccfailover.store.books import SLACK
from ccfailover.transfer.differences import Difference
from ccfailover.transfer.listing import instant, zone_of
from ccfailover.transfer.rows import AT_TARGET, application, is_nameless

REACHED = frozenset({*AT_TARGET, ItemState.RETURNED})
"""The target has the item, or had it."""


class Books(Protocol):
    """The part of the store that accounts need. `ccfailover.store.Store` is one."""

    def sent(self, queue: str, site: str) -> Iterable[Sent]: ...
    def never_sent(self, site: str) -> Iterable[Completion]: ...
    def done_twice(self, site: str) -> Sequence[tuple[str, str]]: ...
    def tells(self, site: str) -> bool: ...
    def find_item(self, item_id: str) -> Sequence[LedgerRow]: ...


@dataclass(frozen=True)
class Account:
    """`sent`: applications that reached the site, each delivery once. Of these `completed` by its
    own word, `brought_back` by us, `returned` by its own word; `in_work` is the rest: it waits
    there or somebody works on it, and `late` of these are past their deadline. `tells`: whether
    the site ever says what becomes of its work; without that `late` is None."""

    queue: str
    site: str
    sent: int
    completed: int
    brought_back: int
    returned: int
    in_work: int
    late: int | None
    tells: bool
    done: frozenset[str]
    gave_back: frozenset[str]
    differences: tuple[Difference, ...] = field(default=())

    def to_json(self) -> dict[str, Json]:
        return {name: value for name, value in self.__dict__.items()
                if name not in ("done", "gave_back", "differences")} | {
                    "differences": [each.to_json() for each in self.differences]}

    @property
    def sentence(self) -> str:
        """In one line; what is not told is not taken for 0."""
        said = (f"{self.site} was sent {self.sent}: {self.completed} completed, "
                f"{self.brought_back} brought back, {self.returned} returned by its word, "
                f"{self.in_work} still there")
        if not self.tells:
            return f"{said} (it has not said what became of any: transfer reconcile --completions)"
        return said + (f", {self.late} of them past their deadline" if self.late else "")


def account(books: Books, queue: Queue, site: Site, *, now: int) -> Account:
    """Set everything that `site` was sent of `queue` beside what it says of it."""
    making = _Making(books, queue, site, now)
    for sent in books.sent(queue.name, site.name):
        if not is_nameless(sent.row):
            making.add(sent)
    return making.close()


def after(sent: Sent) -> tuple[Completion, ...]:
    """What the site said of this delivery, and not of an earlier one of the same item."""
    return tuple(each for each in sent.told if each.at + SLACK >= sent.first_at)


class _Making:
    def __init__(self, books: Books, queue: Queue, site: Site, now: int) -> None:
        self._books, self._queue, self._site, self._now = books, queue, site, now
        self._tells = books.tells(site.name)
        self._sent = self._completed = self._back = self._returned = self._late = 0
        self._in_work = 0
        self._done: set[str] = set()
        self._gave_back: set[str] = set()
        self._found: list[Difference] = []
        # An application goes twice where it was brought back between, or a copy was left over.
        self._counted: set[str] = set()

    def add(self, sent: Sent) -> None:
        row, told = sent.row, after(sent)
        done = [each for each in told if each.outcome.is_done]
        name = application(row)
        if len(done) > 1:
            self._say(name, f"{self._site.name} says it is done {len(done)} times: "
                            + ", ".join(map(_said, done)),
                      f"ask {self._site.name} which decision stands; pay for one")
        if row.state in AT_TARGET:
            if name in self._counted:
                return
            self._counted.add(name)
            self._sent += 1
            self._at_site(sent, done, told)
        elif row.state is ItemState.RETURNED:
            self._sent += 1
            self._back += 1
            if done:
                self._double(row, done[0], "was taken back from there")
        elif done and row.state is ItemState.CLAIMED:
            self._done.add(name)
            self._say(name, f"in doubt in the ledger, and {self._site.name} says {_said(done[0])}: "
                            "it has it",
                      f"delete what shows up at {row.source}; resume the run")
        elif done and row.state is ItemState.LEFT and row.possible_duplicate:
            self._done.add(name)
            self._double(row, done[0], f"was left at {row.source} after a put in doubt")

    def _at_site(self, sent: Sent, done: Sequence[Completion],
                 told: Sequence[Completion]) -> None:
        row, name = sent.row, application(sent.row)
        if done:
            self._completed += 1
            self._done.add(name)
            given = next((each for each in told if not each.outcome.is_done), None)
            if given is not None:
                self._say(name, f"{self._site.name} says {_said(done[0])} and {_said(given)}",
                          "ask which of the two is so, before anybody works on it again")
        elif told:
            self._returned += 1
            self._gave_back.add(name)
            self._given_back(row, told[-1])
        else:
            self._in_work += 1
            self._open(sent)

    def _given_back(self, row: LedgerRow, word: Completion) -> None:
        seen = [other for other in self._books.find_item(application(row))
                if other.source != self._site.name and other.at >= word.at
                and (other.run, other.step) != (row.run, row.step)]
        if not seen:
            self._say(application(row), f"{self._site.name} says {_said(word)}, and no run has "
                                        "seen it anywhere since",
                      f"look for it at {row.source} and in the system of record; if it is not "
                      "there, put it in again")

    def _open(self, sent: Sent) -> None:
        due, why = deadline(sent, self._queue, self._site)
        if due is not None and due < self._now and self._tells:
            self._late += 1
            self._say(application(sent.row), f"at {self._site.name} since {_day(sent.first_at)}, "
                                             f"not completed by {_day(due)} ({why})",
                      f"ask {self._site.name} for it today; else take it back")

    def _double(self, row: LedgerRow, word: Completion, what: str) -> None:
        self._say(application(row), f"{self._site.name} says {_said(word)}, and it {what} "
                                    f"(run {row.run}): two may be working on it",
                  f"stop it where it is now; {self._site.name}'s decision, or a new one, must be "
                  "the only one")

    def _say(self, name: str | None, what: str, action: str) -> None:
        self._found.append(Difference(name, what, action))

    def close(self) -> Account:
        site = self._site.name
        for word in self._books.never_sent(site) if self._tells else ():
            if is_canary(word.item_id):
                continue
            self._say(word.item_id, f"{site} says {_said(word)}, and no run ever sent it there",
                      "it came by the intake while that pointed there, or is none of ours: see "
                      "the system of record before you pay")
        for name, other in self._books.done_twice(site) if self._tells else ():
            self._say(name, f"{site} and {other} both say that they have done it",
                      "one decision must be withdrawn: see what the borrower was told")
        return Account(
            self._queue.name, site, self._sent, self._completed, self._back, self._returned,
            self._in_work, self._late if self._tells else None, self._tells,
            frozenset(self._done), frozenset(self._gave_back), tuple(self._found))


def deadline(sent: Sent, queue: Queue, site: Site) -> tuple[int | None, str]:
    """By when (µs) the decision is due, and by which rule: the nearer of the site's promise and
    the time that the law gives from the application on."""
    found: list[tuple[int, str]] = []
    if site.sla is not None and site.sla.decision_time is not None:
        found.append((sent.first_at + int(site.sla.decision_time * SECOND),
                      f"the decision time in {site.name}'s sla"))
    began = instant(sent.row.submitted or "", zone_of(site.timezone))
    if began is not None and queue.decide_within is not None:
        found.append((began + int(queue.decide_within * SECOND), "decide_within of the queue"))
    return min(found, default=(None, ""))


def _said(word: Completion) -> str:
    return f"{word.outcome.value} at {_moment(word.at)}" + (
        f" ({word.reference})" if word.reference else "")


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _day(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%d")
