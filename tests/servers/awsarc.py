"""Application Recovery Controller: a cluster's routing controls with safety rules, and the plans of
Region switch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.servers.awsfake import Fault, Service
from tests.servers.awsmodel import at

PANEL = "arn:aws:route53-recovery-control::111122223333:controlpanel/" + "0" * 31 + "1"
PLAN = "arn:aws:arc-region-switch::111122223333:plan/lenders:abc123"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2")
ENDED = ("completed", "completedWithExceptions", "canceled", "failed", "planExecutionTimedOut")


def control(number: int) -> str:
    return f"{PANEL}/routingcontrol/{number:016x}"


@dataclass
class Rule:
    """An assertion: at least so many of these are On."""

    arn: str
    controls: tuple[str, ...]
    threshold: int


class Cluster(Service):
    """One for all five Regions: their endpoints are one address, told apart by the signature."""

    name: ClassVar[str] = "route53-recovery-cluster"

    def __init__(self) -> None:
        super().__init__()
        self.panels: dict[str, dict[str, str]] = {}
        self.rules: list[Rule] = []
        self.overridden: list[list[str]] = []

    def do_ListRoutingControls(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        panel = self.panels.get(params.get("ControlPanelArn", ""))
        if panel is None:
            raise Fault("ResourceNotFoundException", "no such panel", 404,
                        resourceId="panel", resourceType="controlPanel")
        return {"RoutingControls": [
            {"ControlPanelArn": params["ControlPanelArn"], "ControlPanelName": "panel",
             "RoutingControlArn": arn, "RoutingControlName": arn[-4:], "Owner": "111122223333",
             "RoutingControlState": state} for arn, state in panel.items()]}

    def do_UpdateRoutingControlStates(self, params: dict[str, Any], region: str) -> None:
        wanted = {entry["RoutingControlArn"]: entry["RoutingControlState"]
                  for entry in params["UpdateRoutingControlStateEntries"]}
        known = {arn: panel for panel in self.panels.values() for arn in panel}
        if set(wanted) - set(known):
            raise Fault("ResourceNotFoundException", "no such control", 404,
                        resourceId="control", resourceType="routingControl")
        over = params.get("SafetyRulesToOverride", [])
        states = {arn: panel[arn] for arn, panel in known.items()} | wanted
        for rule in self.rules:
            on = sum(states[arn] == "On" for arn in rule.controls)
            if on < rule.threshold and rule.arn not in over:
                raise Fault("ConflictException", f"Rule {rule.arn} evaluated false", 409,
                            resourceId=rule.arn, resourceType="safetyRule")
        self.overridden.append(over)
        for arn, state in wanted.items():
            known[arn][arn] = state


@dataclass
class Execution:
    id: str
    params: dict[str, Any]
    began: float
    state: str = "inProgress"
    steps: dict[str, str] = field(default_factory=dict)


class RegionSwitch(Service):
    name: ClassVar[str] = "arc-region-switch"
    refuses_as = "IllegalArgumentException"

    def __init__(self) -> None:
        super().__init__()
        self.executions: list[Execution] = []
        self.steps = ("scale up", "approve", "shift")
        self.regions = REGIONS[:2]

    def do_StartPlanExecution(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        self._plan(params)
        if params["targetRegion"] not in self.regions:
            raise Fault("IllegalArgumentException", "not one of the plan's Regions")
        if params["action"] == "activate" and region != params["targetRegion"]:
            raise Fault("IllegalStateException", "start it in the Region that it activates")
        for earlier in self.executions:
            if params.get("clientToken") == earlier.params.get("clientToken"):
                return self._started(earlier)
            if earlier.state not in ENDED:
                raise Fault("ConflictException", "an execution is in progress", 409)
        new = Execution(f"e-{len(self.executions) + 1}", params, time.time(),
                        steps=dict.fromkeys(self.steps, "notStarted"))
        self.executions.append(new)
        return self._started(new)

    def do_ListPlanExecutions(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        self._plan(params)
        return {"items": [{"planArn": PLAN, **self._told(each)} for each in self.executions]}

    def do_GetPlanExecution(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        each = self._execution(params)
        rows = [{"name": name, "status": status} for name, status in each.steps.items()]
        start = int(params.get("nextToken", "0"))
        reply = {"planArn": PLAN, **self._told(each), "stepStates": rows[start:start + 2]}
        if start + 2 < len(rows):  # small pages, so that turning them is tried
            reply["nextToken"] = str(start + 2)
        return reply

    def do_ApprovePlanExecutionStep(self, params: dict[str, Any], region: str) -> None:
        each = self._execution(params)
        if each.steps.get(params["stepName"]) != "pendingApproval":
            raise Fault("IllegalArgumentException", "the step does not wait")
        each.steps[params["stepName"]] = \
            "running" if params["approval"] == "approve" else "failed"
        each.state = "inProgress" if params["approval"] == "approve" else "pausedByFailedStep"

    def _plan(self, params: dict[str, Any]) -> None:
        if params["planArn"] != PLAN:
            raise Fault("ResourceNotFoundException", "no such plan", 404)

    def _execution(self, params: dict[str, Any]) -> Execution:
        self._plan(params)
        for each in self.executions:
            if each.id == params["executionId"]:
                return each
        raise Fault("ResourceNotFoundException", "no such execution", 404)

    @staticmethod
    def _told(each: Execution) -> dict[str, Any]:
        found = {"executionId": each.id, "startTime": at(each.began), "mode": each.params["mode"],
                 "executionState": each.state, "executionAction": each.params["action"],
                 "executionRegion": each.params["targetRegion"]}
        if "comment" in each.params:
            found["comment"] = each.params["comment"]
        return found

    def _started(self, each: Execution) -> dict[str, Any]:
        return {"executionId": each.id, "plan": PLAN, "planVersion": "1"}
