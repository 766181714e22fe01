"""`approve`: somebody other than the requester agrees, from another terminal or machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from ccfailover.model.journal import person
from ccfailover.model.plan import Json, OnFailure, StepSpec
from ccfailover.model.shares import Shares
from ccfailover.notify.outbox import Messages
from ccfailover.runbooks import consent
from ccfailover.runbooks.step import Binding, Observed, Step, Truth


class Approve(Step):
    """Waits for `approval.given` by `people` different persons, of `role` if one is named.

    Each counts for `valid` seconds, for this plan, under this policy, and as long as no receiver
    is worse than it was when approved (see `consent`). `on_timeout`: refuse (the run is aborted),
    escalate (it pauses and notifies), proceed (it goes on, as an exception that every report
    shows). Who declines has answered: then the run never goes on by itself.
    """

    kind = "approve"
    summary = "wait for other people's approval, with expiry"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "role": {"type": "string"},
            "people": {"type": "integer", "minimum": 1, "maximum": 5},
            "within": {"type": "number", "exclusiveMinimum": 0},
            "valid": {"type": "number", "exclusiveMinimum": 0},
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
            params={"people": people, "role": role,
                    "valid": float(binding.params.get("valid", consent.VALID_SECONDS))},
            deadline=float(binding.params.get("within", 900.0)),
            on_failure=ends[str(binding.params.get("on_timeout", "escalate"))],
        )]

    def holds(self, snapshot: Json) -> Observed:
        observed, standing = self._weigh(self.ctx.site_state)
        if observed.truth is not Truth.YES:
            return observed
        # Told again here: its giver may have died between the journal and the outbox.
        for record in standing.given.values():
            consent.tell(self.ctx.store, self.ctx.policy.heading, self.ctx.run, self.ctx.plan,
                         record)
        # Looking at the receivers and telling took time, in which somebody may have said no.
        return self._weigh(None)[0]

    def still(self, snapshot: Json) -> Observed:
        """Whoever takes the run up again needs an approval that counts today. Once levers have
        moved, the receivers are the guards' concern: the new load may have made them worse."""
        levers = {spec.id for spec in self.ctx.plan.steps() if spec.lever}
        moved = any(record.kind == "step.started" and record.data.get("step") in levers
                    for record in self.ctx.records())
        return self._weigh(None if moved else self.ctx.site_state)[0]

    def _weigh(self, state: Callable[[str], str] | None) -> tuple[Observed, consent.Standing]:
        ctx, wanted = self.ctx, int(self.spec.params["people"])
        standing = consent.Judge(
            plan=ctx.plan, policy_sha256=ctx.policy.sha256, people=ctx.policy.people,
            role=str(self.spec.params["role"]), now=ctx.store.now(),
            valid=float(self.spec.params.get("valid", consent.VALID_SECONDS)),
        ).standing(ctx.records(), state, wanted=wanted)
        for name, record in standing.declined.items():
            return Observed(Truth.NO, f"declined by {name}: {record.data.get('reason', '')}",
                            final=True, veto=True), standing
        given = sorted(standing.given)
        text = f"{len(given)} of {wanted} approvals" + (f" ({', '.join(given)})" if given else "")
        enough = len(given) >= wanted
        return Observed(Truth.YES if enough else Truth.NO,
                        text if enough else "; ".join((text, *standing.void))), standing

    def _may(self, requester: str) -> list[str]:
        members = consent.entitled(self.ctx.policy.people, str(self.spec.params["role"]))
        if members is None:
            return [f"who may: anybody but {requester}"]
        return [f"who may: {', '.join(sorted(members - {requester})) or 'nobody'}"]

    def apply(self, snapshot: Json) -> bool:
        plan, records = self.ctx.plan, self.ctx.records()
        last = records[-1]
        # A run that is taken up again asks again.
        asked = max((record.seq for record in records if record.kind == "step.started"
                     and record.data.get("step") == self.spec.id), default=0)
        message = Messages(self.ctx.policy.heading, self.ctx.store.head("runs")).run(
            "approval_wanted", run=self.ctx.run, runbook=plan.runbook, subject=plan.subject,
            mode=plan.mode, head=(last.seq, last.hash), details=[
                plan.reason, self.spec.title, *self._may(person(records[0].actor)),
                *(f"{queue}: {Shares(parts)}" for queue, parts in plan.shares_after.items())])
        self.ctx.store.enqueue(f"{self.ctx.key}/asked/{asked}", message.event, message.title,
                               message.body)
        return True
