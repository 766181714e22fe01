"""How processes of a simulation reach the one platform: with the retries that real ones have."""

from __future__ import annotations

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec
from ccfailover.providers.patience import Permit
from ccfailover.providers.wrappers import Retrying
from ccfailover.simulation.clock_sim import VirtualRuntime
from ccfailover.simulation.providers import SimulatedProvider
from ccfailover.simulation.world_sim import SWITCH, SimWorld


class SimLevers(Retrying):
    """Levers of the simulated platform for one process: every attempt to write asks `permit`."""

    def __init__(self, world: SimWorld, runtime: VirtualRuntime, permit: Permit) -> None:
        spec = world.policy.providers[SWITCH]
        super().__init__(SimulatedProvider(spec, resolve=lambda reference: "", runtime=runtime,
                                           platform=world.platform), runtime, permit=permit)
        self._params = spec.params

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return SimulatedProvider.capabilities(self._params, {"ref": lever.ref, **lever.params})
