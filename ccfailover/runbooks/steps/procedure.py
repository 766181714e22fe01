"""`procedure`: a recovery plan that a platform keeps is started, followed and read to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ccfailover.errors import Rejected
from ccfailover.model.plan import Json, OnFailure, Plan, StepSpec
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Phase, ProcedureState
from ccfailover.runbooks.step import Binding, Observed, Step, StepContext, Truth

LOOK_AGAIN = 2.0
"""Seconds between two looks at an execution: platforms answer only so often."""

_GOING = (Phase.IDLE, Phase.RUNNING)
ENDED = frozenset({"completed", "done", "succeeded", "skipped"})
"""Words by which platforms call a step that needs no further mention."""


class Procedure(Step):
    """The same key starts it once, so that a resume attaches to the execution that is there.

    Where the platform waits for a person the step pauses and says what is to be approved; with
    `approve: true` whoever confirmed the run has answered that, too.
    """

    kind = "procedure"
    summary = "start a recovery plan that a platform keeps, and follow it to its end"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False, "required": ["name", "action"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 64,
                     "description": "one of the policy's procedures"},
            "action": {"type": "string", "minLength": 1, "maxLength": 200,
                       "description": "what the platform is to do, in its own word"},
            "undo": {"type": "string", "minLength": 1, "maxLength": 200,
                     "description": "the action that takes it back, for a rollback"},
            "approve": {"type": "boolean", "description": "answer yes where the platform asks"},
            "deadline": {"type": "number", "exclusiveMinimum": 0, "description": "seconds"},
            "on_failure": {"enum": ["pause", "continue", "abort", "undo"]},
        },
    }

    def __init__(self, spec: StepSpec, ctx: StepContext) -> None:
        super().__init__(spec, ctx)
        self._seen: dict[str, ProcedureState] = {}

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        name, action = str(binding.params["name"]), str(binding.params["action"])
        lever = binding.policy.procedures.get(name)
        if lever is None:
            return []
        return [StepSpec(
            id=f"{cls.kind}-{name}", kind=cls.kind, lever=lever.lever, timeout=20.0,
            params={"name": name, "action": action, "undo": binding.params.get("undo"),
                    "approve": bool(binding.params.get("approve", False))},
            deadline=float(binding.params.get("deadline", 1800.0)), poll=LOOK_AGAIN,
            title=f"carry out {name} ({action}) at {lever.provider}",
            on_failure=OnFailure(binding.params.get("on_failure", "pause")),
        )]

    @property
    def lever(self) -> LeverSpec:
        lever = self.ctx.policy.procedures.get(str(self.spec.params["name"]))
        if lever is None or lever.lever != self.spec.lever:
            raise Rejected("the policy no longer has the procedure that this run holds, "
                           f"{self.spec.lever}", where=self.spec.id,
                           hint="put it back, or: ccfailover skip")
        return lever

    def snapshot(self) -> Json:
        """What was carried out last before us: anything newer is ours, or somebody else's."""
        return {"execution": self.ctx.levers.procedure_view(self.lever).read().execution}

    def holds(self, snapshot: Json) -> Observed:
        return self._told(self.ctx.key)

    def apply(self, snapshot: Json) -> bool:
        return self._go_on(str(self.spec.params["action"]), self.ctx.key)

    def undo_holds(self, snapshot: Json) -> Observed:
        if self._undo_key in self._seen:
            return self._told(self._undo_key)
        newest = self.ctx.levers.procedure_view(self.lever).read()
        if newest.execution == snapshot["execution"]:
            return Observed(Truth.YES, "nothing was carried out")
        if newest.key is not None and newest.key.removesuffix("~undo") not in self._own_keys():
            return Observed(Truth.NO, f"{newest.execution} was begun by somebody else since: agree "
                                      "with them, then: ccfailover skip", final=True)
        if self.spec.params["undo"] is not None:
            return Observed(Truth.NO, f"{newest.execution} was carried out")
        if newest.phase in (*_GOING, Phase.WAITING, Phase.PAUSED):
            return Observed(Truth.NO, f"{newest.execution} is still {newest.phase.value}: cancel "
                                      f"it at {self.lever.provider}, or let it end", final=True)
        return Observed(Truth.YES, f"{newest.execution} stays as it ended, {newest.phase.value}",
                        exceptions=(f"{self.spec.params['name']} was carried out and has no "
                                    "`undo`: what it did stays",))

    def undo(self, snapshot: Json) -> bool:
        return self._go_on(str(self.spec.params["undo"]), self._undo_key)

    def _own_keys(self) -> set[str]:
        """This step's in this run, and in whichever it superseded."""
        chain, plans = [self.ctx.run], [self.ctx.plan]
        for plan in plans:  # grows while it is read
            for earlier in plan.supersedes:
                chain.append(earlier)
                planned = self.ctx.store.read(f"run:{earlier}")[0]
                plans.append(Plan.from_json(planned.data["plan"]))
        return {f"{run}/{self.spec.id}" for run in chain}

    @property
    def _undo_key(self) -> str:
        return f"{self.ctx.key}~undo"

    def _go_on(self, action: str, key: str) -> bool:
        """One look, and an answer where one is due. False: it is not at its end yet."""
        procedure = self.ctx.levers.procedure(self.lever)
        known = self._seen.get(key)
        if known is None or known.execution is None:
            execution = procedure.start(action, key=key)
        else:
            execution = known.execution
            self.ctx.runtime.sleep(LOOK_AGAIN)
        state = self._seen[key] = procedure.read(execution)
        done = sum(word.lower() in ENDED for _, word in state.steps)
        self.ctx.progress(done, len(state.steps) or None, _sentence(state))
        if state.phase is Phase.WAITING and self.spec.params["approve"]:
            for step in state.waiting_for:
                procedure.approve(execution, step, approve=True, key=f"{key}/{step}")
            return False
        return state.phase not in _GOING

    def _told(self, key: str) -> Observed:
        state = self._seen.get(key)
        if state is None:
            return Observed(Truth.NO, "not begun by this process")
        if state.execution is not None:
            state = self._seen[key] = self.ctx.levers.procedure_view(self.lever).read(
                state.execution)
        said = _sentence(state)
        data = {"execution": state.execution, "phase": state.phase.value,
                "steps": dict(state.steps)}
        if state.phase in (Phase.DONE, Phase.EXCEPTIONS):
            return Observed(Truth.YES, said, data=data,
                            exceptions=(said,) if state.phase is Phase.EXCEPTIONS else ())
        if state.phase is Phase.WAITING:
            asked = ", ".join(state.waiting_for) or "a step"
            said += f": approve {asked} at {self.lever.provider}, then: ccfailover resume"
        elif state.phase is Phase.PAUSED:
            said += f": go on with it at {self.lever.provider}, then: ccfailover resume"
        elif state.phase in (Phase.FAILED, Phase.CANCELLED):
            said += (f": a resume would find this same execution; see to it at "
                     f"{self.lever.provider}, then: ccfailover skip")
        return Observed(Truth.NO, said, data=data, final=state.phase not in _GOING)


def _sentence(state: ProcedureState) -> str:
    """Where an execution stands, with those of its steps that are not at their end."""
    steps = ", ".join(f"{name} {word}" for name, word in state.steps if word.lower() not in ENDED)
    return "; ".join(part for part in (f"{state.execution} is {state.phase.value}", state.detail,
                                       steps) if part)
