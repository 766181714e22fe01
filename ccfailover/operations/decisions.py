"""By whose decision an item moved: the run's requester, approvers, incident and reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ccfailover.errors import CcfError
from ccfailover.model.journal import person
from ccfailover.operations.run_list import folded

if TYPE_CHECKING:
    from ccfailover.model.plan import Json
    from ccfailover.operations.desk import Desk


@dataclass(frozen=True)
class Decision:
    """`confirmed`: how the requester confirmed it. `approved_by`: whose approval stood when it
    was given. `head`: the run's last event, `number:hash`, which proves all this."""

    run: str
    runbook: str
    subject: str
    state: str
    decided_by: str
    reason: str
    automatic: bool
    approved_by: tuple[str, ...]
    overrides: dict[str, str]
    incident: str | None
    planned_at: int | None
    head: str

    def to_json(self) -> dict[str, Json]:
        return {**self.__dict__, "approved_by": list(self.approved_by)}


def decision(desk: Desk, run_id: str) -> Decision:
    """A run whose journal is not here (it was imported, or lost) is unknown, and said to be."""
    try:
        run = folded(desk, run_id)
        records = desk.store.read(f"run:{run_id}")
    except CcfError as error:
        return Decision(run_id, "unknown", "", "unknown", "unknown",
                        f"its journal cannot be read: {error.what}", False, (), {}, None, None, "")
    said: dict[str, str] = {}
    for record in records:
        who = person(record.actor)
        if record.kind == "approval.given":
            said[who] = record.actor
        elif record.kind == "approval.declined":
            said.pop(who, None)
    incident = run.context.get("incident")
    return Decision(
        run_id, run.plan.runbook, run.plan.subject, run.phase.value, run.requester,
        run.plan.reason, run.automatic, tuple(said.values()), dict(run.overrides),
        str(incident) if incident else None, run.planned_at, f"{run.head[0]}:{run.head[1]}")
