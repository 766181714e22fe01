"""An incident: what people declared, folded from its events in `automation`. Pure.

    incident.declared    commander, reason, at
    incident.determined  cause, at          incident.handed_over  to, note
    incident.run         run                incident.note         text
    incident.closed      reason
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ccfailover.model.journal import Record
from ccfailover.model.plan import Json


@dataclass(frozen=True)
class Said:
    """Who wrote what, and when (µs)."""

    at: int
    actor: str
    text: str


@dataclass(frozen=True)
class HandOver:
    """From one commander to the next."""

    at: int
    actor: str
    of: str
    to: str
    note: str


@dataclass(frozen=True)
class Incident:
    """Instants in µs. `declared_at` and `determined_at` are what people said, for the clocks of
    regulators; when it was written down stands in `written_at`. `head` is its last event's."""

    id: str
    commander: str
    reason: str
    declared_at: int
    declared_by: str
    written_at: int
    head: tuple[int, str]
    events: int = 1
    determined_at: int | None = None
    determined_by: str | None = None
    cause: str | None = None
    closed_at: int | None = None
    closed_by: str | None = None
    closing: str = ""
    hand_overs: tuple[HandOver, ...] = ()
    notes: tuple[Said, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    @property
    def log(self) -> list[Said]:
        """Hand-overs and notes in the order in which they were written."""
        turns = [Said(turn.at, turn.actor, f"handed over from {turn.of} to {turn.to}"
                      + (f": {turn.note}" if turn.note else "")) for turn in self.hand_overs]
        return sorted((*turns, *self.notes), key=lambda said: said.at)

    def to_json(self) -> dict[str, Json]:
        return {
            "incident": self.id, "open": self.is_open, "commander": self.commander,
            "reason": self.reason, "declared_at": self.declared_at,
            "declared_by": self.declared_by, "written_at": self.written_at,
            "determined_at": self.determined_at, "determined_by": self.determined_by,
            "cause": self.cause, "closed_at": self.closed_at, "closed_by": self.closed_by,
            "closing": self.closing,
            "hand_overs": [dict(each.__dict__) for each in self.hand_overs],
            "notes": [dict(each.__dict__) for each in self.notes],
            "runs": list(self.runs), "head": {"seq": self.head[0], "hash": self.head[1]},
        }


def fold(records: Sequence[Record]) -> Incident:
    """The incident that its own events tell, in order. Raises ValueError when the first one does
    not declare it, KeyError for one that lacks what it should hold."""
    if not records or records[0].kind != "incident.declared":
        raise ValueError("an incident begins with its declaration")
    first = records[0]
    found = Incident(
        id=first.data["incident"], commander=first.data["commander"],
        reason=first.data["reason"], declared_at=first.data["at"], declared_by=first.actor,
        written_at=first.at, head=(first.seq, first.hash))
    for record in records[1:]:
        found = _after(found, record)
    return found


def _after(so_far: Incident, record: Record) -> Incident:
    data, at, actor = record.data, record.at, record.actor
    known = replace(so_far, head=(record.seq, record.hash), events=so_far.events + 1)
    match record.kind:
        case "incident.determined":
            return replace(known, cause=data["cause"], determined_at=data["at"],
                           determined_by=actor)
        case "incident.handed_over":
            turn = HandOver(at, actor, known.commander, data["to"], data["note"])
            return replace(known, commander=data["to"], hand_overs=(*known.hand_overs, turn))
        case "incident.note":
            return replace(known, notes=(*known.notes, Said(at, actor, data["text"])))
        case "incident.run":
            return replace(known, runs=(*known.runs, data["run"]))
        case "incident.closed":
            return replace(known, closed_at=at, closed_by=actor, closing=data["reason"])
    return known
