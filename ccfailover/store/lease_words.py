"""What is told of a lease that is in the way, and of one that was lost: who, since when, why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ccfailover.errors import CcfError, Fenced, LeaseHeld
from ccfailover.model.journal import Lease
from ccfailover.runtime import SECOND
from ccfailover.store import chain, holder
from ccfailover.store.db import Transaction


def fenced(tx: Transaction, lease: Lease, not_done: str) -> CcfError:
    """Why this holder may not write any more; whoever took its run on purpose is named."""
    rows = tx.execute("SELECT ended, fence, holder, expires_at FROM run WHERE id = :run",
                      {"run": lease.run})
    if not rows:
        why = "it is not in this store"
    elif rows[0][0] is not None:
        why = f"it has ended ({rows[0][0]}){_by_whom(tx, lease)}"
    elif rows[0][1] != lease.fence:
        who = holder.describe(json.loads(rows[0][2])) if rows[0][2] else "somebody"
        why = (f"{who} took it over (fence {rows[0][1]}, ours was {lease.fence})"
               f"{_by_whom(tx, lease)}")
    elif rows[0][2] is None:
        why = "its lease was given back"
    else:
        why = f"its lease ran out at {clock(rows[0][3])}"
    return Fenced(
        f"this process may not act for it any more: {why}",
        where=f"run {lease.run}", not_done=not_done,
        hint=f"ccfailover status, then ccfailover resume {lease.run} if it is interrupted",
    )


def _by_whom(tx: Transaction, lease: Lease) -> str:
    """Who was the first to take the run from this holder on purpose, and why."""
    for (text,) in tx.execute(
            "SELECT text FROM journal WHERE stream = :stream AND "
            "(text LIKE :stolen OR text LIKE :superseded) ORDER BY seq",
            {"stream": chain.run_stream(lease.run), "stolen": '%"kind":"lease.stolen"%',
             "superseded": '%"kind":"run.superseded"%'}):
        record = json.loads(text)
        if record["fence"] <= lease.fence:
            continue
        if record["kind"] == "lease.stolen":
            return f"; {record['actor']} stole it: {record['data']['reason']}"
        if record["kind"] == "run.superseded":
            more = ", which pre-empted it" if record["data"].get("pre_empted") else ""
            return f"; {record['actor']} superseded it by run {record['data']['by']}{more}"
    return ""


def lease_held(
    run: str, held_by: Mapping[str, Any], since: int, expires: int, now: int,
    scopes: Sequence[str], others: str,
) -> LeaseHeld:
    """What is in the way, who, since when, and what to do about it."""
    where = some(scopes) if scopes else f"run {run}"
    by = f"run {run}, " if scopes else ""
    who = f"{holder.describe(held_by)} since {clock(since)}"
    also = f"; also in the way: {others}" if others else ""
    if expires > now:
        what = f"held by {by}{who}, lease until {clock(expires)}{also}"
        hint = f"let it end (ccfailover runs watch {run}); if its process is gone: " + (
            f"ccfailover resume {run} or ccfailover rollback {run}; or repeat with --supersede "
            f"{run}" if scopes else "wait until then, or repeat with --steal --reason …")
    else:
        why = (f"is interrupted (its lease ran out at {clock(expires)})" if held_by
               else f"was let go at {clock(expires)}")
        what = (f"held by {by}{who if held_by else f'since {clock(since)}'}; run {run} {why} and "
                f"keeps what it holds until somebody decides{also}")
        hint = (f"ccfailover resume {run}, or ccfailover rollback {run}, "
                f"or repeat with --supersede {run}")
    return LeaseHeld(what, where=where, not_done="nothing was started or changed", hint=hint)


def some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def clock(at: int) -> str:
    """An instant as people read it: 2026-11-21 14:03:22 UTC."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(at // SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"
