"""An incident for people and machines: who led, when, which runs; from the journal alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ccfailover.model.incident import Incident
from ccfailover.model.plan import Json
from ccfailover.reports.as_json import verify_lines
from ccfailover.reports.words import STATES, clock, safe, span, stream_name


@dataclass(frozen=True)
class RunLine:
    """One run of the incident; `exceptions` says how many there are."""

    run: str
    what: str
    state: str
    planned_at: int
    ended_at: int | None
    requester: str
    reason: str
    exceptions: int


@dataclass(frozen=True)
class IncidentFacts:
    """The incident, its runs in their order, and the heads that bind all of it."""

    incident: Incident
    runs: tuple[RunLine, ...]
    policy: str
    made_at: int
    version: str
    heads: Mapping[str, tuple[int, str]]


def lines(found: Incident) -> Iterator[str]:
    """What it is, one line each; also part of a run's report."""
    state = "open" if found.is_open else f"closed {clock(found.closed_at)} by " \
        f"{safe(found.closed_by)}: {safe(found.closing) or 'no reason given'}"
    yield f"incident {safe(found.id)}: {safe(found.reason)}"
    yield f"  state       {state}"
    yield f"  commander   {safe(found.commander)}"
    late = (f", written down {clock(found.written_at)}"
            if found.written_at - found.declared_at > 60_000_000 else "")
    yield f"  declared    {clock(found.declared_at)} by {safe(found.declared_by)}{late}"
    if found.determined_at is None:
        yield "  determined  not yet"
    else:
        yield (f"  determined  {clock(found.determined_at)} by {safe(found.determined_by)}: "
               f"{safe(found.cause)}")
    for said in found.log:
        yield f"  log         {clock(said.at)} {safe(said.actor)}: {safe(said.text)}"
    yield f"  runs        {', '.join(found.runs) or 'none'}"


def as_text(facts: IncidentFacts) -> str:
    """The report over an incident."""
    found = facts.incident
    out = [f"INCIDENT {safe(found.id)}", "", *lines(found), f"  policy      {safe(facts.policy)}",
           f"  report made {clock(facts.made_at)} by ccfailover {facts.version}", "", "RUNS"]
    for run in facts.runs:
        took = (f", took {span((run.ended_at - run.planned_at) / 1_000_000)}" if run.ended_at
                else ", not ended")
        odd = f", {run.exceptions} exceptions" if run.exceptions else ""
        out += [f"  {run.run}  {safe(run.what)}: {STATES[run.state]}{odd}",
                f"      {clock(run.planned_at)}{took}, by {safe(run.requester)}: "
                f"{safe(run.reason)}",
                f"      ccfailover report {run.run}"]
    if not facts.runs:
        out.append("  none")
    out += ["", "EVIDENCE"]
    out += [f"  head of {stream_name(stream, ''):<20} {number}:{hash_}"
            for stream, (number, hash_) in facts.heads.items()]
    out += ["  To verify it offline, on any machine:",
            *(f"    {command}" for command in verify_lines(facts.heads))]
    return "\n".join(line.rstrip() for line in out) + "\n"


def as_json(facts: IncidentFacts) -> dict[str, Json]:
    """Every fact, for machines. Instants are µs since the epoch, UTC."""
    return {"format": 1, **facts.incident.to_json(), "policy": facts.policy,
            "made_at": facts.made_at, "version": facts.version,
            "run_list": [dict(run.__dict__) for run in facts.runs],
            "heads": {stream: list(head) for stream, head in facts.heads.items()},
            "verify": verify_lines(facts.heads)}
