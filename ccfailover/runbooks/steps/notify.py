"""`notify`: put a message into the outbox; another process delivers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ccfailover.model.plan import Json, OnFailure, StepSpec
from ccfailover.notify.outbox import Messages
from ccfailover.runbooks.step import Binding, Observed, Step, Truth


class Notify(Step):
    """Durable once it is in the outbox; a dead mail server never holds up a failover."""

    kind = "notify"
    summary = "queue a message to the people the policy names"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False,
        "properties": {"event": {"type": "string", "maxLength": 64},
                       "text": {"type": "string", "maxLength": 500}},
    }

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        if not binding.policy.notify:
            return []
        event = str(binding.params.get("event", "news"))
        return [StepSpec(
            id=f"{cls.kind}-{event}", kind=cls.kind, deadline=10.0, title=f"notify: {event}",
            params={"event": event, "text": str(binding.params.get("text", ""))},
            on_failure=OnFailure.CONTINUE,
        )]

    def holds(self, snapshot: Json) -> Observed:
        there = self.ctx.store.outbox_has(self.ctx.key)
        return Observed(Truth.YES if there else Truth.NO,
                        "in the outbox" if there else "not in the outbox")

    def apply(self, snapshot: Json) -> bool:
        plan = self.ctx.plan
        shares = [f"{queue}: " + " · ".join(f"{k} {v} %" for k, v in parts.items())
                  for queue, parts in plan.shares_after.items()]
        last = self.ctx.records()[-1]
        message = Messages(self.ctx.policy.heading, self.ctx.store.head("runs")).run(
            str(self.spec.params["event"]), run=self.ctx.run, runbook=plan.runbook,
            subject=plan.subject, mode=plan.mode, head=(last.seq, last.hash),
            details=[str(self.spec.params["text"]), plan.reason, *shares])
        # The step's own key: however often it is tried, people hear it once.
        self.ctx.store.enqueue(self.ctx.key, message.event, message.title, message.body)
        return True
