"""Probe → Reading → Assessment, and Trigger → Decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ccfailover.model.shares import Shares


class State(str, Enum):
    """The verdict on a site, queue or dependency. Missing, stale or null is UNKNOWN."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"

    def worse_than(self, other: State) -> bool:
        """What cannot be seen is worse than degraded, and better than known to be down."""
        order = (State.HEALTHY, State.DEGRADED, State.UNKNOWN, State.DOWN)
        return order.index(self) > order.index(other)


class Outcome(str, Enum):
    """What one probe saw, once. UNKNOWN: the probe itself could not tell."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Target:
    """What is probed: a `site`, a `queue` or a `dependency`, and which of its probes.

    `key` names one probe for ever: `site.hq.0.http`, `queue.loan_calls.route`,
    `queue.applications.backlog.hq`.
    """

    noun: str
    name: str
    key: str


@dataclass(frozen=True)
class Reading:
    """One observation. `values` are numbers with their unit in the name (`depth`, `oldest_s`)."""

    key: str
    at: int
    outcome: Outcome
    detail: str
    seconds: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    shares: Shares | None = None


@dataclass(frozen=True)
class ProbeHistory:
    """What one probe remembers between two `check`s (stored per key).

    `settled` is the outcome after fall/rise; `streak` counts readings in a row that disagree
    with it; `last_good` and `first_bad` bound when the present fault began (µs, None: there is
    none, or nothing is known). `bads` counts BAD readings and `unknowns` UNKNOWN ones in a row.
    """

    key: str
    settled: Outcome
    streak: int
    streak_outcome: Outcome
    since: int
    last: Reading
    last_good: int | None
    first_bad: int | None
    bads: int = 0
    unknowns: int = 0


@dataclass(frozen=True)
class Assessment:
    """The verdict on one site, queue or dependency, and why."""

    noun: str
    name: str
    state: State
    since: int | None
    reason: str
    observers_down: tuple[str, ...] = ()
    last_good: int | None = None
    first_bad: int | None = None


@dataclass(frozen=True)
class QueueView:
    """What is known of one queue now. None means unknown: never 0.

    `shares` are those of its route, `intake` those of its intake lever, where it has one.
    """

    name: str
    shares: Shares | None
    depth: Mapping[str, int | None]
    oldest_s: Mapping[str, float | None]
    shares_at: int | None = None
    intake: Shares | None = None


@dataclass(frozen=True)
class World:
    """One immutable picture of everything observed; decisions and plans read only this.

    `treat_only` names, for a queue, the dependencies that are down and that its home and every
    backup stand on: work moved would fail there too, so it is treated, not shifted.
    """

    at: int
    sites: Mapping[str, Assessment]
    dependencies: Mapping[str, Assessment]
    queues: Mapping[str, QueueView]
    treat_only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def site_state(self, name: str) -> State:
        found = self.sites.get(name)
        return found.state if found else State.UNKNOWN


@dataclass(frozen=True)
class Decision:
    """What a trigger asks for. `action` is `advise`, `approve` or `execute`.

    `blockers` say why nothing will run by itself although the condition holds.
    """

    trigger: str
    runbook: str
    subject: str
    action: str
    since: int
    reasons: tuple[str, ...]
    blockers: tuple[str, ...] = ()


@dataclass(frozen=True)
class TriggerState:
    """What one trigger remembers between two `check`s (µs; None: not so).

    `since`: its condition has held from then on. `fired_at`: when it last asked for its
    runbook; `run`: the run that came of it. `cleared_at`: when its condition last cleared.
    """

    name: str
    since: int | None = None
    fired_at: int | None = None
    cleared_at: int | None = None
    run: str | None = None
