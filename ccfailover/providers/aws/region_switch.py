"""Amazon Application Recovery Controller, Region switch: plans that Amazon keeps and carries out.

    providers:
      switch: {kind: region_switch, regions: [us-east-1, us-west-2]}

A lever names the plan and what may be started of it:

    {provider: switch, ref: PLAN-ARN, actions: {failover: {action: activate, region: us-west-2},
                                                failback: {action: activate, region: us-east-1}}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Phase, Procedure, ProcedureState, Provider, Resolve
from ccfailover.providers.aws.account import Account, Document, Place
from ccfailover.providers.aws.schema import ACCOUNT, REGION
from ccfailover.providers.documents import quoted
from ccfailover.providers.params import mapping, text
from ccfailover.runtime import Runtime

PLAN: Final = ("^arn:aws[a-zA-Z-]*:arc-region-switch::[0-9]{12}:plan/"
               "[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?:[a-z0-9]{6}$")
_PHASES: Final[Mapping[str, Phase]] = {
    "pending": Phase.RUNNING,
    "inProgress": Phase.RUNNING,
    "pendingManualApproval": Phase.WAITING,
    "pausedByFailedStep": Phase.PAUSED,
    "pausedByOperator": Phase.PAUSED,
    "completed": Phase.DONE,
    "completedMonitoringApplicationHealth": Phase.DONE,
    "completedWithExceptions": Phase.EXCEPTIONS,
    "canceled": Phase.CANCELLED,
    "failed": Phase.FAILED,
    "planExecutionTimedOut": Phase.FAILED,
}
_ENDED: Final = frozenset({Phase.DONE, Phase.EXCEPTIONS, Phase.CANCELLED, Phase.FAILED})
_WAITS: Final = "pendingApproval"
_PAGES: Final = 10
_SERVICE: Final = "arc-region-switch"
_MARK: Final = "ccfailover "


class RegionSwitchProvider(Provider):
    kind: ClassVar[str] = "region_switch"
    summary: ClassVar[str] = "Amazon Application Recovery Controller: Region switch plans"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["regions"], "additionalProperties": False,
        "properties": {
            "regions": {"type": "array", "items": REGION, "minItems": 2, "maxItems": 2,
                        "uniqueItems": True, "description": "the plan's two Regions"},
            **ACCOUNT,
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref", "actions"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "pattern": PLAN, "description": "the plan's ARN"},
            "actions": {
                "type": "object", "minProperties": 1,
                "description": "what may be started, by the name that a step gives it",
                "additionalProperties": {
                    "type": "object", "required": ["action", "region"],
                    "additionalProperties": False,
                    "properties": {
                        "action": {"enum": ["activate", "deactivate", "postRecovery"]},
                        "region": {**REGION, "description": "the Region that it is about"},
                        "mode": {"enum": ["graceful", "ungraceful"],
                                 "description": "ungraceful leaves out what needs the failed "
                                                "Region (default graceful)"},
                    },
                },
            },
        },
    }
    EXAMPLE: ClassVar[str] = """\
providers:
  switch: {kind: region_switch, regions: [us-east-1, us-west-2]}
sites:
  east: {kind: in_house, hours: "24/7"}
  west: {kind: in_house, hours: "24/7"}
queues:
  loan_calls:
    channel: voice
    home: east
    backups: [west]
    outsource: never
    home_down: hold
    normal: {east: 100}
procedures:
  to_the_other_region:
    provider: switch
    ref: "arn:aws:arc-region-switch::111122223333:plan/lending:a1b2c3"
    actions:
      failover: {action: activate, region: us-west-2}
      failback: {action: activate, region: us-east-1}
runbooks:
  regional_failover:
    summary: the platform's own plan moves what is in the Region
    before:
      - confirm: {}
      - procedure: {name: to_the_other_region, action: failover, undo: failback}
    branch: []
"""
    RIGHTS: ClassVar[str] = """\
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow",
   "Action": ["arc-region-switch:ListPlanExecutions", "arc-region-switch:GetPlanExecution",
              "arc-region-switch:StartPlanExecution", "arc-region-switch:ApprovePlanExecutionStep"],
   "Resource": "arn:aws:arc-region-switch::111122223333:plan/*"}]}
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "A plan is started in the Region that it activates: that one must be up.",
        "`completedWithExceptions` is no success: a step was skipped or failed on the way.",
        "An approval within a plan is Amazon's; the runbook's own `approve` step is another one.",
        "There is no undo: to go back is another action, of another execution.",
    )

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._account = Account(spec, resolve, runtime, timeout=self.call_seconds)

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        return Capabilities(
            procedures=True, treatments=False,
            rights=("arc-region-switch:ListPlanExecutions", "arc-region-switch:GetPlanExecution",
                    "arc-region-switch:StartPlanExecution",
                    "arc-region-switch:ApprovePlanExecutionStep"),
            needs=("a Region switch plan, evaluated without warnings, whose role may do what its "
                   "steps do",))

    def procedure(self, lever: LeverSpec) -> Procedure:
        regions = self.spec.params.get("regions")
        return PlanProcedure(
            self._account, lever.ref, mapping(lever.params.get("actions")),
            [str(region) for region in regions] if isinstance(regions, list | tuple) else [])

    def close(self) -> None:
        self._account.close()


class PlanProcedure(Procedure):
    def __init__(self, account: Account, plan: str, actions: Mapping[str, object],
                 regions: Sequence[str]) -> None:
        self._account, self._plan, self._actions = account, plan, actions
        self._regions = list(regions)

    def read(self, execution: str | None = None) -> ProcedureState:
        """Steps with Amazon's own words. IDLE where the plan was never executed."""
        with self._account.at_once():
            if execution is None:
                newest = self._newest()
                if newest is None:
                    return ProcedureState(Phase.IDLE)
                execution = text(newest.get("executionId"))
            return self._state(execution)

    def start(self, action: str, *, key: str) -> str:
        block = mapping(self._actions.get(action))
        if not block:
            raise self._refused(f"actions does not name {quoted(action)}")
        region, mark = text(block.get("region")), f"{_MARK}{key}"
        if region not in self._regions:
            raise self._refused(f"{region} is not one of the plan's Regions",
                                "name it in regions of this provider")
        with self._account.at_once():
            for earlier in self._executions():
                if earlier.get("comment") == mark:
                    return text(earlier.get("executionId"))
                if self._phase(earlier) not in _ENDED:
                    raise self._refused(
                        f"execution {quoted(text(earlier.get('executionId')))} of this plan is "
                        f"{self._phase(earlier).value}", "wait for its end, or cancel it")
            # What takes over is up; what goes down is told from the other one.
            first = region if block.get("action") != "deactivate" else self._other(region)
            told = self._call(
                "start_plan_execution",
                {"planArn": self._plan, "targetRegion": region, "action": block.get("action"),
                 "mode": text(block.get("mode"), "graceful"), "comment": mark[:1024],
                 "clientToken": _token(key)}, writes=True, regions=[first])
        started = text(told.get("executionId"))
        if not started:
            raise Unavailable("the reply makes no sense: no execution id", in_doubt=True,
                              provider=self._account.provider, where=self._plan)
        return started

    def approve(self, execution: str, step: str, *, approve: bool, key: str) -> None:
        """Answered before is answered: an approval whose reply was lost may be repeated."""
        with self._account.at_once():
            states = dict(self._state(execution).steps)
            if step not in states:
                raise self._refused(f"the execution has no step {quoted(step)}")
            if states[step] != _WAITS:
                if approve and states[step] in ("running", "completed"):
                    return
                raise self._refused(
                    f"step {quoted(step)} is {quoted(states[step])} and waits for nobody")
            self._call("approve_plan_execution_step",
                       {"planArn": self._plan, "executionId": execution, "stepName": step,
                        "approval": "approve" if approve else "decline",
                        "comment": f"ccfailover {key}"[:1024]}, writes=True)

    # -------------------------------------------------------------------------------------------

    def _state(self, execution: str) -> ProcedureState:
        steps: list[tuple[str, str]] = []
        told: Document = {}
        for told in self._paged("get_plan_execution",
                                {"planArn": self._plan, "executionId": execution}):
            rows = told.get("stepStates")
            for row in rows if isinstance(rows, list) else ():
                name, status = text(mapping(row).get("name")), text(mapping(row).get("status"))
                if not name or not status:
                    raise self._nonsense("a step without name or status")
                steps.append((name, status))
        waiting = tuple(name for name, status in steps if status == _WAITS)
        phase = self._phase(told)
        if phase is Phase.RUNNING and waiting:
            phase = Phase.WAITING
        words = [text(told.get(name)) for name in
                 ("executionState", "executionAction", "executionRegion", "mode")]
        return ProcedureState(phase, execution, " ".join(word for word in words if word)[:200],
                              tuple(steps), waiting, _key(text(told.get("comment"))))

    def _executions(self) -> Iterator[Mapping[str, object]]:
        for told in self._paged("list_plan_executions", {"planArn": self._plan}):
            rows = told.get("items")
            for row in rows if isinstance(rows, list) else ():
                if not text(mapping(row).get("executionId")):
                    raise self._nonsense("an execution without an id")
                yield mapping(row)

    def _newest(self) -> Mapping[str, object] | None:
        """By when it began: nothing is said of the order in which they are listed."""
        return max(self._executions(), key=self._began, default=None)

    def _began(self, execution: Mapping[str, object]) -> float:
        began = execution.get("startTime")
        if not isinstance(began, datetime):
            raise self._nonsense("an execution without its start")
        return began.timestamp()

    def _phase(self, told: Mapping[str, object]) -> Phase:
        state = text(told.get("executionState"))
        if state not in _PHASES:
            raise self._nonsense(f"the execution is {quoted(state)}")
        return _PHASES[state]

    def _paged(self, operation: str, params: Document) -> Iterator[Document]:
        mark: dict[str, object] = {}
        for _ in range(_PAGES):
            told = self._call(operation, {**params, **mark}, writes=False)
            yield told
            following = told.get("nextToken")
            if not isinstance(following, str) or not following:
                return
            mark = {"nextToken": following}
        raise self._nonsense("the list does not end")

    def _call(self, operation: str, params: Document, *, writes: bool,
              regions: Sequence[str] = ()) -> Document:
        """In the first Region that answers; a write is not taken to another one when it may have
        landed. Whichever answered is asked first from then on."""
        order = regions or tuple(self._regions)
        failed: Unavailable | None = None
        for region in order:
            try:
                told = self._account.call(
                    Place(_SERVICE, region), operation, params,
                    where=f"{self._plan.rpartition('/')[2]} in {region}", writes=writes,
                    timeout=self._account.timeout / len(order))
            except Unavailable as error:
                failed = failed or error
                if error.in_doubt or error.what.startswith("throttled"):
                    raise
                continue
            self._regions.sort(key=lambda each: each != region)
            return told
        raise failed or self._refused("the policy names no Region to ask")

    def _other(self, region: str) -> str:
        return next((each for each in self._regions if each != region), region)

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._account.provider,
                        where=self._plan)

    def _refused(self, what: str, hint: str | None = None) -> Rejected:
        return Rejected(what, provider=self._account.provider, where=self._plan, hint=hint,
                        not_done="nothing was started or answered")


def _token(key: str) -> str:
    """The key as a client token: 1 to 128 printable characters."""
    if 0 < len(key) <= 128 and all("!" <= letter <= "~" for letter in key):
        return key
    from hashlib import sha256

    return sha256(key.encode()).hexdigest()


def _key(comment: str) -> str:
    """What an execution was begun with, by its comment; "" for somebody else's."""
    return comment.removeprefix(_MARK) if comment.startswith(_MARK) else ""
