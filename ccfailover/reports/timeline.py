"""Where everything stands in the timeline plot: numbers only, no markup. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ccfailover.reports.facts import Event, Facts
from ccfailover.reports.words import MARKS, span
from ccfailover.runtime import SECOND

WIDTH, LEFT, RIGHT, ROW, TOP = 1000, 316, 986, 22, 46
LONGEST_LABEL = 42

_ENDS = {"step.succeeded": "succeeded", "step.failed": "failed", "step.skipped": "skipped",
         "step.rehearsed": "rehearsed", "undo.succeeded": "undone", "undo.failed": "undo failed"}
_NICE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400,
         28800, 43200, 86400)


@dataclass(frozen=True)
class Bar:
    """One stretch of work on a step: `css` is its look, `label` stands beside it at `at`."""

    x: float
    width: float
    css: str
    label: str
    at: float
    anchor: str
    title: str


@dataclass(frozen=True)
class Row:
    """A branch's heading (`head`) or one step. `limit` is where the objective ends, `served`
    where service was verified; None: not in the picture."""

    y: int
    label: str
    title: str
    head: bool
    bars: tuple[Bar, ...] = ()
    limit: float | None = None
    served: float | None = None


@dataclass(frozen=True)
class Mark:
    x: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Plot:
    """`gaps` are (x, width, label): nobody carried the run then."""

    width: int
    height: int
    left: int
    right: int
    top: int
    row: int
    rows: tuple[Row, ...]
    ticks: tuple[Mark, ...]
    marks: tuple[Mark, ...]
    gaps: tuple[tuple[float, float, str], ...]


def plot(facts: Facts) -> Plot:
    """Branches and their steps over time; the clock starts with the request."""
    scale = _Scale(facts)
    rows: list[Row] = []
    y = TOP
    for branch in facts.branches:
        goal = next((o for o in facts.objectives if o.queue == branch), None)
        limit = None
        if goal is not None and goal.rto is not None:
            limit = scale.inside(goal.last_good + int(goal.rto * SECOND))
        served = scale.inside(goal.served_at) if goal and goal.served_at else None
        rows.append(Row(y, branch, branch, True, limit=limit, served=served))
        y += ROW
        for step in facts.steps:
            if step.branch != branch:
                continue
            label = f"{MARKS.get(step.word, '·')} {step.id.removeprefix(branch + '/')}"
            if len(label) > LONGEST_LABEL:
                label = label[:LONGEST_LABEL - 1] + "…"
            events = [event for event in facts.events if event.step == step.id]
            bars = _readable(tuple(_bars(events, scale, step.word)))
            rows.append(Row(y, label, step.title, False, bars, limit))
            y += ROW
    return Plot(WIDTH, y + 10, LEFT, RIGHT, TOP, ROW, tuple(rows), tuple(scale.ticks()),
                tuple(_marks(facts, scale)), tuple(_gaps(facts.events, scale)))


class _Scale:
    """µs → x. The fault is in the picture unless that would squeeze the run itself."""

    def __init__(self, facts: Facts) -> None:
        head = facts.header
        self.zero = head.planned_at
        self.end = max(facts.events[-1].at, head.ended_at or 0, self.zero + SECOND)
        lasted = self.end - self.zero
        faults = [o.first_bad for o in facts.objectives if not o.by_request]
        early = min(faults, default=self.zero)
        self.begin = early if 0 < self.zero - early <= 3 * lasted else self.zero
        self.fault = early if faults else None

    def x(self, at: int) -> float:
        share = (at - self.begin) / (self.end - self.begin)
        return round(LEFT + max(0.0, min(1.0, share)) * (RIGHT - LEFT), 1)

    def inside(self, at: int | None) -> float | None:
        return self.x(at) if at is not None and self.begin <= at <= self.end else None

    def ticks(self) -> Iterator[Mark]:
        whole = (self.end - self.begin) / SECOND
        step = next((nice for nice in _NICE if whole / nice <= 8), whole / 8)
        number = -int((self.zero - self.begin) / SECOND // step)
        while self.zero + int(number * step * SECOND) <= self.end:
            sign = "−" if number < 0 else "+" if number else ""
            yield Mark(self.x(self.zero + int(number * step * SECOND)),
                       f"{sign}{span(abs(number * step))}")
            number += 1


def _marks(facts: Facts, scale: _Scale) -> Iterator[Mark]:
    zero = scale.x(scale.zero)
    yield Mark(zero, "requested", "start")
    if scale.fault is not None and scale.begin < scale.zero:
        yield Mark(scale.x(scale.fault), "first bad reading", "start")


def _bars(events: Sequence[Event], scale: _Scale, word: str) -> Iterator[Bar]:
    """Every attempt and every undo as a stretch of its own; one that never ended is in doubt."""
    began: int | None = None
    for event in events:
        if event.kind in ("step.started", "undo.started", "step.observed"):
            if began is not None:
                yield _bar(scale, began, event.at, "in doubt")
            began = None if event.kind == "step.observed" else event.at
        elif event.kind in _ENDS:
            ended = "unknown" if (event.kind, word) == ("step.failed", "unknown") else (
                _ENDS[event.kind])
            yield _bar(scale, event.at if began is None else began, event.at, ended)
            began = None
    if began is not None:
        yield _bar(scale, began, scale.end, "in doubt" if word == "in doubt" else "started")


def _readable(bars: tuple[Bar, ...]) -> tuple[Bar, ...]:
    """Of labels that would lie on each other, or on a bar, the last one counts."""
    return tuple(
        replace(bar, label="") if any(abs(later.at - bar.at) < 64 or abs(later.x - bar.at) < 64
                                      for later in bars[number + 1:]) else bar
        for number, bar in enumerate(bars))


def _bar(scale: _Scale, began: int, ended: int, word: str) -> Bar:
    left, right = scale.x(began), scale.x(ended)
    width = max(4.0, round(right - left, 1))
    left = min(left, RIGHT - width)
    lasted = span((ended - began) / SECOND)
    near_the_edge = left + width > RIGHT - 110
    return Bar(left, width, word.replace(" ", "-"), f"{MARKS[word]} {lasted}",
               left - 5 if near_the_edge else left + width + 5,
               "end" if near_the_edge else "start", f"{word}, {lasted}")


def _gaps(events: Sequence[Event], scale: _Scale) -> Iterator[tuple[float, float, str]]:
    """From a pause, or from the last sign of life, until somebody took the run up again."""
    paused: int | None = None
    last: int | None = None
    for event in events:
        if event.kind in ("run.paused", "run.stuck"):
            paused = event.at
        elif event.kind in ("run.resumed", "rollback.started") and last is not None:
            since = paused if paused is not None else last
            left, right = scale.x(since), scale.x(event.at)
            if right - left >= 2:
                yield left, round(right - left, 1), "paused" if paused else "interrupted"
            paused = None
        if event.kind not in ("note", "step.skipped", "approval.given", "confirmation.given"):
            last = event.at
