"""`approve`: somebody other than the requester agrees, from another terminal or machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ccfailover.model.plan import Json, OnFailure, StepSpec
from ccfailover.notify.outbox import Messages
from ccfailover.runbooks.step import Binding, Observed, Step, Truth


class Approve(Step):
    """Waits for `approval.given`, bound to the plan's hash, by `people` different persons.

    `on_timeout`: refuse (the run is aborted), escalate (it pauses and notifies), proceed (it
    goes on, as an exception that every report shows). Who declines has answered: then the run
    never goes on by itself.
    """

    kind = "approve"
    summary = "wait for other people's approval, with expiry"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "role": {"type": "string"},
            "people": {"type": "integer", "minimum": 1, "maximum": 5},
            "within": {"type": "number", "exclusiveMinimum": 0},
            "on_timeout": {"enum": ["refuse", "escalate", "proceed"]},
        },
    }

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        people = int(binding.params.get("people", 1))
        role = str(binding.params.get("role", ""))
        ends = {"refuse": OnFailure.ABORT, "escalate": OnFailure.PAUSE,
                "proceed": OnFailure.CONTINUE}
        who = f"{people} × {role}" if role else f"{people} other person(s)"
        return [StepSpec(
            id=cls.kind, kind=cls.kind, poll=1.0, title=f"approval by {who}",
            params={"people": people, "role": role},
            deadline=float(binding.params.get("within", 900.0)),
            on_failure=ends[str(binding.params.get("on_timeout", "escalate"))],
        )]

    def holds(self, snapshot: Json) -> Observed:
        requester = self.ctx.records()[0].actor.partition("@")[0]
        role = str(self.spec.params["role"])
        members = self.ctx.policy.people.get(role, ()) if role else None
        given: set[str] = set()
        for record in self.ctx.records():
            name = record.actor.partition("@")[0]
            if record.data.get("plan") != self.ctx.plan.hash:
                continue
            if record.kind == "approval.declined":
                return Observed(Truth.NO, f"declined by {name}: {record.data.get('reason', '')}",
                                final=True, veto=True)
            if (record.kind == "approval.given" and name != requester
                    and (members is None or name in members)):
                given.add(name)
        wanted = int(self.spec.params["people"])
        text = f"{len(given)} of {wanted} approvals" + (f" ({', '.join(sorted(given))})"
                                                        if given else "")
        return Observed(Truth.YES if len(given) >= wanted else Truth.NO, text)

    def apply(self, snapshot: Json) -> bool:
        plan, last = self.ctx.plan, self.ctx.records()[-1]
        message = Messages(self.ctx.policy.heading).run(
            "approval_wanted", run=self.ctx.run, runbook=plan.runbook, subject=plan.subject,
            mode=plan.mode, head=(last.seq, last.hash), details=[plan.reason, self.spec.title])
        self.ctx.store.enqueue(f"{self.ctx.key}/asked", message.event, message.title,
                               message.body)
        return True
