"""Incidents: declare, determine, hand over, note, add a run, close; and which one a run is of.

Each is one event in `automation`; what an incident is now is folded from its events.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ccfailover.errors import Refused, StoreError, UsageError
from ccfailover.model.incident import Incident, fold
from ccfailover.runtime import SECOND
from ccfailover.store import incidents as kept

if TYPE_CHECKING:
    from ccfailover.model.plan import Json
    from ccfailover.operations.desk import Desk

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
LONGEST = 2000
NONE = "none"
"""Said instead of an incident's id: a run that belongs to none."""

_TRIES = 20


def load(desk: Desk, incident: str) -> Incident | None:
    """The incident as its events tell it; None when nobody declared it. Raises StoreError when
    they make no sense."""
    records = kept.events(desk.store, incident)
    if not records:
        return None
    try:
        return fold(records)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the events of incident {incident} make no sense: {error}",
                         where=desk.store.path, not_done="nothing was decided on it",
                         hint="ccfailover journal verify") from error


def listed(desk: Desk, *, only_open: bool = False) -> list[Incident]:
    """In the order in which they were declared."""
    return [found for name in kept.names(desk.store, only_open=only_open)
            if (found := load(desk, name)) is not None]


def find(desk: Desk, incident: str | None, *, opened: bool = False) -> Incident:
    """The one that is named, or else the only open one. Raises UsageError; Refused when it must
    be `opened` and was closed."""
    if incident is None:
        names = kept.names(desk.store, only_open=True)
        if len(names) != 1:
            what = f"{len(names)} incidents are open" if names else "no incident is open"
            raise UsageError(what, not_done="nothing was done",
                             hint=f"name one: {', '.join(names)}" if names else
                             "ccfailover incident declare INC-42 --commander NAME --reason …")
        incident = names[0]
    found = load(desk, incident)
    if found is None:
        known = ", ".join(kept.names(desk.store, only_open=False)[-8:])
        raise UsageError(f"there is no incident {incident[:64]!r}", not_done="nothing was done",
                         hint=f"there are: {known}" if known else
                         "ccfailover incident declare INC-42 --commander NAME --reason …")
    if opened and not found.is_open:
        raise Refused(f"incident {found.id} was closed by {found.closed_by}", guard="incident",
                      not_done="nothing was written to it",
                      hint=f"ccfailover incident show {found.id}; or declare another")
    return found


def declare(desk: Desk, incident: str, *, commander: str, reason: str,
            at: str | None = None) -> Incident:
    """Raises UsageError for a name that cannot be one, or was declared already."""
    if not NAME.match(incident) or incident.lower() == NONE:
        raise UsageError(f"{incident[:64]!r} cannot name an incident",
                         not_done="nothing was declared", hint="INC-42: letters, digits and . _ -")
    data = {"commander": _words(commander, "a commander is needed", "--commander mary"),
            "reason": _words(reason, "a reason is needed", '--reason "hq lost power"'),
            "at": _instant(desk, at)}
    record = kept.write(desk.store, incident, kept.DECLARED, data, actor=str(desk.actor),
                        expected=0)
    if record is None:
        raise UsageError(f"incident {incident} was declared already",
                         not_done="nothing was declared",
                         hint=f"ccfailover incident show {incident}")
    return _told(desk, find(desk, incident), "declared")


def determine(desk: Desk, incident: str | None, cause: str, *, at: str | None = None) -> Incident:
    """What it is, and when that became known. The first determination stands: Raises Refused."""
    data = {"cause": _words(cause, "a cause is needed", "\"the carrier's core router failed\""),
            "at": _instant(desk, at)}

    def once(found: Incident) -> Mapping[str, Json]:
        if found.determined_at is not None:
            raise Refused(f"incident {found.id} was determined already: {found.cause}",
                          guard="incident", not_done="nothing was written",
                          hint=f"ccfailover note {found.id} 'what is known by now'")
        return data

    return _told(desk, _write(desk, incident, "incident.determined", once), "determined")


def hand_over(desk: Desk, incident: str | None, *, to: str, note: str) -> Incident:
    data = {"to": _words(to, "to whom?", "--to joe"), "note": note.strip()[:LONGEST]}
    return _told(desk, _write(desk, incident, "incident.handed_over", lambda _: data),
                 "handed over")


def note(desk: Desk, incident: str, text: str) -> Incident:
    data = {"text": _words(text, "a note needs words", f"ccfailover note {incident} 'ticket 4711'")}
    return _write(desk, incident, "incident.note", lambda _: data)


def add_run(desk: Desk, incident: str | None, run: str) -> Incident:
    """Say that a run belongs to it. Raises Refused when it belongs to another; told again, it is
    one event."""
    run_id = desk.store.find_run(run)

    def once(found: Incident) -> Mapping[str, Json] | None:
        other = of_run(desk, run_id)
        if other is not None and other.id != found.id:
            raise Refused(f"run {run_id} belongs to incident {other.id}", guard="incident",
                          not_done="nothing was written",
                          hint=f"ccfailover incident show {other.id}")
        return None if other is not None else {"run": run_id}

    return _write(desk, incident, "incident.run", once)


def close(desk: Desk, incident: str | None, *, reason: str) -> Incident:
    data = {"reason": reason.strip()[:LONGEST]}
    return _told(desk, _write(desk, incident, kept.CLOSED, lambda _: data), "closed")


def chosen(desk: Desk, incident: str | None) -> Incident | None:
    """Which incident a new run is of: the one that was named (`none`: of none), else the only
    open one, else none. Raises UsageError or Refused for a name that is not open."""
    if incident == NONE:
        return None
    if incident is not None:
        return find(desk, incident, opened=True)
    names = kept.names(desk.store, only_open=True)
    return load(desk, names[0]) if len(names) == 1 else None


def of_run(desk: Desk, run: str) -> Incident | None:
    """The incident that a run belongs to."""
    return next((found for found in listed(desk) if run in found.runs), None)


def _write(desk: Desk, incident: str | None, kind: str,
           data: Callable[[Incident], Mapping[str, Json] | None]) -> Incident:
    """One event of an open incident, decided on what it is now; looked at again when somebody
    else was faster. `data` gives None for nothing to write."""
    for _ in range(_TRIES):
        found = find(desk, incident, opened=True)
        told = data(found)
        if told is None:
            return found
        if kept.write(desk.store, found.id, kind, told, actor=str(desk.actor),
                      expected=found.events) is not None:
            return find(desk, found.id)
    raise StoreError(f"others write to incident {incident} all the time",
                     not_done="nothing was written", hint="try again")


def _told(desk: Desk, found: Incident, what: str) -> Incident:
    """Everybody hears of it, with the head of `automation`."""
    from ccfailover.notify.outbox import Messages
    from ccfailover.reports.words import clock

    details = [f"commander {found.commander}", f"reason: {found.reason}",
               f"declared {clock(found.declared_at)} by {found.declared_by}"]
    if found.determined_at is not None:
        details.append(f"determined {clock(found.determined_at)}: {found.cause}")
    details += [f"handed over by {turn.of} to {turn.to}: {turn.note}"
                for turn in found.hand_overs[-1:] if what == "handed over"]
    details += [f"closed by {found.closed_by}: {found.closing}"] if not found.is_open else []
    Messages(desk.policy.heading, desk.store.head("runs")).incident(
        what, incident=found.id, head=found.head, details=details).enqueue(desk.store)
    return found


def _words(text: str, missing: str, hint: str) -> str:
    if not text.strip():
        raise UsageError(missing, not_done="nothing was written", hint=hint)
    return text.strip()[:LONGEST]


def _instant(desk: Desk, text: str | None) -> int:
    """µs of `08:30` (today, in the policy's time zone) or an ISO date and time; None: now. Raises
    UsageError for what is no time, or is still to come."""
    now = desk.store.now()
    if text is None:
        return now
    zone = ZoneInfo(desk.policy.timezone)
    here = datetime.fromtimestamp(now / SECOND, zone)
    try:
        if len(text) <= 5:
            hour, _, minute = text.partition(":")
            at = here.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
        else:
            at = datetime.fromisoformat(text)
            at = at if at.tzinfo else at.replace(tzinfo=zone)
    except ValueError:
        raise UsageError(f"--at {text}: not a time", not_done="nothing was written",
                         hint="--at 08:30, or --at 2026-12-24T08:30") from None
    if at > here:
        raise UsageError(f"--at {text} is still to come", not_done="nothing was written",
                         hint="a time that has passed; yesterday's needs its date")
    return int(at.timestamp() * SECOND)
