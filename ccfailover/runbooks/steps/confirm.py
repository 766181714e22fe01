"""`confirm`: the requester has seen before and after, and said yes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ccfailover.model.plan import Json, StepSpec
from ccfailover.runbooks.step import Binding, Observed, Step, Truth


class Confirm(Step):
    """Holds once the run's journal has `confirmation.given`, for this very plan."""

    kind = "confirm"
    summary = "the person who asked confirms the plan as shown"
    PARAMS: ClassVar = {"type": "object", "additionalProperties": False, "properties": {}}

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        return [StepSpec(id=cls.kind, kind=cls.kind, params={}, deadline=1.0,
                         title="the plan is confirmed as shown")]

    def holds(self, snapshot: Json) -> Observed:
        for record in self.ctx.records():
            if (record.kind == "confirmation.given"
                    and record.data.get("plan") == self.ctx.plan.hash):
                return Observed(Truth.YES, f"confirmed by {record.actor}: "
                                           f"{record.data.get('how', '')}")
        return Observed(Truth.NO, "nobody has confirmed this plan: ccfailover resume", final=True)
