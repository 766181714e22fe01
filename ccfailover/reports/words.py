"""How reports say things to people: instants, spans, marks; and text made safe to show.

A reason, a note or an id is written by people and platforms. In a report it must not be able to
move a terminal's cursor, turn the direction of the line, or hide.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime

from ccfailover.model.shares import Shares
from ccfailover.runtime import SECOND

MARKS = {
    "pending": "·", "started": "…", "in doubt": "?", "succeeded": "✓", "failed": "✗",
    "unknown": "?", "skipped": "»", "rehearsed": "○", "undoing": "…", "undone": "↶",
    "undo failed": "✗",
}
"""A sign before each word: colour is never the only signal."""

STATES = {
    "planned": "PLANNED, NOT BEGUN", "running": "STILL RUNNING",
    "paused": "PAUSED, NEEDS A PERSON", "interrupted": "INTERRUPTED, NEEDS A PERSON",
    "rolling_back": "ROLLING BACK", "stuck": "STUCK, NEEDS A PERSON", "succeeded": "SUCCEEDED",
    "succeeded_with_exceptions": "SUCCEEDED WITH EXCEPTIONS", "rolled_back": "ROLLED BACK",
    "aborted": "ABORTED", "superseded": "SUPERSEDED BY ANOTHER RUN",
}

MODES = {
    "real": "real: work was moved",
    "shadow": "DRILL, shadow: the real sites were read and nothing was written outside",
    "simulated": "DRILL, simulated: no real platform was touched",
}

DRILL = "DRILL"
LONGEST = 2000
_HIDING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def safe(text: object, longest: int = LONGEST) -> str:
    """One line in which nothing is hidden: control and direction characters show as `\\xNN`."""
    out = "".join(
        char if unicodedata.category(char) not in _HIDING or char == "\u00ad"
        else " " if char in "\n\t" else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )
    return out if len(out) <= longest else out[:longest] + f"… ({len(out) - longest} more)"


def clock(at: int | None, *, micro: bool = False) -> str:
    """An instant in UTC, to the second or to the millisecond."""
    if at is None:
        return "–"
    moment = datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{moment}.{at % SECOND // 1000:03d}Z" if micro else f"{moment}Z"


def hour(at: int | None) -> str:
    """The time of day alone, to the millisecond, where the date stands elsewhere."""
    return "–" if at is None else clock(at, micro=True)[11:]


def span(seconds: float | None) -> str:
    """`8 ms`, `0.4 s`, `12.3 s`, `4 min 10 s`, `3 h 5 min`, `2 d 1 h`; an unknown one says so."""
    if seconds is None:
        return "not known"
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for size, name, below, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"),
                                       (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def shares(parts: Mapping[str, int] | None) -> str:
    if parts is None:
        return "unknown"
    try:
        return str(Shares(parts))
    except (ValueError, TypeError):
        return f"not valid: {dict(parts)}"


def stream_name(stream: str, run: str) -> str:
    """A stream of the journal in the report of `run`, for people."""
    named = {"runs": "all runs", "automation": "automation", f"run:{run}": "this run"}
    return named.get(stream) or f"{stream.removeprefix('run:')}, open"


def verdict(met: bool | None) -> str:
    return {True: "✓ met", False: "✗ NOT MET", None: "? not shown"}[met]


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
