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
class Desk:
    """`is_open` and `is_blocked` read the calendars; `environ` is for secrets and nothing else."""

    policy: Policy
    store: Store
    runtime: Runtime
    actor: Actor
    kinds: Kinds
    is_open: Callable[[Site, int], bool]
    is_blocked: Callable[[int], str | None]
    resolve: Callable[[str], str]
    environ: Mapping[str, str]
