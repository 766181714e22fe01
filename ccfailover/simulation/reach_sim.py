"""How processes of a simulation reach the one platform: with the retries that real ones have."""

from __future__ import annotations

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog, BacklogView, Gate, GateView, Route, RouteView
from ccfailover.providers.patience import Permit
from ccfailover.providers.wrappers import Retrying
from ccfailover.simulation.clock_sim import VirtualRuntime
from ccfailover.simulation.providers import SimulatedProvider
from ccfailover.simulation.world_sim import SWITCH, SimWorld


class SimLevers:
    """Levers of the simulated platform for one process: every attempt to write asks `permit`."""

    def __init__(self, world: SimWorld, runtime: VirtualRuntime, permit: Permit) -> None:
        self._spec = world.policy.providers[SWITCH]
        provider = SimulatedProvider(self._spec, resolve=lambda reference: "", runtime=runtime,
                                     platform=world.platform)
        self._source = Retrying(provider, runtime=runtime, permit=permit)

    def route_view(self, lever: LeverSpec) -> RouteView:
        return self._source.route_view(lever)

    def route(self, lever: LeverSpec) -> Route:
        return self._source.route(lever)

    def gate_view(self, lever: LeverSpec) -> GateView:
        return self._source.gate_view(lever)

    def gate(self, lever: LeverSpec) -> Gate:
        return self._source.gate(lever)

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        return self._source.backlog_view(lever)

    def backlog(self, lever: LeverSpec) -> Backlog:
        return self._source.backlog(lever)

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return SimulatedProvider.capabilities(self._spec.params,
                                              {"ref": lever.ref, **lever.params})
