"""The report as plain text: for a terminal, a mail, a ticket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from ccfailover.reports.as_json import verify_commands
from ccfailover.reports.facts import Facts, Move, StepFacts
from ccfailover.reports.incident import lines as incident_lines
from ccfailover.reports.objectives import PHASES
from ccfailover.reports.words import (
    DRILL,
    MARKS,
    MODES,
    STATES,
    clock,
    count,
    hour,
    safe,
    shares,
    span,
    stream_name,
    verdict,
)

WIDTH = 100
LISTED = 200
"""So many ids of one kind; the others are in the JSON, and the text says how many."""


def as_text(facts: Facts) -> str:
    """The whole report; a drill is stamped at the top, at the bottom and in every heading."""
    lines: list[str] = []
    stamp = f"{DRILL}  " if facts.header.drill else ""
    banner = f" {' '.join(DRILL)}  ·  {MODES[facts.header.mode]} " if stamp else ""
    if stamp:
        lines += [banner.center(WIDTH, "*"), ""]
    lines += _head(facts)
    if facts.incident is not None:
        lines += ["", f"{stamp}INCIDENT", *(f"  {line}" for line in incident_lines(facts.incident))]
    for title, body in (
        ("Exceptions", _exceptions(facts)), ("Shares", _shares(facts)),
        ("Objectives", _objectives(facts)), ("Findings of the guards", _findings(facts)),
        ("Steps", _steps(facts)), ("Work items", _work(facts)), ("Notes", _notes(facts)),
        ("Timeline", _timeline(facts)), ("Evidence", _evidence(facts)),
    ):
        lines += ["", f"{stamp}{title.upper()}", *body]
    if stamp:
        lines += ["", banner.center(WIDTH, "*")]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _head(facts: Facts) -> Iterator[str]:
    head, outcome = facts.header, facts.outcome
    number = f"run {head.run}" + (f" (number {head.number})" if head.number else "")
    yield f"{safe(head.runbook)} {safe(head.subject)}: {STATES[outcome.state]}"
    took = (f"took {span(outcome.seconds)}" if outcome.ended
            else f"not ended; last event after {span(outcome.seconds)}")
    resumed = (f", taken up again {count(outcome.resumes, 'time')}, "
               f"{outcome.interruptions} after an interruption" if outcome.resumes else "")
    rows = [
        ("Run", number),
        ("Mode", MODES[head.mode]),
        ("Policy", f"{safe(head.policy_name)} ({safe(head.environment or 'no environment told')})"
                   f"  sha256 {head.policy_sha256}"),
        ("Plan", head.plan_hash),
        ("Reason", safe(head.reason)),
        ("Requested by", f"{safe(head.requester)} on host {safe(head.host or 'unknown')}"
                         + (", by itself (automatic)" if head.automatic else "")),
        *((said.kind.replace(".", " ").capitalize(),
           f"{safe(said.actor)} at {clock(said.at)}: {safe(said.text)}")
          for said in head.consents),
        ("Requested", clock(head.planned_at)), ("Started", clock(head.started_at)),
        ("Ended", clock(head.ended_at) if outcome.ended else "not ended"),
        ("Duration", took + resumed),
    ]
    if head.supersedes:
        rows.append(("Supersedes", safe(", ".join(head.supersedes))))
    if head.superseded_by:
        rows.append(("Superseded by", safe(head.superseded_by)))
    if head.cost_per_hour not in ("0", "0.00"):
        rows.append(("Planned cost", f"{head.cost_per_hour} {safe(head.currency)} an hour"))
    rows.append(("Report made", f"{clock(head.made_at)} by ccfailover {head.version}"))
    for name, said in rows:
        yield from _folded(f"  {name:<20}", said)


def _exceptions(facts: Facts) -> Iterator[str]:
    for said in facts.outcome.exceptions:
        yield from _folded("  ! ", safe(said))
    for said in facts.outcome.open_points:
        yield from _folded("  ? open: ", safe(said))
    if not facts.outcome.exceptions and not facts.outcome.open_points:
        yield "  none: no skip, no override, nothing in doubt, quarantined, stranded or duplicated"


def _shares(facts: Facts) -> Iterator[str]:
    for row in facts.shares:
        left = "" if row.moved else "   (left where it is)"
        yield from _folded(f"  {safe(row.queue):<20}",
                           f"before {shares(row.before)}   →   planned {shares(row.to)}{left}")


def _objectives(facts: Facts) -> Iterator[str]:
    for row in facts.objectives:
        since = ("from the request" if row.by_request else
                 f"from the fault: last good reading {clock(row.last_good)}, "
                 f"first bad one {clock(row.first_bad)}")
        actual = ("service was not verified" if row.served_at is None else
                  span(row.actual_upper) if row.by_request else
                  f"between {span(row.actual_lower)} and {span(row.actual_upper)}")
        goal = "no objective" if row.rto is None else f"objective {span(row.rto)}"
        yield from _folded(f"  {safe(row.queue):<20}",
                           f"recovery {actual}; {goal}; {verdict(row.rto_met)}   ({since})")
        if not facts.header.drill and any(row.phases[name] is not None for name in PHASES):
            yield " " * 22 + "  ".join(f"{name} {span(row.phases[name])}" for name in PHASES)


def _findings(facts: Facts) -> Iterator[str]:
    for found in facts.findings:
        level = "OVERRIDDEN" if found.guard in facts.overrides and found.level == "soft" else (
            found.level.upper())
        where = f"{safe(found.queue)}: " if found.queue else ""
        yield from _folded(f"  {level:<11}", f"{where}{safe(found.sentence)} [{found.guard}]")
    if not facts.findings:
        yield "  none"


def _steps(facts: Facts) -> Iterator[str]:
    for branch in facts.branches:
        yield f"  {safe(branch)}"
        for step in facts.steps:
            if step.branch == branch:
                yield from _step(step)


def _step(step: StepFacts) -> Iterator[str]:
    attempts = f", {step.attempts} attempts" if step.attempts > 1 else ""
    when = (f"{hour(step.started_at)} – {hour(step.ended_at)}, {span(step.seconds)}"
            if step.started_at else "not begun")
    word = f"{MARKS.get(step.word, '·')} {step.word}"
    yield from _folded(f"    {word:<13} ", f"{safe(step.id)}: {safe(step.title)}   "
                                          f"({when}{attempts})")
    if step.said:
        yield from _folded(" " * 18, safe(step.said))
    for looked in step.observations:
        yield from _folded(" " * 18, f"looked again {hour(looked.at)}: {safe(looked.text)}")
    for said in step.exceptions:
        yield from _folded(" " * 18 + "! ", safe(said))


def _work(facts: Facts) -> Iterator[str]:
    if not facts.moves:
        yield "  this run moves no work items"
    if facts.header.drill and facts.moves:
        yield "  a drill moves nothing"
        return
    for move in facts.moves:
        yield from _move(move)
    for told in facts.reconciliations:
        yield from _folded("  ", f"reconciled with the platforms at {clock(told['at'])} by "
                                 f"{safe(told['actor'])}: {safe(told.get('equation', ''))}")
        yield from _folded("    ", f"{safe(told.get('verdict', ''))}: {safe(told['detail'])}")
    if facts.moves and not facts.reconciliations:
        yield "  not yet reconciled with the platforms: ccfailover transfer reconcile"


def _move(move: Move) -> Iterator[str]:
    yield f"  {safe(move.queue)}: {safe(move.source)} → {safe(move.target)}   ({safe(move.step)})"
    yield "    ledger: " + (", ".join(f"{state} {number}" for state, number in move.counts.items()
                                      if number) or "no items")
    yield from _folded("    ", move.equation)
    yield from _folded("    ", f"{'adds up' if move.balanced else 'cannot be told'}: "
                               f"{safe(move.note)}")
    for reason, number in move.left.items():
        yield from _folded("    ", f"left at {safe(move.source)}: {number}: {safe(reason)}")
    yield from _ids("possible duplicate", [safe(name) for name in move.possible_duplicates])
    yield from _ids("", [f"{safe(item.item_id)}  {safe(item.why)}" for item in move.listed])


def _ids(what: str, rows: Sequence[str]) -> Iterator[str]:
    for row in rows[:LISTED]:
        yield from _folded("    ! ", f"{what}: {row}" if what else row)
    if len(rows) > LISTED:
        yield f"    ! … and {len(rows) - LISTED} more, all in the JSON report"


def _notes(facts: Facts) -> Iterator[str]:
    for note in facts.notes:
        yield from _folded("  ", f"{clock(note.at)} {safe(note.actor)}: {safe(note.text)}")
    if not facts.notes:
        yield "  none"


def _timeline(facts: Facts) -> Iterator[str]:
    for event in facts.events:
        what = f"{event.kind} {event.step}".strip()
        yield from _folded(f"  {clock(event.at, micro=True)}  ",
                           f"#{event.seq} fence {event.fence} {safe(event.actor)}  {safe(what)}"
                           + (f": {safe(event.text)}" if event.text else ""))


def _evidence(facts: Facts) -> Iterator[str]:
    found = facts.evidence
    for stream, (number, hash_) in found.heads.items():
        yield f"  head of {stream_name(stream, facts.header.run):<20} {number}:{hash_}"
    if found.problems:
        yield "  THE JOURNAL OF THIS RUN DOES NOT VERIFY:"
        for problem in found.problems:
            yield from _folded("  ✗ ", safe(problem))
    else:
        yield "  ✓ the chain of this run was verified when the report was made"
    yield "  To verify it offline, on any machine:"
    for command in verify_commands(facts):
        yield f"    {command}"


def _folded(prefix: str, said: str) -> Iterator[str]:
    """`said` behind `prefix`, its further lines under its first."""
    parts = wrap(said, max(20, WIDTH - len(prefix)), break_on_hyphens=False) or [""]
    yield prefix + parts[0]
    for part in parts[1:]:
        yield " " * len(prefix) + part
