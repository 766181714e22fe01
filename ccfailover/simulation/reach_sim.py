"""How processes of a simulation reach the one platform: with the retries that real ones have."""

from __future__ import annotations

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog, BacklogView, Gate, GateView, Route, RouteView
from ccfailover.providers.wrappers import Retrying
from ccfailover.simulation.clock_sim import VirtualRuntime
from ccfailover.simulation.faults_sim import FaultyPlatform
from ccfailover.simulation.providers import SimulatedProvider
from ccfailover.simulation.world_sim import SWITCH, SimWorld


class SimLevers:
    """Levers of the one simulated platform."""

    def __init__(self, platform: FaultyPlatform, world: SimWorld, runtime: VirtualRuntime) -> None:
        spec = world.policy.providers[SWITCH]
        provider = SimulatedProvider(spec, resolve=lambda reference: "", runtime=runtime,
                                     platform=platform)
        self._source = Retrying(provider, runtime=runtime)
        self._spec = spec

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
