"""`shift_route`: spread a queue's arrivals anew, in increments with soak."""

from __future__ import annotations

from collections.abc import Sequence

from ccfailover.model.plan import StepSpec
from ccfailover.runbooks.lever_step import LeverStep
from ccfailover.runbooks.step import Binding


class ShiftRoute(LeverStep):
    kind = "shift_route"
    role = "route"
    summary = "set the shares of a queue's route, one or several increments, each soaked"

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        queue = binding.queue
        increments = binding.params.get("increments") or (queue.increments if queue else (100,))
        soak = float(binding.params.get("soak", queue.soak if queue else 0.0))
        return cls.specs(binding, increments, soak)

    @classmethod
    def verb(cls) -> str:
        return "shift"
