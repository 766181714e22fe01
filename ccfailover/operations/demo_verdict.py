"""Whether the demo has shown what it promises, check by check. Pure, but for the report's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccfailover.operations.demo_proof import Check, Equation, Ids, Proof, Stretch, stretches

PHASES = ("detect", "decide", "approve", "execute", "verify")


@dataclass(frozen=True)
class Seen:
    """Everything that the verdict rests on. `failover` and `failback` are what `runs show` says;
    `calls` is the switch's log of contacts, `answered` the receivers' own counts of them;
    `found_again` how many applications were in the dead queue's server when it came back."""

    source_dies: bool
    calls: Sequence[Mapping[str, Any]]
    fault: int
    detected: int
    end: int
    failover: Mapping[str, Any]
    failback: Mapping[str, Any]
    codes: Mapping[str, int]
    equation: Equation | None
    reconciled: tuple[Mapping[str, Any], ...]
    ids: Ids
    report: Path
    answered: Mapping[str, int]
    found_again: int | None
    messages: int


def verdict(seen: Seen) -> Proof:
    """All checks, whether they hold or not."""
    contacts = _contacts(seen)
    equations = (("the applications that were at hq when it died, and what came in since",
                  seen.equation),) if seen.equation else ()
    checks = [
        *_calls(seen, contacts), *_applications(seen), *_runs(seen), *_recovery(seen),
        Check("journal", seen.codes.get("journal") == 0, "every hash and number is as written"
              if seen.codes.get("journal") == 0 else "the journal was changed, or is damaged"),
        _report(seen),
        Check("messages", seen.messages >= 2,
              f"{seen.messages} messages reached the person on call"),
    ]
    return Proof(
        checks=tuple(checks), contacts=contacts, equations=equations,
        reconciled="; ".join(str(row["equation"]) for row in seen.reconciled), ids=seen.ids,
        recovery=tuple(seen.failover["objectives"]), report=str(seen.report),
        messages=seen.messages)


def shifted_at(run: Mapping[str, Any], queue: str = "loan_calls") -> int:
    """When the last increment of a run's shift was seen to be in force; 0: never."""
    ended = [int(step["ended_at"]) for step in run["steps"]
             if step["kind"] == "shift_route" and step["ended_at"]
             and str(step["id"]).startswith(f"{queue}/") and step["status"] == "succeeded"]
    return max(ended, default=0)


def _contacts(seen: Seen) -> tuple[Stretch, ...]:
    shifted = shifted_at(seen.failover)
    back = int(seen.failback["started_at"] or seen.end)
    first = min((int(event["offered_at"]) for event in seen.calls), default=seen.fault)
    # Who was talking to the home when it was killed was lost by the fault, not before it.
    calls = [{**event, "offered_at": seen.fault}
             if not event["ok"] and event["offered_at"] < seen.fault <= event["at"] else event
             for event in seen.calls]
    return stretches(calls, [
        ("before the fault", first), ("fault → detected", seen.fault),
        ("detected → shifted", seen.detected), ("away", shifted), ("failback", back),
    ], seen.end)


def _calls(seen: Seen, contacts: Sequence[Stretch]) -> list[Check]:
    lost = {stretch.name: stretch.lost for stretch in contacts}
    hurt = lost["fault → detected"] + lost["detected → shifted"]
    later = lost["away"] + lost["failback"]
    switch = {name: sum(stretch.answered.get(name, 0) for stretch in contacts)
              for name in seen.answered}
    agree = all(switch[name] <= seen.answered[name] for name in switch)
    return [
        Check("calls", later == 0 and lost["before the fault"] == 0,
              f"{hurt} lost between the fault and the end of the shift, {later} after it"),
        Check("receivers", agree and switch.get("acme", 0) > 0, ", ".join(
            f"{name} itself counts {seen.answered[name]} calls, the switch {switch[name]}"
            for name in switch)),
    ]


def _applications(seen: Seen) -> list[Check]:
    ids, found = seen.ids, []
    found.append(Check(
        "applications", not ids.lost and not ids.unknown and ids.held == 0,
        f"{ids.known} known ids: {_sum(ids.completed)} completed, {_sum(ids.waiting)} waiting, "
        f"{len(ids.lost)} lost" + (f", {len(ids.unknown)} that nobody sent" if ids.unknown
                                   else "")))
    excused = (f"; {ids.in_hand[0]} was finished at hq in the instant of the kill and done again"
               if ids.in_hand else "")
    found.append(Check("once", not ids.twice, f"{len(ids.twice)} processed twice{excused}"))
    if seen.equation is not None:
        if seen.found_again is not None:
            terms = seen.equation.terms
            gone = terms["unreachable"] + terms["stranded"] + terms["claimed"]
            agrees = gone == seen.found_again
            found.append(Check("found again", agrees, f"the queue's server came back with "
                               f"{seen.found_again}; unreachable, stranded and claimed were "
                               f"{gone}"))
        found.append(Check("conserved", seen.equation.balanced, seen.equation.sides))
    rows = seen.reconciled
    # With the source dead nobody can say what it holds: `unknown` is then the honest answer.
    good = {True, None} if seen.source_dies else {True}
    found.append(Check("reconciled", bool(rows) and all(row["balanced"] in good for row in rows),
                       "; ".join(str(row["detail"]) for row in rows)
                       or "transfer reconcile gave no account"))
    return found


def _runs(seen: Seen) -> list[Check]:
    wanted = "succeeded_with_exceptions" if seen.source_dies else "succeeded"
    out = [Check("failover", seen.failover["state"] == wanted,
                 f"run {seen.failover['run']}: {_words(seen.failover)}"),
           Check("failback", seen.failback["state"] == "succeeded",
                 f"run {seen.failback['run']}: {_words(seen.failback)}")]
    blind = [str(step["id"]) for run in (seen.failover, seen.failback) for step in run["steps"]
             if step["kind"] == "verify" and "read-back only" in str(step["reason"])]
    out.append(Check("verified", not blind, "every shift was verified by the receivers' counts"
                     if not blind else f"only read back: {', '.join(blind)}"))
    return out


def _words(run: Mapping[str, Any]) -> str:
    return str(run["state"]).replace("_", " ")


def _recovery(seen: Seen) -> list[Check]:
    return [Check(f"rto {row['queue']}", row["rto_met"] is True,
                  f"served again after {_seconds(row['actual_upper'])} at most; "
                  f"objective {_seconds(row['rto'])}")
            for row in seen.failover["objectives"]]


def _report(seen: Seen) -> Check:
    written = seen.report.is_file() and seen.report.stat().st_size > 1000
    return Check("report", seen.codes.get("report") == 0 and written,
                 str(seen.report) if written else f"no report at {seen.report}")


def _seconds(value: float | None) -> str:
    return "an unknown time" if value is None else f"{value:.1f} s"


def _sum(counts: Mapping[str, int]) -> int:
    return sum(counts.values())
