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
from typing import ClassVar

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers.bodies import Understood, understand
from ccfailover.providers.params import seconds
from ccfailover.runtime import Runtime

__all__ = [
    "Backlog", "BacklogMeasure", "BacklogView", "Gate", "GateView", "LeverSource", "Provider",
    "Resolve", "Route", "RouteState", "RouteView", "Understood", "understand",
]

Resolve = Callable[[str], str]
"""A secret's reference (`env:NAME`, `file:PATH` …) → the secret; called late, never at start."""


@dataclass(frozen=True)
class RouteState:
    """Shares as the platform itself reports them; `version` is its compare-and-set token."""

    shares: Shares
    version: str | None = None


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

    def measure(self) -> Mapping[str, float]:
        """Live counts the switch keeps (`answered.hq`, `lost` …); empty when it keeps none."""
        return {}


class Route(RouteView):
    @abstractmethod
    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        """Set the shares to exactly `to`.

        With `expected`, adapters that can compare and set refuse (Rejected) when the platform
        has another version. `key` is `run/step`, the same on every attempt. Returning proves
        nothing: the caller reads back. Raises UsageError never; shares that the lever cannot
        express (step, unknown destination) are Rejected before anything is sent.
        """


class GateView(ABC):
    @abstractmethod
    def is_open(self) -> bool:
        """True when the consumers behind the gate take work."""


class Gate(GateView):
    @abstractmethod
    def set_open(self, is_open: bool, *, key: str) -> None: ...


class BacklogView(ABC):
    @abstractmethod
    def measure(self) -> BacklogMeasure: ...


class Backlog(BacklogView):
    """Claim → deliver → settle. A claim hides an item for `claim_seconds`, no longer."""

    claim_seconds: float

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
    def close(self) -> None:
        """Give back connections; safe to call twice."""


class Provider(LeverSource):
    """One platform account behind one adapter. Subclasses override what they can do.

    `PARAMS` is the JSON Schema (2020-12) of the provider block's own keys; `LEVER` of the keys a
    `route`, `intake`, `backlog` or `consumers` entry may carry beside `provider`. `TIMEOUT`: the
    seconds after which a call is given up where the block's `timeout` does not say.

    `resolve` turns a secret's reference into the secret when it is first needed.
    """

    kind: ClassVar[str]
    PARAMS: ClassVar[Mapping[str, object]]
    LEVER: ClassVar[Mapping[str, object]]
    TIMEOUT: ClassVar[float] = 10.0
    summary: ClassVar[str]

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

    def close(self) -> None:
        """Give back connections; safe to call twice."""
