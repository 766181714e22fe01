"""Amazon Connect: traffic distribution groups over two Regions, numbers' flows, queues, metrics."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from tests.servers.awsfake import Fault, Service
from tests.servers.awsmodel import at

ACCOUNT = "111122223333"
REGIONS = ("us-east-1", "us-west-2")
INSTANCE = "11111111-2222-3333-4444-555555555555"


def uuid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"


class Connect(Service):
    """The groups' home is the first Region; both see the same state."""

    name: ClassVar[str] = "connect"
    refuses_as = "InvalidParameterException"

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, dict[str, Any]] = {}
        self.flows: set[str] = set()
        self.hours: set[str] = set()
        self.zone = "America/New_York"
        self.overrides: dict[str, dict[str, Any]] = {}
        """Override id → what was sent, of whichever hours; all hours are open 08:00 to 20:00."""
        self.numbers: dict[str, str] = {}
        self.queues: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, dict[str, float | None]] = {}
        """Queue → metric → value; None: it cannot be computed; no queue: no data."""
        self.snapshot_age = 0.0
        self.page = 1000

    # --- groups ----------------------------------------------------------------------------------

    def add_group(self, number: int, *, default: bool = False) -> str:
        """Its ARN. All calls and agents are in the first Region."""
        group = uuid(number)
        with self.lock:
            self.groups[group] = {"status": "ACTIVE", "default": default,
                                  "sign_in": dict.fromkeys(REGIONS, True),
                                  "calls": {REGIONS[0]: 100, REGIONS[1]: 0},
                                  "agents": {REGIONS[0]: 100, REGIONS[1]: 0}}
        return self.arn(group)

    @staticmethod
    def arn(group: str) -> str:
        return f"arn:aws:connect:{REGIONS[0]}:{ACCOUNT}:traffic-distribution-group/{group}"

    def _group(self, ref: str, region: str) -> dict[str, Any]:
        if not ref.startswith("arn:") and region != REGIONS[0]:
            raise Fault("ResourceNotFoundException", "this Region knows it by its ARN", 404)
        found = self.groups.get(ref.rpartition("/")[2])
        if found is None or (ref.startswith("arn:") and ref != self.arn(ref.rpartition("/")[2])):
            raise Fault("ResourceNotFoundException", "no such group", 404)
        return found

    def do_GetTrafficDistribution(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        group = self._group(params["Id"], region)
        ref = params["Id"].rpartition("/")[2]
        return {"Id": ref, "Arn": self.arn(ref), "TelephonyConfig": spread(group["calls"]),
                "AgentConfig": spread(group["agents"]),
                "SignInConfig": {"Distributions": [
                    {"Region": name, "Enabled": on} for name, on in group["sign_in"].items()]}}

    def do_DescribeTrafficDistributionGroup(self, params: dict[str, Any],
                                            region: str) -> dict[str, Any]:
        ref = params["TrafficDistributionGroupId"]
        group = self._group(ref, region)
        short = ref.rpartition("/")[2]
        return {"TrafficDistributionGroup": {
            "Id": short, "Arn": self.arn(short), "Name": "group", "Status": group["status"],
            "InstanceArn": f"arn:aws:connect:{REGIONS[0]}:{ACCOUNT}:instance/{INSTANCE}",
            "IsDefault": group["default"]}}

    def do_UpdateTrafficDistribution(self, params: dict[str, Any], region: str) -> None:
        group = self._group(params["Id"], region)
        if group["status"] != "ACTIVE":
            raise Fault("ResourceConflictException", f"the group is {group['status']}", 409)
        if "TelephonyConfig" not in params:
            raise Fault("InvalidRequestException", "TelephonyConfig is required")
        parts = {name: percentages(params[name]) for name in ("TelephonyConfig", "AgentConfig")
                 if name in params}
        if "SignInConfig" in params:
            if not group["default"]:
                raise Fault("InvalidRequestException", "SignInConfig is for the default group")
            rows = params["SignInConfig"]["Distributions"]
            if sorted(row["Region"] for row in rows) != sorted(REGIONS):
                raise Fault("InvalidRequestException", "both Regions are given")
            group["sign_in"] = {row["Region"]: row["Enabled"] for row in rows}
        group["calls"] = parts["TelephonyConfig"]
        group["agents"] = parts.get("AgentConfig", group["agents"])

    # --- flows -----------------------------------------------------------------------------------

    def do_ListFlowAssociations(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        self._instance(params)
        rows = [{"ResourceId": f"arn:aws:connect:{region}:{ACCOUNT}:phone-number/{number}",
                 "FlowId": f"arn:aws:connect:{region}:{ACCOUNT}:instance/{INSTANCE}"
                           f"/contact-flow/{flow}",
                 "ResourceType": "VOICE_PHONE_NUMBER"}
                for number, flow in sorted(self.numbers.items())]
        if params.get("ResourceType", "VOICE_PHONE_NUMBER") != "VOICE_PHONE_NUMBER":
            rows = []
        start, most = int(params.get("NextToken", "0")), min(self.page, params["MaxResults"])
        reply: dict[str, Any] = {"FlowAssociationSummaryList": rows[start:start + most]}
        if start + most < len(rows):
            reply["NextToken"] = str(start + most)
        return reply

    def do_AssociatePhoneNumberContactFlow(self, params: dict[str, Any], region: str) -> None:
        self._instance(params)
        number, flow = (params[name].rpartition("/")[2]
                        for name in ("PhoneNumberId", "ContactFlowId"))
        if number not in self.numbers or flow not in self.flows:
            raise Fault("ResourceNotFoundException", "no such number or flow", 404)
        self.numbers[number] = flow

    # --- queues ----------------------------------------------------------------------------------

    def do_DescribeQueue(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        queue = self._queue(params)
        return {"Queue": {"Name": "q", "QueueId": params["QueueId"], "Status": queue["status"],
                          "HoursOfOperationId": queue["hours"]}}

    def do_UpdateQueueStatus(self, params: dict[str, Any], region: str) -> None:
        self._queue(params)["status"] = params["Status"]

    def do_UpdateQueueHoursOfOperation(self, params: dict[str, Any], region: str) -> None:
        if params["HoursOfOperationId"] not in self.hours:
            raise Fault("ResourceNotFoundException", "no such hours", 404)
        self._queue(params)["hours"] = params["HoursOfOperationId"]

    # --- overrides of hours ----------------------------------------------------------------------

    def do_ListHoursOfOperationOverrides(self, params: dict[str, Any],
                                         region: str) -> dict[str, Any]:
        found = [{"HoursOfOperationOverrideId": ref, "HoursOfOperationId": given["hours"],
                  **{name: value for name, value in given.items() if name != "hours"}}
                 for ref, given in sorted(self.overrides.items())
                 if given["hours"] == self._hours(params)]
        start = int(params.get("NextToken", "0"))
        most = min(self.page, params["MaxResults"])
        reply: dict[str, Any] = {"HoursOfOperationOverrideList": found[start:start + most]}
        if start + most < len(found):
            reply["NextToken"] = str(start + most)
        return reply

    def do_CreateHoursOfOperationOverride(self, params: dict[str, Any],
                                          region: str) -> dict[str, Any]:
        hours = self._hours(params)
        if any(each["hours"] == hours and each["Name"] == params["Name"]
               for each in self.overrides.values()):
            raise Fault("DuplicateResourceException", "the name is taken", 409)
        if sum(each["hours"] == hours for each in self.overrides.values()) >= 50:
            raise Fault("LimitExceededException", "50 overrides", 429)
        ref = uuid(900 + len(self.overrides))
        self._override(ref, {"OverrideType": "STANDARD", **params}, hours)
        return {"HoursOfOperationOverrideId": ref}

    def do_UpdateHoursOfOperationOverride(self, params: dict[str, Any], region: str) -> None:
        ref = self._overridden(params)
        self._override(ref, {**self.overrides[ref], **params}, self._hours(params))

    def do_DeleteHoursOfOperationOverride(self, params: dict[str, Any], region: str) -> None:
        del self.overrides[self._overridden(params)]

    def do_GetEffectiveHoursOfOperations(self, params: dict[str, Any],
                                         region: str) -> dict[str, Any]:
        hours = self._hours(params)
        first, last = (date.fromisoformat(params[name]) for name in ("FromDate", "ToDate"))
        days = []
        for number in range((last - first).days + 1):
            day = (first + timedelta(days=number)).isoformat()
            slots: list[dict[str, Any]] = [{"Start": {"Hours": 8, "Minutes": 0},
                                            "End": {"Hours": 20, "Minutes": 0}}]
            for given in self.overrides.values():
                if (given["hours"] == hours
                        and given["EffectiveFrom"] <= day <= given["EffectiveTill"]):
                    slots = [{"Start": slot["StartTime"], "End": slot["EndTime"]}
                             for slot in given["Config"]]
            days.append({"Date": day, "OperationalHours": slots})
        return {"EffectiveHoursOfOperationList": days, "TimeZone": self.zone}

    def _override(self, ref: str, given: dict[str, Any], hours: str) -> None:
        first, last = given["EffectiveFrom"], given["EffectiveTill"]
        today = datetime.now(ZoneInfo(self.zone)).date().isoformat()
        if first > last or last < today:
            raise Fault("InvalidRequestException", "the dates are over, or the wrong way round")
        if any(other["hours"] == hours and first <= other["EffectiveTill"]
               and other["EffectiveFrom"] <= last
               for name, other in self.overrides.items() if name != ref):
            raise Fault("InvalidRequestException", "overrides do not overlap")
        self.overrides[ref] = {
            "hours": hours, **{name: given[name] for name in (
                "Name", "Config", "EffectiveFrom", "EffectiveTill", "OverrideType")}}

    def _hours(self, params: dict[str, Any]) -> str:
        self._instance(params)
        if params["HoursOfOperationId"] not in self.hours:
            raise Fault("ResourceNotFoundException", "no such hours", 404)
        return str(params["HoursOfOperationId"])

    def _overridden(self, params: dict[str, Any]) -> str:
        ref = str(params["HoursOfOperationOverrideId"])
        if self.overrides.get(ref, {}).get("hours") != self._hours(params):
            raise Fault("ResourceNotFoundException", "no such override", 404)
        return ref

    def do_GetCurrentMetricData(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        self._instance(params)
        filters = params["Filters"]
        if ("Queues" in filters) == ("RoutingProfiles" in filters):
            raise Fault("InvalidRequestException", "either queues or routing profiles")
        if "QUEUE" not in params.get("Groupings", []):
            raise Fault("InvalidRequestException", "this fake knows the grouping by QUEUE only")
        results = []
        for queue in filters["Queues"]:
            short = queue.rpartition("/")[2]
            if short not in self.queues:
                raise Fault("ResourceNotFoundException", "no such queue", 404)
            if short in self.counts:
                results.append({
                    "Dimensions": {"Queue": {"Id": short, "Arn": f"arn:queue/{short}"}},
                    "Collections": [
                        {"Metric": dict(metric),
                         "Value": self.counts[short].get(metric["Name"])}
                        for metric in params["CurrentMetrics"]]})
        return {"MetricResults": results,
                "DataSnapshotTime": at(time.time() - self.snapshot_age)}

    def _instance(self, params: dict[str, Any]) -> None:
        if params["InstanceId"].rpartition("/")[2] != INSTANCE:
            raise Fault("ResourceNotFoundException", "no such instance", 404)

    def _queue(self, params: dict[str, Any]) -> dict[str, Any]:
        self._instance(params)
        try:
            return self.queues[params["QueueId"].rpartition("/")[2]]
        except KeyError:
            raise Fault("ResourceNotFoundException", "no such queue", 404) from None


def spread(parts: dict[str, int]) -> dict[str, Any]:
    return {"Distributions": [{"Region": name, "Percentage": part}
                              for name, part in parts.items()]}


def percentages(config: dict[str, Any]) -> dict[str, int]:
    """Raises Fault for what the service refuses although the SDK does not."""
    rows = config["Distributions"]
    found = {row["Region"]: row["Percentage"] for row in rows}
    if sorted(row["Region"] for row in rows) != sorted(REGIONS):
        raise Fault("InvalidRequestException", "both Regions are given, each once")
    if sum(found.values()) != 100:
        raise Fault("InvalidRequestException", "percentages sum to 100")
    if any(part % 10 for part in found.values()):
        raise Fault("InvalidRequestException", "percentages come in steps of ten")
    return found
