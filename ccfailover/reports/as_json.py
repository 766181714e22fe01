"""The report as JSON: every fact, for machines. Instants are µs since the epoch, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from ccfailover.model.plan import Json
from ccfailover.reports.facts import Facts
from ccfailover.reports.words import DRILL, MODES, STATES

FORMAT = 1


def as_json(facts: Facts) -> dict[str, Json]:
    """A drill carries `stamp` and `drill` at the top, so that no reader takes it for real."""
    head = facts.header
    body = asdict(facts)
    for told, move in zip(body["moves"], facts.moves, strict=True):
        told["equation"] = move.equation
    for step, found in zip(body["steps"], facts.steps, strict=True):
        step["seconds"] = found.seconds
    body["outcome"]["words"] = STATES[facts.outcome.state]
    return {
        "format": FORMAT, "stamp": DRILL if head.drill else None, "drill": head.drill,
        "what": MODES[head.mode], "run": head.run, "state": facts.outcome.state,
        "units": "instants in µs since 1970-01-01 UTC, durations in seconds, shares in percent",
        **body, "incident": facts.incident.to_json() if facts.incident else None,
        "verify": verify_commands(facts),
    }


def verify_commands(facts: Facts) -> list[str]:
    """How anybody checks, offline, that this report's journal is the one that was written."""
    return verify_lines(facts.evidence.heads)


def verify_lines(heads: Mapping[str, tuple[int, str]]) -> list[str]:
    """The commands for these heads, by stream."""
    said = "".join(f" --head {number}:{hash_}" for number, hash_ in heads.values())
    return ["ccfailover journal export > journal.jsonl",
            f"ccfailover journal verify journal.jsonl{said}"]
