"""Where every item went, proved from two sides: our ledger, and the platforms' own counts.

    present + arrived = left + unreachable + claimed + at target + completed + returned
                        + stranded + quarantined + collapsed

counted in copies at the source. `collapsed` are further copies of an application that the target
has already; they were deleted without being delivered. What was not measured is said to be
unknown, and never taken for 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.plan import Json
from ccfailover.providers import BacklogMeasure
from ccfailover.transfer.differences import Check, Difference, in_doubt, source_check, target_check
from ccfailover.transfer.rows import AT_TARGET, Ledger, application, count_reasons, is_copy

LEDGER, PLATFORM, DIFFERENCE = "ledger", "platform", "difference"


@dataclass(frozen=True)
class Measures:
    """What the platforms themselves say; None where nobody measured.

    `present`: waiting at the source (hidden ones included) when the run took its snapshot.
    `arrived`: came to the source since then, by the intake's count. `source_now`, `target_now`:
    the backlogs at the end. `target_before`: the target's depth at the snapshot.
    `arrived_at_target`: came there without us. `completed`: done at the target since the
    snapshot, by its own count; `completed_ids` by id. `worked_at_source`: done at home since the
    snapshot. `target_ids`: how often the target has each application, waiting or done.
    `returned_ids`: what the target says it gave back undone.
    """

    present: int | None
    source_now: BacklogMeasure | None
    arrived: int | None = None
    target_before: int | None = None
    target_now: BacklogMeasure | None = None
    arrived_at_target: int | None = None
    completed: int | None = None
    completed_ids: frozenset[str] | None = None
    worked_at_source: int | None = None
    target_ids: Mapping[str, int] | None = None
    returned_ids: frozenset[str] | None = None


@dataclass(frozen=True)
class Term:
    """One number of the equation. `value` None: cannot be told. `origin`: ledger | platform |
    difference (follows from the others, so that it proves nothing by itself)."""

    name: str
    value: int | None
    origin: str
    note: str = ""

    def to_json(self) -> dict[str, Json]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Reconciliation:
    """`balanced`: True: both sides agree and every check that could be made holds. False: they
    do not. None: it cannot be told, and `detail` says why. `assumptions` are what a True rests
    on beside the measurements. `sent_again`: applications that came to the target's door more
    than once, perhaps, and that it keeps once, because it knows their keys."""

    queue: str
    source: str
    target: str
    runs: tuple[str, ...]
    terms: Mapping[str, Term]
    balanced: bool | None
    detail: str
    left_by_reason: Mapping[str, int]
    checks: tuple[Check, ...] = ()
    differences: tuple[Difference, ...] = ()
    possible_duplicates: tuple[str, ...] = ()
    sent_again: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = field(default_factory=tuple)

    @property
    def equation(self) -> str:
        """The equation with its numbers, on one line; a number nobody knows is `?`."""
        def side(names: Iterable[str]) -> str:
            return " + ".join(
                f"{name.replace('_', ' ')} {'?' if self.terms[name].value is None else value}"
                for name in names for value in [self.terms[name].value])

        sign = {True: "=", False: "≠", None: "≟"}[self.balanced]
        return f"{side(LEFT_SIDE)} {sign} {side(RIGHT_SIDE)}"

    def to_json(self) -> dict[str, Json]:
        return {
            "queue": self.queue, "source": self.source, "target": self.target,
            "runs": list(self.runs), "balanced": self.balanced, "detail": self.detail,
            "equation": self.equation,
            "terms": [term.to_json() for term in self.terms.values()],
            "left_by_reason": dict(self.left_by_reason),
            "checks": [check.to_json() for check in self.checks],
            "differences": [each.to_json() for each in self.differences],
            "possible_duplicates": list(self.possible_duplicates),
            "sent_again": list(self.sent_again),
            "assumptions": list(self.assumptions),
        }


LEFT_SIDE = ("present", "arrived")
RIGHT_SIDE = ("left", "unreachable", "claimed", "at_target", "completed", "returned",
              "stranded", "quarantined", "collapsed")


def reconcile(store: Ledger, runs: Sequence[str], queue: str, *, source: str, target: str,
              measures: Measures) -> Reconciliation:
    """Account for every copy that was at `source` when the first of `runs` took its snapshot, or
    came there since. `runs` move the queue out of `source` (several when one superseded or
    repeated another); a return is accounted for by itself, the other way round."""
    rows = _copies(row for run in runs for row in store.items(run=run, queue=queue)
                   if row.source == source and row.target == target)
    tally = Tally(rows)
    assumptions: list[str] = []
    terms = _right_side(tally, measures, source, target, assumptions)
    terms |= _left_side(terms, measures, source, assumptions)
    checks = (source_check(tally.here_at_least, tally.here_at_most, measures.source_now,
                           measures.worked_at_source, source),
              *target_check(tally.delivered_rows, tally.flagged, measures.target_now,
                            measures.target_before, measures.completed,
                            measures.arrived_at_target, measures.target_ids, target))
    assumptions += [check.sentence for check in checks if check.holds is None]
    balanced, detail = _verdict(terms, checks, source)
    return Reconciliation(
        queue=queue, source=source, target=target, runs=tuple(runs),
        terms={name: terms[name] for name in (*LEFT_SIDE, *RIGHT_SIDE)},
        balanced=balanced, detail=detail, left_by_reason=tally.reasons(terms["left"].value),
        checks=checks,
        differences=(*(each for check in checks for each in check.differences),
                     *in_doubt(rows, measures.target_ids)),
        possible_duplicates=tuple(sorted(tally.flagged)),
        sent_again=tuple(sorted(tally.resent - tally.flagged)),
        assumptions=tuple(assumptions),
    )


def _copies(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """One row for each copy at the source: the latest, when several moves met the same one."""
    found: dict[str, LedgerRow] = {}
    for row in rows:
        key = row.message_id or row.item_id
        old = found.get(key)
        if old is None or (row.at, not is_copy(row)) >= (old.at, not is_copy(old)):
            found[key] = row if old is None else _flagged(row, old)
        else:
            found[key] = _flagged(old, row)
    return list(found.values())


def _flagged(row: LedgerRow, other: LedgerRow) -> LedgerRow:
    """With the flags of both."""
    if row.flags | other.flags == row.flags:
        return row
    return replace(row, possible_duplicate=row.possible_duplicate or other.possible_duplicate,
                   resent=row.resent or other.resent)


class Tally:
    """Copies by what the ledger says of them."""

    def __init__(self, rows: Sequence[LedgerRow]) -> None:
        self._rows = rows
        self.total = len(rows)
        self.delivered_rows = [row for row in rows
                               if row.state in AT_TARGET and not is_copy(row)]
        self.flagged = {application(row) for row in rows if row.possible_duplicate}
        self.resent = {application(row) for row in rows if row.resent}
        self.left = self._count(ItemState.LEFT)
        self.claimed = self._count(ItemState.CLAIMED)
        self.quarantined = self._count(ItemState.QUARANTINED)
        self.returned = self._count(ItemState.RETURNED)
        self.stranded = self._count(ItemState.STRANDED)
        self.collapsed = sum(is_copy(row) and row.state in (ItemState.SETTLED,
                                                            ItemState.DELIVERED) for row in rows)
        unsettled = self._count(ItemState.DELIVERED)
        self.here_at_least = self.left + self.quarantined
        self.here_at_most = self.here_at_least + self.claimed + unsettled + self.stranded

    def _count(self, state: ItemState) -> int:
        return sum(row.state is state for row in self._rows)

    @property
    def owned(self) -> list[LedgerRow]:
        """At the target and counted there; what is stranded has a term of its own."""
        return [row for row in self.delivered_rows if row.state is not ItemState.STRANDED]

    def reasons(self, left: int | None) -> Mapping[str, int]:
        reasons = dict(count_reasons(row for row in self._rows if row.state is ItemState.LEFT))
        if left is not None and left > self.left:
            reasons["not looked at"] = left - self.left
        return reasons


def _right_side(tally: Tally, measures: Measures, source: str, target: str,
                assumptions: list[str]) -> dict[str, Term]:
    now, worked = measures.source_now, measures.worked_at_source or 0
    unseen = 0 if now is None else max(0, now.depth - tally.here_at_most)
    # Left by us, and worked off at home since: those have moved on to `completed`.
    gone = 0 if now is None else min(worked, max(0, tally.here_at_least - now.depth))
    unreachable = Term("unreachable", 0, PLATFORM, f"{source} answers")
    if now is None:
        note = f"{source} does not answer; follows from what was counted there before"
        unreachable = Term("unreachable", None, DIFFERENCE, note)
        if measures.present is not None:
            rest = measures.present + (measures.arrived or 0) - tally.total - worked
            unreachable = Term("unreachable", max(0, rest), DIFFERENCE, note)
    completed, note = _completed(tally, measures, target, assumptions)
    given_back = sum(application(row) in (measures.returned_ids or ())
                     and application(row) not in (measures.completed_ids or ())
                     for row in tally.owned)
    at_target = len(tally.owned) - (completed or 0) - given_back
    if worked:
        note += f"; {worked} of them at {source}"
    return {
        "left": Term("left", tally.left + unseen - gone, LEDGER if not unseen else PLATFORM,
                     f"{unseen} of them counted by {source} and not looked at" if unseen else ""),
        "unreachable": unreachable,
        "claimed": Term("claimed", tally.claimed, LEDGER, "in doubt" if tally.claimed else ""),
        "at_target": Term("at_target", at_target, LEDGER,
                          "or completed there" if completed is None else ""),
        "completed": Term("completed", (completed or 0) + worked
                          if completed is not None or worked else None,
                          PLATFORM, note),
        "returned": Term("returned", tally.returned + given_back,
                         PLATFORM if given_back else LEDGER,
                         f"{given_back} of them by {target}'s word alone" if given_back else ""),
        "stranded": Term("stranded", tally.stranded, LEDGER,
                         f"{target} has them; their copies at {source} must be deleted"
                         if tally.stranded else ""),
        "quarantined": Term("quarantined", tally.quarantined, LEDGER),
        "collapsed": Term("collapsed", tally.collapsed, LEDGER,
                          "identical copies, deleted" if tally.collapsed else ""),
    }


def _completed(tally: Tally, measures: Measures, target: str,
               assumptions: list[str]) -> tuple[int | None, str]:
    """How many of the items that we brought are done there, and how that is known."""
    if measures.completed_ids is not None:
        done = sum(application(row) in measures.completed_ids for row in tally.owned)
        return done, f"by id, from {target}"
    if measures.completed is None:
        return None, "not measured: counted as at target"
    if measures.completed > 0 and measures.arrived_at_target != 0:
        assumptions.append(f"what {target} completed is taken to be what was brought there first; "
                           "it gave a count and no ids")
    return min(measures.completed, len(tally.owned)), f"count from {target}"


def _left_side(right: Mapping[str, Term], measures: Measures, source: str,
               assumptions: list[str]) -> dict[str, Term]:
    present = Term("present", measures.present, PLATFORM, f"counted by {source} at the snapshot")
    if measures.arrived is not None:
        return {"present": present,
                "arrived": Term("arrived", measures.arrived, PLATFORM, "counted by the intake")}
    total = _sum(right.values())
    if measures.present is None or measures.source_now is None:
        return {"present": present, "arrived": Term(
            "arrived", None, DIFFERENCE, "not measured, and no count to take it from")}
    assumptions.append(f"nobody counted what arrived at {source} during the run: it is taken as "
                       "the difference")
    return {"present": present, "arrived": Term(
        "arrived", max(0, total - measures.present), DIFFERENCE,
        "what was found beyond what was present")}


def _sum(terms: Iterable[Term]) -> int:
    """Of what is known; `completed` that nobody measured is in `at_target`."""
    return sum(term.value or 0 for term in terms)


def _verdict(terms: Mapping[str, Term], checks: Sequence[Check],
             source: str) -> tuple[bool | None, str]:
    failed = [check.sentence for check in checks if check.holds is False]
    if terms["present"].value is None:
        return (False if failed else None), "; ".join(
            [*failed, f"nobody counted what was at {source} when the run began"])
    if terms["unreachable"].origin == DIFFERENCE:
        value = terms["unreachable"].value
        what = (f"{source} does not answer: whether it holds the {value} that are not accounted "
                "for cannot be told")
        return (False if failed else None), "; ".join([*failed, what])
    before = _sum(terms[name] for name in LEFT_SIDE)
    after = _sum(terms[name] for name in RIGHT_SIDE)
    if before != after:
        gap = before - after
        failed.insert(0, f"{gap} are missing" if gap > 0 else f"{-gap} are too many")
    if failed:
        return False, "; ".join(failed)
    return True, f"every one of {after} is accounted for"
