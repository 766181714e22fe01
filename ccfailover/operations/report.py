"""Evidence of a run: gathered from journal and ledger, as text, JSON or one HTML file."""

from __future__ import annotations

import os
from pathlib import Path

from ccfailover import __version__
from ccfailover.errors import UsageError
from ccfailover.operations import incidents, runs
from ccfailover.operations.desk import Desk
from ccfailover.reports.facts import Facts, gather
from ccfailover.reports.incident import IncidentFacts, RunLine


def report(desk: Desk, prefix: str | None) -> Facts:
    """The facts of the run that `prefix` names; None: the newest one.

    Raises UsageError when there is none.
    """
    if prefix is None:
        ids = desk.store.run_ids()
        if not ids:
            raise UsageError("there is no run to report on", where=desk.store.path,
                             not_done="no report was made", hint="ccfailover runs list")
        run_id = ids[-1]
    else:
        run_id = desk.store.find_run(prefix)
    run = runs.load(desk, run_id)
    return gather(desk.store, run_id, made_at=desk.runtime.now(), version=__version__,
                  alive=runs.alive(desk, run) if run.phase.is_open else None,
                  incident=incidents.of_run(desk, run_id))


def over_incident(desk: Desk, incident: str | None) -> IncidentFacts:
    """The facts of an incident and, in a line each, of its runs. Raises UsageError."""
    found = incidents.find(desk, incident)
    rows = []
    for run_id in found.runs:
        run = runs.load(desk, run_id)
        rows.append(RunLine(
            run=run.id, what=f"{run.plan.runbook} {run.plan.subject}",
            state=runs.outcome(desk, run_id).state.value, planned_at=run.planned_at,
            ended_at=run.ended_at, requester=run.requester, reason=run.plan.reason,
            exceptions=len(run.exceptions())))
    return IncidentFacts(found, tuple(rows), desk.policy.heading, desk.runtime.now(), __version__,
                         desk.store.proof())


def write(path: str, text: str, *, force: bool, token: str) -> None:
    """Put `text` at `path`, whole or not at all; what is there is kept unless `force`.

    `token` makes the temporary file's name this process's own. Raises UsageError.
    """
    aim = Path(path).expanduser()
    part = aim.with_name(f".{aim.name}.{token}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            if force:
                part.replace(aim)
            else:
                os.link(part, aim)  # unlike a rename, it refuses where a file is already
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError:
        raise UsageError(f"{path} is there already", not_done="no report was written",
                         hint="another name, or --force to replace it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}",
                         not_done="no report was written",
                         hint="a file in a folder that exists and is yours") from None
