"""Work items of one run, from the ledger: how many are where, which ones a person must see.

    present + arrived = left + not looked at + claimed + at target + returned + stranded
                        + quarantined + collapsed

counted in copies at the source. `present` is what the source counted when the step took its
snapshot (journal), `not looked at` what it counted and never showed (journal), `arrived` the
difference; the rest is the ledger. The platforms are not asked here: what they say themselves is
in the reconciliations that the journal holds (`ccfailover transfer reconcile` makes one).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.plan import Json
from ccfailover.runbooks.run import Run, StepRecord
from ccfailover.transfer.rows import NO_REASON, application, by_frequency, is_copy

RECONCILED = "transfer.reconciled"
"""The kind of the journal event, in the stream `automation`, that holds a reconciliation."""

RIGHT = ("left", "not_looked_at", "claimed", "at_target", "returned", "stranded", "quarantined",
         "collapsed")

_LISTED = {
    ItemState.CLAIMED: "in doubt: claimed and not seen again, either site may have it",
    ItemState.DELIVERED: "delivered, and not yet deleted at the source",
    ItemState.STRANDED: "stranded: delivered, and its copy at the source could not be deleted",
    ItemState.QUARANTINED: "quarantined",
}


@dataclass(frozen=True)
class Listed:
    """An item that somebody must look at, and why."""

    item_id: str
    state: str
    why: str
    message_id: str
    at: int


@dataclass(frozen=True)
class Move:
    """One move of one step. `counts` are ledger rows by state, every state named.

    `terms` are the sides of the equation (None: cannot be told); `balanced` None: the journal
    alone cannot tell, and `note` says why. `moved` counts applications that the target got.
    """

    step: str
    queue: str
    source: str
    target: str
    counts: Mapping[str, int]
    moved: int
    left: Mapping[str, int]
    listed: tuple[Listed, ...]
    possible_duplicates: tuple[str, ...]
    terms: Mapping[str, int | None]
    balanced: bool | None
    note: str

    @property
    def equation(self) -> str:
        """On one line; a number that nobody knows is `?`."""
        def side(names: Iterable[str]) -> str:
            return " + ".join(f"{name.replace('_', ' ')} "
                              f"{'?' if self.terms[name] is None else self.terms[name]}"
                              for name in names)

        sign = {True: "=", False: "≠", None: "≟"}[self.balanced]
        return f"{side(('present', 'arrived'))} {sign} {side(RIGHT)}"


def moves(run: Run, rows: Iterable[LedgerRow], *,
          pruned: bool = False) -> tuple[Move, ...]:
    """One for each step that moves items, in plan order; then what an undo moved back.

    Of `rows`, which can be a million, only those are kept that somebody must look at. `pruned`:
    rows of this run were deleted from the ledger since.
    """
    groups: dict[tuple[str, str, str, str], _Sum] = {}
    for step in run.steps.values():
        params = step.spec.params
        if step.spec.kind == "transfer" and "target" in params:
            key = (step.spec.id, str(params["queue"]), str(params["source"]),
                   str(params["target"]))
            groups[key] = _Sum()
    for row in rows:
        key = (row.step, row.queue, row.source, row.target)
        if key not in groups:
            groups[key] = _Sum()
        groups[key].add(row)
    made = [_move(key, found, run.steps.get(key[0])) for key, found in groups.items()]
    return tuple(_without_ledger(move, run.steps.get(move.step)) if pruned else move
                 for move in made)


def _without_ledger(move: Move, step: StepRecord | None) -> Move:
    """What the journal alone still says of a move whose items may have been pruned."""
    data = step.data if step is not None else {}
    left = data.get("left") or {}
    terms: dict[str, int | None] = dict.fromkeys(move.terms)
    return replace(
        move, moved=int(data.get("moved", move.moved)), left={**left} or move.left,
        terms={**terms, "present": move.terms.get("present")}, balanced=None,
        note="its items, or some of them, were pruned from the ledger since (transfer prune): what "
             "was moved and left is the journal's word; the rest is in the exports made before")


class _Sum:
    """What one move's rows come to."""

    def __init__(self) -> None:
        self.counts = {state.value: 0 for state in ItemState}
        self.collapsed = self.moved = 0
        self.left: Counter[str] = Counter()
        self.listed: list[Listed] = []
        self.flagged: set[str] = set()

    def add(self, row: LedgerRow) -> None:
        self.counts[row.state.value] += 1
        if row.state in (ItemState.SETTLED, ItemState.DELIVERED, ItemState.STRANDED):
            if is_copy(row):
                self.collapsed += row.state is not ItemState.STRANDED
            else:
                self.moved += 1
        if row.state is ItemState.LEFT:
            self.left[row.reason or NO_REASON] += 1
        if row.state in _LISTED:
            self.listed.append(Listed(row.item_id, row.state.value, _why(row), row.message_id,
                                      row.at))
        if row.possible_duplicate:
            self.flagged.add(application(row))


def _move(key: tuple[str, str, str, str], found: _Sum, step: StepRecord | None) -> Move:
    counts = found.counts
    terms: dict[str, int | None] = {
        "left": counts["left"], "claimed": counts["claimed"],
        "at_target": counts["settled"] + counts["delivered"] - found.collapsed,
        "returned": counts["returned"], "stranded": counts["stranded"],
        "quarantined": counts["quarantined"], "collapsed": found.collapsed,
    }
    balanced, note = _balance(terms, step, source=key[2])
    return Move(
        *key, counts=counts, moved=found.moved, terms=terms, balanced=balanced, note=note,
        left=by_frequency(found.left), listed=tuple(found.listed),
        possible_duplicates=tuple(sorted(found.flagged)))


def _why(row: LedgerRow) -> str:
    why, reason = _LISTED[row.state], row.reason
    return f"{why}: {reason}" if reason else why


def _balance(terms: dict[str, int | None], step: StepRecord | None, *,
             source: str) -> tuple[bool | None, str]:
    """Completes `terms`; says whether they add up, or why that cannot be told."""
    present = _present(step)
    unseen = step.data.get("unreachable", 0) if step and step.data else None
    known = sum(value or 0 for value in terms.values())
    terms |= {"present": present, "arrived": None, "not_looked_at": unseen}
    if step is None:
        return None, "an undo: what it brought back is counted, nobody counted what was there"
    if step.started_at is None or not step.has_snapshot:
        return None, "the step was not begun"
    if present is None:
        return None, f"{source} did not answer when the step began: nobody knows what it held"
    if not step.data:
        return None, "the step never ended: what else it would have found is not known"
    if unseen is None:
        return None, f"{source} did not say at the end how many it still held"
    beyond = known + int(unseen) - present
    if beyond < 0:
        terms["arrived"] = 0
        return None, (f"{-beyond} of those present were worked off at {source} meanwhile, or are "
                      "missing: only the platforms can tell (ccfailover transfer reconcile)")
    terms["arrived"] = beyond
    return True, ("by journal and ledger; arrived is the difference" if beyond else
                  "by journal and ledger")


def _present(step: StepRecord | None) -> int | None:
    shown = step.snapshot if step is not None else None
    depth: Mapping[str, Json] = shown.get("source", {}) if isinstance(shown, dict) else {}
    if "visible" not in depth:
        return None
    return int(depth["visible"]) + int(depth.get("hidden", 0))
