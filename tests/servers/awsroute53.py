"""Route 53's record sets: batches done whole or not at all, changes pending for a while."""

from __future__ import annotations

import copy
import time
from typing import Any, ClassVar

from tests.servers.awsfake import Fault, Service
from tests.servers.awsmodel import at

ROUTING = ("Weight", "Failover", "Region", "GeoLocation", "MultiValueAnswer")


def full(name: str) -> str:
    return name.lower().rstrip(".").replace("*", r"\052") + "."


class Route53(Service):
    name: ClassVar[str] = "route53"
    refuses_as = "InvalidInput"

    def __init__(self) -> None:
        super().__init__()
        self.zones: dict[str, dict[tuple[str, str, str], dict[str, Any]]] = {}
        self.changes: dict[str, int] = {}
        """Change id → how often it is still said to be pending."""
        self.pending_for = 0
        self.batches: list[list[str]] = []

    def put(self, zone: str, **record: Any) -> None:
        """A record made by somebody else."""
        with self.lock:
            record["Name"] = full(record["Name"])
            key = (record["Name"], record["Type"], record.get("SetIdentifier", ""))
            self.zones.setdefault(zone, {})[key] = record

    def record(self, zone: str, name: str, mark: str) -> dict[str, Any]:
        with self.lock:
            return next(copy.deepcopy(record) for key, record in self.zones[zone].items()
                        if key[0] == full(name) and key[2] == mark)

    def _zone(self, params: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
        try:
            return self.zones[params["HostedZoneId"]]
        except KeyError:
            raise Fault("NoSuchHostedZone", "No hosted zone found", 404) from None

    def do_ListResourceRecordSets(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        start = (full(params["StartRecordName"]) if "StartRecordName" in params else "",
                 params.get("StartRecordType", ""), params.get("StartRecordIdentifier", ""))
        rows = [copy.deepcopy(record) for key, record in sorted(self._zone(params).items())
                if key >= start]
        most = min(300, int(params.get("MaxItems", "300")))
        reply: dict[str, Any] = {"ResourceRecordSets": rows[:most], "MaxItems": str(most),
                                 "IsTruncated": len(rows) > most}
        if len(rows) > most:
            following = rows[most]
            reply["NextRecordName"], reply["NextRecordType"] = following["Name"], following["Type"]
            if following.get("SetIdentifier"):
                reply["NextRecordIdentifier"] = following["SetIdentifier"]
        return reply

    def do_ChangeResourceRecordSets(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        trial = copy.deepcopy(self._zone(params))
        for change in params["ChangeBatch"]["Changes"]:
            self._change(trial, change["Action"], change["ResourceRecordSet"])
        self._check(trial)
        self.zones[params["HostedZoneId"]] = trial
        self.batches.append([change["Action"] for change in params["ChangeBatch"]["Changes"]])
        change = f"C{len(self.changes) + 1:013d}"
        self.changes[change] = self.pending_for
        return {"ChangeInfo": {"Id": f"/change/{change}", "Status": "PENDING",
                               "SubmittedAt": at(time.time())}}

    def do_GetChange(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        change = params["Id"].rpartition("/")[2]
        if change not in self.changes:
            raise Fault("NoSuchChange", "no such change", 404)
        left = self.changes[change]
        self.changes[change] = max(0, left - 1)
        return {"ChangeInfo": {"Id": f"/change/{change}", "SubmittedAt": at(time.time()),
                               "Status": "PENDING" if left else "INSYNC"}}

    def _change(self, records: dict[tuple[str, str, str], dict[str, Any]], action: str,
                given: dict[str, Any]) -> None:
        record = {**given, "Name": full(given["Name"])}
        key = (record["Name"], record["Type"], record.get("SetIdentifier", ""))
        routed = [name for name in ROUTING if name in record]
        if bool(routed) != bool(key[2]) or len(routed) > 1:
            raise Fault("InvalidInput", "a set identifier goes with one routing policy")
        if ("ResourceRecords" in record) == ("AliasTarget" in record) \
                or ("TTL" in record) != ("ResourceRecords" in record):
            raise Fault("InvalidInput", "records with a TTL, or an alias without")
        if action == "CREATE" and key in records:
            raise Fault("InvalidChangeBatch", f"Tried to create {key} but it already exists")
        if action == "DELETE":
            if records.get(key) != record:
                raise Fault("InvalidChangeBatch", f"Tried to delete {key} but the values provided "
                                                  "do not match the current values")
            del records[key]
        else:
            records[key] = record

    @staticmethod
    def _check(records: dict[tuple[str, str, str], dict[str, Any]]) -> None:
        seen: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for key, record in records.items():
            seen.setdefault(key[:2], []).append(record)
        for key, group in seen.items():
            kinds = {next((name for name in ROUTING if name in record), "") for record in group}
            if len(kinds) > 1:
                raise Fault("InvalidChangeBatch", f"{key}: routing policies are mixed")
            places = [record["Failover"] for record in group if "Failover" in record]
            if len(places) != len(set(places)):
                raise Fault("InvalidChangeBatch", f"{key}: two {places[0]} records")
