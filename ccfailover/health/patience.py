"""When silence is the target's fault, and when we just did not wait.

With many targets or a short budget, a poll ends before some of them had their time-out. A target
that was asked late and cut short is UNKNOWN: it would be a lie to call it down. One that had its
time-out, or nearly all the time that there was, is BAD; otherwise a budget shorter than every
time-out would hide a hanging site for ever.
"""

from __future__ import annotations

from collections.abc import Mapping

from ccfailover.model.health import Outcome, Reading

ENOUGH = 0.8
"""This part of the poll's time counts as a fair chance."""


class Patience:
    """`began` and `deadline` of one poll, monotonic seconds."""

    def __init__(self, began: float, deadline: float) -> None:
        self.began = began
        self.deadline = deadline

    def allowance(self, timeout: float, now: float) -> float:
        """Seconds that a target asked now may take."""
        return max(0.001, min(timeout, self.deadline - now))

    def silence(self, timeout: float, waited: float) -> tuple[Outcome, str]:
        """The verdict on a target that said nothing for `waited` seconds."""
        fair = min(timeout, ENOUGH * (self.deadline - self.began))
        if waited >= fair - 0.01:
            return Outcome.BAD, f"no answer in {waited:.1f} s"
        return Outcome.UNKNOWN, f"cut short after {waited:.1f} s of {timeout:g} s: out of time"


NOT_ASKED = "not asked: out of time"


def reading(
    key: str,
    at: int,
    outcome: Outcome,
    detail: str,
    *,
    seconds: float = 0.0,
    values: Mapping[str, float] | None = None,
) -> Reading:
    """A Reading whose `detail`, which may hold what others sent, is one short plain line."""
    return Reading(key, at, outcome, plain(detail), round(seconds, 6), dict(values or {}))


def plain(text: str, limit: int = 200) -> str:
    """Printable, one line, at most `limit` characters: safe for terminals and journals."""
    shown = "".join(mark if mark.isprintable() else " " for mark in text[: 4 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
