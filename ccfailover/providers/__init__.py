"""What every platform adapter offers: views (read only) apart from levers (they act).

A shadow drill is given views and nothing else, so that it cannot write by construction.

What every adapter owes:
- it imports without its SDK; `_connect` (called on first use) imports it;
- `__init__` does no I/O;
- it raises only `Rejected` (permanent) and `Unavailable` (transient; `in_doubt` when a write may
  have landed), never with a credential, a body or a full query string in the text;
- every call is bounded: time-outs on connect and in total, and a cap on the bytes it reads;
- a write is absolute, and the same write twice lands in the same place.
The conformance suite (`tests/conformance/`) holds each adapter to this against a real server.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import PutResult, Receipt, WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers.bodies import Understood, understand
from ccfailover.providers.params import seconds
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    from ccfailover.store import Store

__all__ = [
    "Announcement", "AnnouncementView", "Backlog", "BacklogMeasure", "BacklogView", "Gate",
    "GateView", "LeverSource", "OurDesk", "Phase", "Procedure", "ProcedureState", "ProcedureView",
    "Provider", "Resolve", "Route", "RouteState", "RouteView", "Understood", "understand",
]

Resolve = Callable[[str], str]
"""A secret's reference (`env:NAME`, `file:PATH` …) → the secret; called late, never at start."""


@dataclass(frozen=True)
class RouteState:
    """Shares as the platform itself reports them; `version` is its compare-and-set token.

    `boot`, of a platform that forgets its shares in a restart, is another after each restart, and
    the same between two of them; None: it does not tell.

    Of several levers that act as one (`providers.combined`): `by` is the one that carries, `amiss`
    what is not as it should be although the shares are what they are (a sentence each), and
    `parts` what each one reads, None where it cannot be read.

    `raw`: what stands there behind the shares (weights, TTLs …), in words of the adapter's own and
    without secrets, so that a way back can restore it and not the shares alone; None: they are all.
    `was`, where a shift is to start from: the `raw` before its first attempt.

    `pending`: what the platform was asked for and has not come to yet (a person who is to do it).
    `refused`: why it will not do what it was asked for last ("" while that is not so). `told`: how
    it is known to be so, for the journal ("" where the platform itself says it).
    """

    shares: Shares
    version: str | None = None
    by: str | None = None
    amiss: tuple[str, ...] = ()
    parts: tuple[RouteState | None, ...] = ()
    boot: str | None = None
    pending: Shares | None = None
    refused: str = ""
    told: str = ""
    raw: str | None = None
    was: str | None = None

    def stands_at(self, shares: Shares) -> bool:
        """Whether it is so, and nothing is still to come: not even the same, since it may have
        been asked for because something else had been begun."""
        return self.shares == shares and self.pending is None


@dataclass(frozen=True)
class OurDesk:
    """What a kind gets whose state is in our own store (`wants_desk`). `actor` acts; `tell` has
    people told of the open task of a lever, once, however often it is called."""

    store: Store
    actor: str
    tell: Callable[[str], None]


@dataclass(frozen=True)
class BacklogMeasure:
    """Counts as the platform reports them (SQS: approximate). None means it cannot tell.

    `visible` wait; `hidden` are claimed or delayed; `oldest_s` is the age of the oldest, seconds.
    """

    visible: int
    hidden: int
    oldest_s: float | None

    @property
    def depth(self) -> int:
        return self.visible + self.hidden


class RouteView(ABC):
    @abstractmethod
    def read(self) -> RouteState:
        """The actual shares. Raises Rejected when the reply makes no sense (sum not 100 …)."""

    def between(self, state: RouteState, aims: Sequence[RouteState]) -> bool:
        """Whether whoever sets the lever to `aims`, one after the other, may have left it so: also
        by half, where a shift takes several writes."""
        return state.shares in [aim.shares for aim in aims]

    def as_found(self, state: RouteState, before: RouteState) -> bool:
        """Whether it is again as it was read as `before`, and not only by its shares."""
        return state.stands_at(before.shares) and before.raw in (None, state.raw)

    def complete(self, state: RouteState, to: Shares, was: str | None) -> bool:
        """Whether a state that reads as `to` has all of the shift: half of one can read so, too."""
        return True

    def measure(self) -> Mapping[str, float]:
        """Live counts the switch keeps (`answered.hq`, `lost` …); empty when it keeps none."""
        return {}

    def live(self) -> Mapping[str, int] | None:
        """Contacts in progress at each site or treatment, by name (one that is left out is not
        known, and never 0); None: it cannot tell. Raises Rejected or Unavailable."""
        return None


class Route(RouteView):
    @abstractmethod
    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        """Set the shares to exactly `to`.

        With `expected`, adapters that can compare and set refuse (Rejected) when the platform
        has another version. `key` is `run/step`, the same on every attempt. Returning proves
        nothing: the caller reads back. Shares that the lever cannot express (step, unknown
        destination) are Rejected before anything is sent."""

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        """Bring back what was read as `before`: its shares, and what stood behind them (`raw`)
        where the adapter tells that. What else was changed there since stays as it is."""
        self.shift(before.shares, expected=expected, key=key)


class GateView(ABC):
    @abstractmethod
    def is_open(self) -> bool:
        """True when the consumers behind the gate take work."""


class Gate(GateView):
    @abstractmethod
    def set_open(self, is_open: bool, *, key: str) -> None: ...


class AnnouncementView(ABC):
    """What callers of a queue hear before anything else."""

    @abstractmethod
    def said(self) -> str | None:
        """The name of the announcement that is on (as the policy's lever calls it); None: off.

        Raises Rejected when something is on that the policy does not name."""


class Announcement(AnnouncementView):
    @abstractmethod
    def say(self, name: str | None, *, key: str) -> None:
        """Switch the announcement `name` on, or with None whatever is on off. Absolute."""


class Phase(str, Enum):
    """Where a procedure stands. PAUSED and WAITING go on when a person says so."""

    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    DONE = "done"
    EXCEPTIONS = "exceptions"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class ProcedureState:
    """One execution of a procedure, as its platform tells it.

    `execution`: the platform's id of it. `steps`: each with the platform's own word for its state.
    `waiting_for`: the steps that a person has to approve. `key`: the one that it was begun with,
    "" where somebody else began it; None: the platform does not tell.
    """

    phase: Phase
    execution: str | None = None
    detail: str = ""
    steps: tuple[tuple[str, str], ...] = ()
    waiting_for: tuple[str, ...] = ()
    key: str | None = None


class ProcedureView(ABC):
    """A recovery plan that a platform keeps and carries out itself."""

    @abstractmethod
    def read(self, execution: str | None = None) -> ProcedureState:
        """The execution named, or the newest. Raises Rejected or Unavailable."""


class Procedure(ProcedureView):
    @abstractmethod
    def start(self, action: str, *, key: str) -> str:
        """Begin it, and give its execution's id. The same `key` again gives the one that it
        began; Rejected where another is under way."""

    @abstractmethod
    def approve(self, execution: str, step: str, *, approve: bool, key: str) -> None:
        """Answer a step that waits for a person."""


class BacklogView(ABC):
    @abstractmethod
    def measure(self) -> BacklogMeasure: ...


class Backlog(BacklogView):
    """Claim → deliver → settle. A claim hides an item for `claim_seconds`, no longer.

    Threads may share one. `batch`: how many items one claim gives at most; `put`, `extend` and
    `settle` take any number, and cut them as the platform wants them cut.
    """

    claim_seconds: float
    batch: int = 10

    @abstractmethod
    def claim(self, limit: int) -> Sequence[WorkItem]:
        """Up to `limit` items, hidden from others. Empty proves nothing: see `measure`."""

    @abstractmethod
    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        """Hide claimed items for `seconds` more from now; False: the claim is gone.

        0 gives them back at once."""

    @abstractmethod
    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """Delete claimed items; False: not deleted (the claim is gone, or the platform failed)."""

    @abstractmethod
    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        """Deliver a batch, one result for each item, in order.

        `keys[item_id]` is the idempotency key (`item:run:hop`). The original submission time,
        id and hop count travel as attributes. A batch that fails as a whole (time-out) gives
        `in_doubt` for every item, never an exception that hides which.
        """

    def check_writable(self) -> str:
        """Proof that this target takes work (sentence). Raises Rejected or Unavailable."""
        self.measure()
        return "readable"

    def max_receives(self) -> int | None:
        """How many claims an item survives before the platform puts it aside; None: any number.

        Raises Rejected or Unavailable when the platform does not say."""
        return None

    def receipts(self, keys: Sequence[str]) -> Mapping[str, Receipt] | None:
        """Delivery key → what the receiver has said of it since; keys that were never delivered
        here are left out. None: this platform has no acknowledgements.

        Reads only. Raises Rejected or Unavailable."""
        return None


class LeverSource(ABC):
    """Whatever hands out levers by their place in the policy: a provider, or a wrapper of one."""

    name: str

    @abstractmethod
    def route_view(self, lever: LeverSpec) -> RouteView: ...

    @abstractmethod
    def route(self, lever: LeverSpec) -> Route: ...

    @abstractmethod
    def gate_view(self, lever: LeverSpec) -> GateView: ...

    @abstractmethod
    def gate(self, lever: LeverSpec) -> Gate: ...

    @abstractmethod
    def backlog_view(self, lever: LeverSpec) -> BacklogView: ...

    @abstractmethod
    def backlog(self, lever: LeverSpec) -> Backlog: ...

    @abstractmethod
    def announcement_view(self, lever: LeverSpec) -> AnnouncementView: ...

    @abstractmethod
    def announcement(self, lever: LeverSpec) -> Announcement: ...

    @abstractmethod
    def procedure_view(self, lever: LeverSpec) -> ProcedureView: ...

    @abstractmethod
    def procedure(self, lever: LeverSpec) -> Procedure: ...

    @abstractmethod
    def close(self) -> None:
        """Give back connections; safe to call twice."""


class Provider(LeverSource):
    """One platform account behind one adapter. Subclasses override what they can do.

    `PARAMS` is the JSON Schema (2020-12) of the provider block's own keys; `LEVER` of the keys a
    `route`, `intake`, `backlog` or `consumers` entry may carry beside `provider`. `TIMEOUT`: the
    seconds after which a call is given up where the block's `timeout` does not say.

    `EXAMPLE` is a minimal policy's `providers` and `queues` for docs/providers.md, complete enough
    for `validate`; `RIGHTS` the least that the platform must grant, in its own language (an IAM
    policy, GRANT statements, a configuration), and `TRAPS` what surprises there, a sentence each.

    `resolve` turns a secret's reference into the secret when it is first needed. A kind that
    `wants_desk` is given one by whoever builds it, and else has none.
    """

    kind: ClassVar[str]
    PARAMS: ClassVar[Mapping[str, object]]
    LEVER: ClassVar[Mapping[str, object]]
    TIMEOUT: ClassVar[float] = 10.0
    summary: ClassVar[str]
    EXAMPLE: ClassVar[str] = ""
    RIGHTS: ClassVar[str] = ""
    TRAPS: ClassVar[tuple[str, ...]] = ()
    wants_desk: ClassVar[bool] = False
    desk: OurDesk | None = None

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        self.name = spec.name
        self.spec = spec
        self.resolve = resolve
        self.runtime = runtime

    @classmethod
    @abstractmethod
    def capabilities(cls, params: Mapping[str, object],
                     lever: Mapping[str, object] | None = None) -> Capabilities:
        """From policy parameters alone, without I/O: `lever` narrows it to one lever."""

    @property
    def call_seconds(self) -> float:
        """The longest that one call may take, without repetitions."""
        return seconds(self.spec.params.get("timeout"), self.TIMEOUT)

    def route_view(self, lever: LeverSpec) -> RouteView:
        return self.route(lever)

    def route(self, lever: LeverSpec) -> Route:
        raise UsageError(f"a {self.kind} provider has no routes", where=self.name)

    def gate_view(self, lever: LeverSpec) -> GateView:
        return self.gate(lever)

    def gate(self, lever: LeverSpec) -> Gate:
        raise UsageError(f"a {self.kind} provider has no gates", where=self.name)

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        return self.backlog(lever)

    def backlog(self, lever: LeverSpec) -> Backlog:
        raise UsageError(f"a {self.kind} provider has no backlogs", where=self.name)

    def announcement_view(self, lever: LeverSpec) -> AnnouncementView:
        return self.announcement(lever)

    def announcement(self, lever: LeverSpec) -> Announcement:
        raise UsageError(f"a {self.kind} provider has no announcements", where=self.name)

    def procedure_view(self, lever: LeverSpec) -> ProcedureView:
        return self.procedure(lever)

    def procedure(self, lever: LeverSpec) -> Procedure:
        raise UsageError(f"a {self.kind} provider has no procedures", where=self.name)

    def close(self) -> None:
        """Give back connections; safe to call twice."""
