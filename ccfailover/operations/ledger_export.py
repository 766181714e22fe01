"""The ledger as a file for examiners: every state of every item, and by whose decision.

First a header, then the runs that decided, item by item the states in the order in which they
were written, what sites said became of them, and a last line with the digest of all before it. The
digest is journaled, too, so that the journal's chain proves the file: the ledger itself is no
chain. Ids, states, times, reasons; never bodies, handles or anything else of a borrower.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from ccfailover.errors import UsageError
from ccfailover.operations.decisions import decision
from ccfailover.runtime import SECOND
from ccfailover.store import archive
from ccfailover.transfer.listing import instant, zone_of

if TYPE_CHECKING:
    from ccfailover.model.books import Completion
    from ccfailover.model.items import LedgerRow
    from ccfailover.model.plan import Json
    from ccfailover.operations.desk import Desk

EXPORTED = "ledger.exported"
"""The kind of the journal event, and the name of the fact that keeps the last complete one."""

FORMAT = 1
COLUMNS = ("kind", "item", "queue", "from", "to", "state", "at", "run", "step", "hop", "reason",
           "submitted", "possible_duplicate", "sent_again", "message", "reference", "decided_by",
           "approved_by", "incident", "head")

_FORMULA = "=+-@\t\r"
"""A cell that begins with one of these is a formula to a spreadsheet."""


class Shape(Protocol):
    """How lines look: one for each dict of `COLUMNS`, and the two that hold it all together."""

    def header(self, data: Mapping[str, Json]) -> Iterator[str]: ...
    def line(self, data: Mapping[str, Json]) -> str: ...
    def end(self, data: Mapping[str, Json]) -> str: ...


class Jsonl:
    def header(self, data: Mapping[str, Json]) -> Iterator[str]:
        yield _json({"ledger": data})

    def line(self, data: Mapping[str, Json]) -> str:
        return _json({name: value for name, value in data.items() if value not in (None, "")})

    def end(self, data: Mapping[str, Json]) -> str:
        return _json({"end": data})


class Csv:
    """The header and the end are comments, `#` and JSON. Cells that a spreadsheet would take for
    a formula begin with an apostrophe."""

    def header(self, data: Mapping[str, Json]) -> Iterator[str]:
        yield "# " + _json({"ledger": data})
        yield ",".join(COLUMNS)

    def line(self, data: Mapping[str, Json]) -> str:
        return csv_line([data.get(name) for name in COLUMNS])

    def end(self, data: Mapping[str, Json]) -> str:
        return "# " + _json({"end": data})


def csv_line(cells: Iterable[object]) -> str:
    """One line, however many a cell holds; none that a spreadsheet would calculate."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([_cell(cell) for cell in cells])
    return out.getvalue().replace("\n", " ").replace("\r", " ")


SHAPES: Mapping[str, Callable[[], Shape]] = {"jsonl": Jsonl, "csv": Csv}


@dataclass(frozen=True)
class Wanted:
    """What to export. `since`: only what was written at or after that instant (µs)."""

    run: str | None = None
    queue: str | None = None
    since: int = 0

    @property
    def everything(self) -> bool:
        return self == Wanted()

    def to_json(self) -> dict[str, Json]:
        return {"run": self.run, "queue": self.queue,
                "since": _moment(self.since) if self.since else None}


def wanted(desk: Desk, *, run: str | None, queue: str | None, since: str | None) -> Wanted:
    """Raises UsageError for a run, a queue or a time that there is not. A queue that the policy
    has no more may still be in the ledger."""
    at = instant(since, zone_of(desk.policy.timezone), end_of_day=False) if since else 0
    if at is None:
        raise UsageError(f"{str(since)[:40]!r} is no time", not_done="nothing was exported",
                         hint="--since 2026-01-31, or 2026-01-31T14:00:00Z")
    found = desk.store.find_run(run) if run else None
    return Wanted(found, queue, at)


def lines(desk: Desk, what: Wanted, shape: Shape) -> Iterator[str]:
    """The export, without line ends, in constant memory. What is written meanwhile is left out.
    Once the last line has been taken, the export and its digest stand in the journal."""
    last = archive.last_entry(desk.store)
    digest, items, words = hashlib.sha256(), 0, 0

    def counted(text: str) -> str:
        digest.update(text.encode("utf-8", "replace") + b"\n")
        return text

    runs = archive.runs_of(desk.store, run=what.run, queue=what.queue, since=what.since, last=last)
    for text in shape.header(_header(desk, what, last, len(runs))):
        yield counted(text)
    for name in runs:
        yield counted(shape.line(_run_line(desk, name)))
    for row in archive.history(desk.store, run=what.run, queue=what.queue, since=what.since,
                               last=last):
        items += 1
        yield counted(shape.line(_item_line(row)))
    # What sites say is of no run and no queue.
    for word in desk.store.completions(since=what.since) if not (what.run or what.queue) else ():
        words += 1
        yield counted(shape.line(_word_line(word)))
    told = {"runs": len(runs), "states": items, "completions": words,
            "sha256": digest.hexdigest()}
    _journal(desk, what, last, told)
    yield shape.end(told)


def _header(desk: Desk, what: Wanted, last: int, runs: int) -> dict[str, Json]:
    policy = desk.policy
    heads = desk.store.proof()
    return {
        "format": FORMAT, "policy": policy.name, "environment": policy.environment,
        "policy_sha256": policy.sha256, "store": desk.store.path, "schema": desk.store.schema[1],
        "made_at": _moment(desk.runtime.now()), "made_by": str(desk.actor),
        "only": what.to_json(), "states_up_to": last, "runs": runs,
        "journal": {"seal": desk.store.seal(),
                    "heads": {stream: f"{seq}:{hash_}" for stream, (seq, hash_)
                              in heads.items()}},
        "check": "ccfailover journal verify --head …; sha256 of every line before the last is in "
                 "the last line and in the journal's event ledger.exported",
    }


def _journal(desk: Desk, what: Wanted, last: int, told: Mapping[str, Json]) -> None:
    data = {**told, "only": what.to_json(), "states_up_to": last}
    if what.everything:
        archive.journaled(desk.store, EXPORTED, data, actor=str(desk.actor), fact=EXPORTED,
                          value={**data, "at": desk.runtime.now()})
    else:
        desk.store.append("automation", EXPORTED, data, actor=str(desk.actor))


def _run_line(desk: Desk, run_id: str) -> dict[str, Json]:
    made = decision(desk, run_id)
    return {"kind": "run", "run": run_id, "state": made.state, "step": made.runbook,
            "from": made.subject, "at": _moment(made.planned_at) if made.planned_at else None,
            "reason": made.reason, "decided_by": made.decided_by,
            "approved_by": ", ".join(made.approved_by), "incident": made.incident,
            "head": made.head}


def _item_line(row: LedgerRow) -> dict[str, Json]:
    return {"kind": "item", "item": row.item_id, "queue": row.queue, "from": row.source,
            "to": row.target, "state": row.state.value, "at": _moment(row.at), "run": row.run,
            "step": row.step, "hop": row.hop, "reason": row.reason,
            "submitted": row.submitted, "possible_duplicate": row.possible_duplicate,
            "sent_again": row.resent,
            "message": row.message_id, "reference": row.target_ref}


def _word_line(word: Completion) -> dict[str, Json]:
    return {"kind": "completion", "item": word.item_id, "to": word.site,
            "state": word.outcome.value, "at": _moment(word.at), "reference": word.reference}


def _moment(at: int) -> str:
    whole = datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{at % SECOND:06d}Z"


def _json(data: Mapping[str, Json]) -> str:
    return json.dumps(data, ensure_ascii=True, separators=(",", ":"))


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if text.startswith(tuple(_FORMULA)) else text
