"""What a step is: one absolute, verifiable, reversible move.

The engine journals `snapshot()` before it calls `apply()`, so that a run killed halfway can
still be undone, and believes `holds()`, not a "200 OK".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Protocol

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import Reading
from ccfailover.model.journal import Lease, Record
from ccfailover.model.plan import Json, Mode, Plan, StepSpec
from ccfailover.model.policy import LeverSpec, Policy, ProbeSpec, Queue
from ccfailover.model.shares import Shares
from ccfailover.providers import (
    Announcement,
    AnnouncementView,
    Backlog,
    BacklogView,
    Gate,
    GateView,
    Procedure,
    ProcedureView,
    Route,
    RouteView,
)
from ccfailover.runtime import Runtime
from ccfailover.store import Store

if TYPE_CHECKING:
    from ccfailover.transfer.fanout import FanOut


class Truth(str, Enum):
    """Whether a step's aim is met, as the world itself reports it."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Observed:
    """What the world says of a step's aim.

    `detail` is a sentence; `data` goes into the journal (ids and counts, no borrower data).
    `final` says that waiting longer will not help. `exceptions` are what a person must know
    although the step succeeded: with one of them a run is never plainly "succeeded". `veto`: a
    person said no, so that no recipe passes the step over. `back_off`: the aim is set, but those
    who receive do not bear it; if that stays so the step is taken back to where it began.
    """

    truth: Truth
    detail: str
    data: Mapping[str, Json] | None = None
    final: bool = False
    exceptions: tuple[str, ...] = ()
    veto: bool = False
    back_off: bool = False


@dataclass(frozen=True)
class Move:
    """What a step is about to change for one queue, told to the guards before it is done.

    `hard_only`: the soft guards have no say: they judge where work arrives, not who works on what
    waits; and a way back is never priced or blocked.
    """

    queue: str
    before: Shares
    after: Shares
    hard_only: bool = False


class Levers(Protocol):
    """How steps reach the platforms. In a shadow drill only the views answer."""

    def route_view(self, lever: LeverSpec) -> RouteView: ...
    def route(self, lever: LeverSpec) -> Route: ...
    def gate_view(self, lever: LeverSpec) -> GateView: ...
    def gate(self, lever: LeverSpec) -> Gate: ...
    def backlog_view(self, lever: LeverSpec) -> BacklogView: ...
    def backlog(self, lever: LeverSpec) -> Backlog: ...
    def announcement_view(self, lever: LeverSpec) -> AnnouncementView: ...
    def announcement(self, lever: LeverSpec) -> Announcement: ...
    def procedure_view(self, lever: LeverSpec) -> ProcedureView: ...
    def procedure(self, lever: LeverSpec) -> Procedure: ...
    def capabilities(self, lever: LeverSpec) -> Capabilities: ...


@dataclass(frozen=True)
class StepContext:
    """What a step may use. `key` is `run/step`, the same on every attempt.

    `stop()` is true once the run has been asked to stop: long steps look at it between batches.
    `progress(done, total, note)` reports to whoever watches; it never blocks. `check_fence()`
    raises Fenced when the lease is gone: long steps call it before each batch. `fan_out` reaches
    workers on other machines; None where there can be none.
    """

    run: str
    key: str
    mode: Mode
    plan: Plan
    policy: Policy
    levers: Levers
    store: Store
    runtime: Runtime
    stop: Callable[[], bool]
    progress: Callable[[int, int | None, str], None]
    check_fence: Callable[[], None]
    site_state: Callable[[str], str]
    observe: Callable[[ProbeSpec], Reading]
    records: Callable[[], Sequence[Record]]
    lease: Lease | None = None
    fan_out: FanOut | None = None


@dataclass(frozen=True)
class Binding:
    """What a recipe line is bound to when a plan is made.

    `queue` is None for steps before and after the branches. `before` and `after` are the queue's
    shares; `moves` are the (source site, target site) pairs that its backlog must travel.
    `params` are the recipe line's own. `led`: lever → the queue before this one whose steps set
    it, and the seconds that they may take.
    """

    policy: Policy
    runbook: str
    subject: str
    mode: Mode
    queue: Queue | None
    before: Shares | None
    after: Shares | None
    moves: Sequence[tuple[str, str]]
    capabilities: Callable[[LeverSpec], Capabilities]
    params: Mapping[str, Json]
    reason: str = ""
    led: Mapping[str, tuple[str, float]] = field(default_factory=dict)


class Step(ABC):
    """Subclasses live one a file in `runbooks/steps/`; `wiring.kinds` names them."""

    kind: ClassVar[str]
    PARAMS: ClassVar[Mapping[str, object]]
    summary: ClassVar[str]

    def __init__(self, spec: StepSpec, ctx: StepContext) -> None:
        self.spec = spec
        self.ctx = ctx

    @classmethod
    @abstractmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        """The step specs for one recipe line, in order; none when it does not apply.

        `id` holds only the step's own name here (`shift_route`, `shift_route-50`); the planner
        prefixes branch and position.
        """

    def snapshot(self) -> Json:
        """What undo needs, and nothing that names a borrower. Raises ProviderError."""
        return None

    def moves(self, snapshot: Json) -> Sequence[Move]:
        """What the guards have to agree to before `apply`; none for a step that only looks."""
        return ()

    def undo_moves(self, snapshot: Json) -> Sequence[Move]:
        """The same for `undo`."""
        return ()

    @abstractmethod
    def holds(self, snapshot: Json) -> Observed:
        """Is the aim met? Raises ProviderError only for `Unavailable`/`Rejected` reads, which
        the engine takes as UNKNOWN."""

    def still(self, snapshot: Json) -> Observed:
        """Whether a step that succeeded earlier holds to this day; asked on a resume.

        NO has it done again, so that only what is absolute and cheap to read may say so."""
        return Observed(Truth.YES, "done once is done")

    def apply(self, snapshot: Json) -> bool:
        """Do it, for at most `spec.timeout` seconds; False: there is more to do, call again.

        Called only when `holds` did not say YES, and never in a shadow drill. Raises
        ProviderError; Refused when the move must not be made.
        """
        return True

    def undo_holds(self, snapshot: Json) -> Observed:
        """Is the world as it was before the step (or is there nothing to undo)?"""
        return Observed(Truth.YES, "nothing to undo")

    def undo(self, snapshot: Json) -> bool:
        """Bring back what `snapshot` says. Raises Refused when that would do harm (a site that
        is down, a lever that someone else has changed since): the rollback pauses then. False:
        there is more to do, call again."""
        return True
