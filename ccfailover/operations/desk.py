"""The desk: everything an operation works with, assembled once by `wiring`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ccfailover.health import Probe
    from ccfailover.model.capabilities import Capabilities
    from ccfailover.model.journal import Actor
    from ccfailover.model.plan import Mode
    from ccfailover.model.policy import LeverSpec, Policy, Site
    from ccfailover.providers.patience import Permit
    from ccfailover.runbooks.step import Levers, Step
    from ccfailover.runtime import Runtime
    from ccfailover.store import Store
    from ccfailover.transfer.fanout import FanOut


class Kinds(Protocol):
    """The only door from a kind's name to its class.

    `permit` is asked before every write of the levers that are handed out.
    """

    @property
    def permit(self) -> Permit: ...

    def step(self, kind: str) -> type[Step]: ...
    def probe(self, kind: str) -> Probe: ...
    def levers(self, mode: Mode) -> Levers: ...
    def capabilities(self, lever: LeverSpec) -> Capabilities: ...


@dataclass(frozen=True)
class LocalJournal:
    """`store` is not the one that the policy names, but this machine's own, and why; `shared` is
    what that one is called, `seen_at` (µs) when this machine saw it last."""

    reason: str
    shared: str
    seen_at: int


@dataclass(frozen=True)
class Desk:
    """`is_open` and `is_blocked` read the calendars; `environ` is for secrets and nothing else.

    `local` is None unless a local journal stands in for the shared store; `local_base` is what
    this machine's local journals are called, None where the store is a file. `fan_out` reaches the
    workers; None where there can be none.
    """

    policy: Policy
    store: Store
    runtime: Runtime
    actor: Actor
    kinds: Kinds
    is_open: Callable[[Site, int], bool]
    is_blocked: Callable[[int], str | None]
    resolve: Callable[[str], str]
    environ: Mapping[str, str]
    local: LocalJournal | None = None
    local_base: str | None = None
    fan_out: FanOut | None = None
