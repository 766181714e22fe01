"""Checks of the ledger against the platforms' own counts, and what to do about each difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ccfailover.model.books import is_canary
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.plan import Json
from ccfailover.providers import BacklogMeasure
from ccfailover.transfer.rows import application


@dataclass(frozen=True)
class Difference:
    """`item_id` None: only a count is known. `action` is what a person should do about it."""

    item_id: str | None
    what: str
    action: str

    def to_json(self) -> dict[str, Json]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Check:
    """`holds` None: could not be made, `sentence` says what is taken for granted instead."""

    name: str
    holds: bool | None
    sentence: str
    differences: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, Json]:
        return {"name": self.name, "holds": self.holds, "sentence": self.sentence}


def source_check(at_least: int, at_most: int, now: BacklogMeasure | None, worked: int | None,
                 source: str) -> Check:
    """Does the source count at least what the ledger left there?

    Copies in doubt or stranded may or may not be there. More than the ledger knows was not
    looked at; that is no fault, and has its place in the equation.
    """
    if now is None:
        return Check("source", None, f"{source} does not answer: what it holds is taken from "
                                     "the ledger")
    missing = at_least - now.depth - (worked or 0)
    if missing <= 0:
        return Check("source", True, f"{source} counts {now.depth}, the ledger expects "
                                     f"{at_least}" + (f" to {at_most}" if at_most != at_least
                                                      else " at least"))
    return Check(
        "source", False, f"{source} counts {now.depth}, {missing} fewer than were left there",
        (Difference(None, f"{missing} items that were left at {source} are no longer there",
                    f"see what {source} has worked off or put aside (dead-letter queue), "
                    "then reconcile again"),))


def target_check(
    rows: Sequence[LedgerRow], flagged: Iterable[str], now: BacklogMeasure | None,
    before: int | None, completed: int | None, arrived: int | None,
    ids: Mapping[str, int] | None, target: str,
) -> tuple[Check, ...]:
    """Does the target have what the ledger says it got: by id if it tells ids, else by count?"""
    if ids is not None:
        return (_by_id(rows, frozenset(flagged), ids, target),)
    if now is None or completed is None:
        return (Check("target", None, f"what {target} has is taken from the ledger: "
                      "nobody counted what waits there and what is done"),)
    there = now.depth + completed - (before or 0) - (arrived or 0)
    short = len(rows) - there
    if short > 0:
        return (Check("target", False, f"{target} has {there}, {short} fewer than were "
                      "delivered", (Difference(
                          None, f"{short} delivered items are not at {target}",
                          f"ask {target} for its list of ids and reconcile with it"),)),)
    surplus, known = -short, before is not None and arrived is not None
    if not known:
        return (Check("target", True, f"{target} has at least the {len(rows)} that were "
                                      "delivered"),)
    if surplus > len(frozenset(flagged)):
        return (Check("target", False, f"{target} has {surplus} more than were delivered or "
                      "arrived there, and fewer possible duplicates are listed"),)
    return (Check("target", True, f"{target} has {there}: the {len(rows)} that were delivered"
                  + (f" and {surplus} duplicates" if surplus else "")),)


def _by_id(rows: Sequence[LedgerRow], flagged: frozenset[str], ids: Mapping[str, int],
           target: str) -> Check:
    found: list[Difference] = []
    for row in rows:
        name = application(row)
        count = ids.get(name, 0)
        if count == 0:
            found.append(Difference(
                name, f"delivered, but {target} does not have it",
                f"ask {target} for {row.target_ref or name}; if it is lost there, put it in "
                "again from the system of record"))
        elif count > 1 and name not in flagged:
            found.append(Difference(
                name, f"{target} has it {count} times, and it is not listed as a possible "
                "duplicate", f"have {target} close all but one"))
    twice = sorted(application(row) for row in rows if ids.get(application(row), 0) > 1)
    if found:
        return Check("target", False, f"{target} does not have what was delivered: "
                     f"{len(found)} differences", tuple(found))
    listed = tuple(Difference(name, f"{target} has it {ids[name]} times (listed)",
                              f"have {target} close all but one") for name in twice)
    return Check("target", True, f"{target} has each of the {len(rows)} that were delivered",
                 listed)


def in_doubt(rows: Iterable[LedgerRow], ids: Mapping[str, int] | None) -> list[Difference]:
    """What the ledger itself leaves open, item by item."""
    out = []
    for row in rows:
        name = application(row)
        if row.state is ItemState.CLAIMED:
            if ids is not None and name in ids:
                action = f"{row.target} has it: delete what shows up at {row.source}"
            elif ids is not None:
                action = (f"{row.target} does not have it: see that {row.source} does, else put "
                          "it in again from the system of record")
            else:
                action = f"ask {row.target} for it; then resume the run, or note what you found"
            out.append(Difference(name, "claimed and not seen again: either site may have it",
                                  action))
        elif row.state is ItemState.STRANDED:
            out.append(Difference(
                name, f"{row.target} has it; its copy at {row.source} could not be deleted",
                f"keep the consumers of {row.source} held until the failback has deleted it"))
        elif row.state is ItemState.DELIVERED:
            out.append(Difference(
                name, f"{row.target} has it; not yet deleted at {row.source}", "resume the run"))
        elif row.state is ItemState.LEFT and row.possible_duplicate:
            if ids is None or name in ids:
                has = "has" if ids is not None else "may have"
                out.append(Difference(
                    name, f"left at {row.source} after a put in doubt: {row.target} {has} it, too",
                    f"have {row.target} close it, or delete it at {row.source}"))
        elif row.state is ItemState.QUARANTINED and is_canary(name):
            out.append(Difference(name, f"a canary that was left at {row.source}: no application",
                                  f"delete message {row.message_id or '(no id)'} there"))
        elif row.state is ItemState.QUARANTINED:
            out.append(Difference(
                name, f"quarantined: {row.reason}",
                f"read message {row.message_id or '(no id)'} at {row.source} and decide"))
    return out
