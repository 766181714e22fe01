"""What the demo tells whoever shows it. Frozen, and nothing about how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ccfailover.operations.demo_proof import Proof


@dataclass(frozen=True)
class Scene:
    """A new part of the story begins. `number` counts from 1."""

    number: int
    title: str
    text: str


@dataclass(frozen=True)
class Act:
    """Something that the demo does to its world, not the tool: kill -9, restart."""

    text: str


@dataclass(frozen=True)
class Command:
    """A ccfailover command begins, as a person would type it."""

    text: str


@dataclass(frozen=True)
class Line:
    """One line that the command printed; `problem` when it ended badly."""

    text: str
    problem: bool = False


@dataclass(frozen=True)
class Ended:
    text: str
    code: int
    seconds: float


@dataclass(frozen=True)
class Tick:
    """What the servers themselves say at one moment; None: it does not answer.

    `per_second` are contacts answered, by destination, since the last tick, and `lost` likewise.
    `waiting` by site: applications in its queue, as the queue's server has it. `held`:
    applications that the switch has promised and could not hand on yet.
    """

    seconds: float
    alive: Mapping[str, bool]
    shares: Mapping[str, int] | None
    intake: Mapping[str, int] | None
    per_second: Mapping[str, float]
    lost_per_second: float
    answered: Mapping[str, int]
    lost: int
    waiting: Mapping[str, int | None]
    completed: Mapping[str, int]
    held: int | None


@dataclass(frozen=True)
class Finished:
    proof: Proof
    seconds: float
    files: Mapping[str, str] = field(default_factory=dict)


Event = Scene | Act | Command | Line | Ended | Tick | Finished
