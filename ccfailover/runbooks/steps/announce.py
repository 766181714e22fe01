"""`announce`: what callers hear before anything else, switched on in a failover, off after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ccfailover.errors import Refused, Rejected
from ccfailover.model.plan import Json, OnFailure, StepSpec
from ccfailover.model.policy import LeverSpec
from ccfailover.runbooks.step import Binding, Observed, Step, Truth


class Announce(Step):
    """Says the queue's `emergency` announcement in a failover, and nothing after a failback.

    A message never holds up the move of the calls themselves: unless the recipe says else, one that
    cannot be set is an exception in the run, and the run goes on.
    """

    kind = "announce"
    summary = "switch a queue's emergency announcement on, or off"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "on": {"type": "boolean",
                   "description": "whether it is to be heard; unless said: not in a failback"},
            "deadline": {"type": "number", "exclusiveMinimum": 0, "description": "seconds"},
            "on_failure": {"enum": ["pause", "continue", "abort", "undo"]},
        },
    }

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        queue = binding.queue
        if queue is None or queue.announcement is None or queue.emergency is None:
            return []
        on = bool(binding.params.get("on", binding.runbook != "failback"))
        said = queue.emergency if on else None
        return [StepSpec(
            id=f"{cls.kind}-{'on' if on else 'off'}", kind=cls.kind,
            params={"queue": queue.name, "say": said}, lever=queue.announcement.lever,
            deadline=float(binding.params.get("deadline", 30.0)), timeout=10.0,
            title=f"callers of {queue.name} hear " + (f"the announcement {said}" if said
                                                      else "no announcement"),
            on_failure=OnFailure(binding.params.get("on_failure", "continue")),
        )]

    @property
    def lever(self) -> LeverSpec:
        queue = self.ctx.policy.queues.get(str(self.spec.params["queue"]))
        lever = queue.announcement if queue else None
        if lever is None or lever.lever != self.spec.lever:
            raise Rejected("the policy no longer has the announcement that this run holds, "
                           f"{self.spec.lever}", where=self.spec.id,
                           hint="put it back, or: ccfailover skip")
        return lever

    def snapshot(self) -> Json:
        return {"said": self.ctx.levers.announcement_view(self.lever).said()}

    def holds(self, snapshot: Json) -> Observed:
        return self._is(self.spec.params["say"])

    def still(self, snapshot: Json) -> Observed:
        return self._is(self.spec.params["say"])

    def apply(self, snapshot: Json) -> bool:
        self._say(self.spec.params["say"], snapshot["said"], self.ctx.key)
        return True

    def undo_holds(self, snapshot: Json) -> Observed:
        return self._is(snapshot["said"])

    def undo(self, snapshot: Json) -> bool:
        self._say(snapshot["said"], self.spec.params["say"], f"{self.ctx.key}~undo")
        return True

    def _say(self, name: str | None, instead_of: str | None, key: str) -> None:
        """Somebody who put on another message since knows something that we do not."""
        lever = self.ctx.levers.announcement(self.lever)
        now = lever.said()
        if now not in (name, instead_of):
            raise Refused(f"{self.spec.lever} says {_told(now)}, which this run never set: "
                          "somebody else changed it", guard="concurrent_change",
                          hint="agree with them, then resume or skip")
        if now != name:
            lever.say(name, key=key)

    def _is(self, wanted: str | None) -> Observed:
        said = self.ctx.levers.announcement_view(self.lever).said()
        return Observed(Truth.YES if said == wanted else Truth.NO,
                        f"{self.spec.lever} says {_told(said)}")


def _told(said: str | None) -> str:
    return "nothing" if said is None else said
