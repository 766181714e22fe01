"""One application's whole way, through every run that ever looked at it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ccfailover.errors import StateUnknown
from ccfailover.model.books import CanaryState, Completion, is_canary
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.operations.decisions import Decision, decision
from ccfailover.operations.desk import Desk
from ccfailover.operations.prune import PRUNED
from ccfailover.runtime import SECOND
from ccfailover.store import archive
from ccfailover.store.books import SLACK
from ccfailover.transfer.rows import AT_TARGET, is_copy


def whereabouts(row: LedgerRow) -> str:
    """The site that has the item, as far as this row knows."""
    return row.target if row.state in AT_TARGET else row.source


def find(desk: Desk, item_id: str) -> dict[str, Any]:
    """Where one application is, since when, by whose decision, and every hop it took.

    Raises StateUnknown when the ledger never saw it: then no run has looked at it.
    """
    if is_canary(item_id):
        return _canary(desk, item_id)
    rows = desk.store.find_item(item_id)
    words = list(desk.store.completions(item_id=item_id))
    if not rows:
        raise StateUnknown(
            f"the ledger does not know {item_id!r}: no run has looked at it"
            + "".join(f"; {word.site} says {word.outcome.value}" for word in words[-1:]),
            where=desk.store.path, not_done="nothing can be said of where it is",
            hint=_pruned(desk) or "the id as the lender writes it; else ask the system of record")
    names = archive.names_of(desk.store, item_id)
    made: dict[str, Decision] = {}
    hops = [_hop(desk, row, made)
            for row in sorted((row for name in names for row in desk.store.item_history(name)),
                              key=lambda row: row.at)]
    hops = sorted([*hops, *map(_word, words)], key=lambda hop: int(hop["at"]))
    now = next((row for row in rows if row.state is not ItemState.RETURNED), rows[0])
    decided = _decided(desk, now.run, made)
    arrived = [hop for hop in hops if hop["run"] == now.run and hop["step"] == now.step
               and hop["state"] in ("delivered", "settled", "stranded")]
    since = arrived[0]["at"] if arrived else now.at
    last = next((word for word in reversed(words)
                 if word.site == whereabouts(now) and word.at + SLACK >= since), None)
    return {
        "item": item_id, "queue": now.queue, "state": now.state.value,
        "where": None if now.state is ItemState.CLAIMED else whereabouts(now),
        "says": _in_words(now) + (f"; {last.site} says {last.outcome.value}" if last else ""),
        # Where it is since: the state may have changed after it got there.
        "since": since, "touched": now.at,
        "submitted": now.submitted, "hops": now.hop,
        "outcome": last.outcome.value if last else None,
        "reference": last.reference if last else None,
        "run": now.run, "decided_by": decided.decided_by, "approved_by": list(decided.approved_by),
        "incident": decided.incident, "automatic": decided.automatic, "reason": decided.reason,
        "overrides": decided.overrides, "head": decided.head,
        "runbook": f"{decided.runbook} {decided.subject}".strip(),
        "possible_duplicate": any(row.possible_duplicate for row in rows),
        "copies": sum(name != item_id for name in names),
        "runs": [each.to_json() for each in made.values()], "history": hops,
    }


def _canary(desk: Desk, name: str) -> dict[str, Any]:
    """It is no application, and never was; the books say where it went."""
    known = desk.store.canaries(name=name)
    where = known[0].site if known and known[0].state is CanaryState.SENT else None
    says = "a canary, and no application: " + (
        "of none of our runs" if not known else
        f"it may still wait at {where}" if where else f"taken back from {known[0].site}")
    at = known[0].at if known else 0
    run = known[0].run if known else ""
    made = decision(desk, run) if run else None
    return {"item": name, "queue": known[0].queue if known else None, "state": "canary",
            "where": where, "says": says, "since": at, "touched": at, "submitted": None,
            "hops": 0, "outcome": None, "reference": None, "run": run or None,
            "decided_by": made.decided_by if made else None,
            "approved_by": list(made.approved_by) if made else [],
            "incident": made.incident if made else None,
            "automatic": bool(made and made.automatic), "reason": made.reason if made else "",
            "overrides": {}, "head": made.head if made else "",
            "runbook": f"{made.runbook} {made.subject}" if made else "",
            "possible_duplicate": False, "copies": 0,
            "runs": [made.to_json()] if made else [], "history": []}


def _pruned(desk: Desk) -> str:
    """Where else to look when the ledger was thinned out."""
    done = desk.store.fact(PRUNED)
    if not done:
        return ""
    day = datetime.fromtimestamp(done[-1]["before"] / SECOND, UTC)
    return (f"the ledger was pruned of what was older than {day:%Y-%m-%d}: see the exports made "
            "before that")


def _word(word: Completion) -> dict[str, Any]:
    return {"at": word.at, "state": word.outcome.value, "from": word.site, "to": word.site,
            "hop": None, "run": None, "step": None, "copy": False, "by": word.site,
            "possible_duplicate": False,
            "says": f"{word.site} says {word.outcome.value}"
                    + (f" ({word.reference})" if word.reference else "")}


def _in_words(row: LedgerRow) -> str:
    reason = row.reason
    text = {
        ItemState.LEFT: f"left at {row.source}",
        ItemState.CLAIMED: f"in doubt: {row.source} or {row.target} may have it",
        ItemState.DELIVERED: f"{row.target} has it; not yet deleted at {row.source}",
        ItemState.SETTLED: f"{row.target} has it",
        ItemState.STRANDED: f"{row.target} has it; {row.source} still holds a stale copy",
        ItemState.QUARANTINED: f"quarantined at {row.source}",
        ItemState.RETURNED: f"moved on from {row.target}",
    }[row.state]
    return f"{text}: {reason}" if reason else text


def _hop(desk: Desk, row: LedgerRow, made: dict[str, Decision]) -> dict[str, Any]:
    return {"at": row.at, "state": row.state.value, "from": row.source, "to": row.target,
            "hop": row.hop, "run": row.run, "step": row.step, "says": _in_words(row),
            "copy": is_copy(row), "by": _decided(desk, row.run, made).decided_by,
            "possible_duplicate": row.possible_duplicate, "sent_again": row.resent}


def _decided(desk: Desk, run_id: str, made: dict[str, Decision]) -> Decision:
    if run_id not in made:
        made[run_id] = decision(desk, run_id)
    return made[run_id]
