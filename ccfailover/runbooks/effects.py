"""What an engine asks for, and what it is answered. Data: performing it is another's work."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from ccfailover.model.plan import Json, StepSpec


@dataclass(frozen=True)
class Append:
    """Write one event, durably, with the fence checked in the same transaction."""

    kind: str
    data: Mapping[str, Json]


@dataclass(frozen=True)
class End:
    """Write the event that ends the run, number its end, give the scopes back: one transaction."""

    kind: str
    data: Mapping[str, Json]


@dataclass(frozen=True)
class Snapshot:
    """→ Snapped."""

    step: StepSpec


@dataclass(frozen=True)
class Holds:
    """→ Observed; a read that fails is UNKNOWN, never NO."""

    step: StepSpec
    snapshot: Json
    undo: bool = False


@dataclass(frozen=True)
class Still:
    """→ Observed: does a step that succeeded earlier hold to this day? Asked on a resume."""

    step: StepSpec
    snapshot: Json


@dataclass(frozen=True)
class Guard:
    """→ Guarded: what the guards say to the move that is about to be made (DESIGN §4.9)."""

    step: StepSpec
    snapshot: Json
    undo: bool = False


@dataclass(frozen=True)
class CheckFence:
    """Go on only with more than `needs` seconds of lease; performing it raises Fenced else."""

    needs: float


@dataclass(frozen=True)
class Apply:
    """→ Applied."""

    step: StepSpec
    snapshot: Json
    undo: bool = False


@dataclass(frozen=True)
class Wait:
    """→ True when the run has been asked to stop meanwhile."""

    seconds: float


@dataclass(frozen=True)
class Clock:
    """→ monotonic seconds."""


@dataclass(frozen=True)
class Branches:
    """Perform all side by side → their results, in order."""

    engines: tuple[Generator[Any, Any, Any], ...]


@dataclass(frozen=True)
class Snapped:
    """`error` is set when the platform could not be read: then nothing may be done."""

    value: Json = None
    error: str | None = None


@dataclass(frozen=True)
class Applied:
    """`permanent`: waiting will not help. `more`: call again. `error` is None after a 200."""

    error: str | None = None
    permanent: bool = False
    more: bool = False


@dataclass(frozen=True)
class Guarded:
    """`stop` says what bound and by how much; None lets the move be made. `said` is everything
    that the guards found, warnings included, for the journal."""

    stop: str | None = None
    said: tuple[Mapping[str, Json], ...] = ()


class Result(str, Enum):
    """How a branch or a run came out."""

    DONE = "done"
    PAUSED = "paused"
    ABORTED = "aborted"
    UNDONE = "undone"
    STUCK = "stuck"


Effect: TypeAlias = (Append | End | Snapshot | Holds | Still | Guard | CheckFence | Apply | Wait
                     | Clock | Branches)
