"""`hold_consumers`: stop, or let loose, whoever takes work from a site's backlog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ccfailover.errors import Rejected
from ccfailover.model.plan import Json, OnFailure, StepSpec
from ccfailover.model.policy import LeverSpec
from ccfailover.runbooks.step import Binding, Observed, Step, Truth


class HoldConsumers(Step):
    """Closes the gate before stranded copies are deleted, so that nobody begins one of them."""

    kind = "hold_consumers"
    summary = "close or open the gate in front of a site's consumers"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False,
        "properties": {"open": {"type": "boolean"}, "site": {"enum": ["home", "subject"]},
                       "on_failure": {"enum": ["pause", "continue"]}},
    }

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        queue = binding.queue
        site = queue.home if queue else ""
        if queue is None or site not in queue.consumers:
            return []
        opened = bool(binding.params.get("open", False))
        return [StepSpec(
            id=f"{cls.kind}-{'open' if opened else 'close'}", kind=cls.kind, deadline=30.0,
            params={"queue": queue.name, "site": site, "open": opened},
            title=f"{'let' if opened else 'hold'} {site}'s {queue.name} consumers"
                  f"{' loose' if opened else ''}",
            lever=queue.consumers[site].lever,
            on_failure=OnFailure(binding.params.get("on_failure", "pause")),
        )]

    @property
    def lever(self) -> LeverSpec:
        queue = self.ctx.policy.queues.get(str(self.spec.params["queue"]))
        lever = queue.consumers.get(str(self.spec.params["site"])) if queue else None
        if lever is None or lever.lever != self.spec.lever:
            raise Rejected("the policy no longer has the consumers gate that this run holds, "
                           f"{self.spec.lever}", where=self.spec.id,
                           hint="put it back, or: ccfailover skip")
        return lever

    def snapshot(self) -> Json:
        return {"open": self.ctx.levers.gate_view(self.lever).is_open()}

    def holds(self, snapshot: Json) -> Observed:
        return self._is(bool(self.spec.params["open"]))

    def still(self, snapshot: Json) -> Observed:
        return self._is(bool(self.spec.params["open"]))

    def apply(self, snapshot: Json) -> bool:
        self.ctx.levers.gate(self.lever).set_open(bool(self.spec.params["open"]),
                                                  key=self.ctx.key)
        return True

    def undo_holds(self, snapshot: Json) -> Observed:
        return self._is(bool(snapshot["open"]))

    def undo(self, snapshot: Json) -> bool:
        self.ctx.levers.gate(self.lever).set_open(bool(snapshot["open"]),
                                                  key=f"{self.ctx.key}~undo")
        return True

    def _is(self, wanted: bool) -> Observed:
        is_open = self.ctx.levers.gate_view(self.lever).is_open()
        return Observed(Truth.YES if is_open == wanted else Truth.NO,
                        f"consumers are {'at work' if is_open else 'held'}")
