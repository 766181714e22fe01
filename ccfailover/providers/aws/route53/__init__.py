"""Amazon Route 53: weighted and failover records of one name.

    providers:
      dns: {kind: route53, zone: Z0123456789ABCDEFGHIJ}
    queues:
      loan_calls:
        route: {provider: dns, ref: sip.lender.example, type: SRV, ttl: 60s,
                destinations: {hq: hq, acme: acme}}

The records are there beforehand, one for each site or treatment, told apart by their set
identifiers. A shift writes their weights, or which of the two is the primary one, and nothing
else of them but the TTL. The whole set goes in one batch, which Route 53 does or leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Provider, Resolve, Route
from ccfailover.providers.aws.account import Account
from ccfailover.providers.aws.route53.records import RecordRoute, Records, Zone
from ccfailover.providers.aws.schema import ACCOUNT, REGION, names
from ccfailover.providers.params import DURATION, mapping, seconds, text, texts
from ccfailover.runtime import Runtime

_TTL: Final = 60.0
_INSYNC: Final = 60.0
"""Seconds until a change is at all name servers, as Route 53's documentation expects it."""
_HOME: Final = "us-east-1"
"""Where Route 53's control plane is: it is one for the whole world."""


class Route53Provider(Provider):
    kind: ClassVar[str] = "route53"
    summary: ClassVar[str] = "Amazon Route 53: weighted and failover records"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["zone"], "additionalProperties": False,
        "properties": {
            "zone": {"type": "string", "pattern": "^[A-Z0-9]{1,32}$",
                     "description": "the hosted zone's id"},
            "region": {**REGION, "description": "for which Region requests are signed (default "
                                                f"{_HOME}, where Route 53 is)"},
            **ACCOUNT,
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref", "destinations"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "minLength": 1, "maxLength": 1024,
                    "description": "the records' name"},
            "type": {"enum": ["A", "AAAA", "CNAME", "SRV", "NAPTR", "TXT", "MX", "HTTPS", "SVCB"],
                     "description": "the records' type (default A)"},
            "policy": {"enum": ["weighted", "failover"],
                       "description": "weighted (default): shares are weights. failover: all goes "
                                      "to the primary one of two records"},
            "destinations": names("site or treatment → its record's set identifier"),
            "ttl": {**DURATION,
                    "description": "the records' TTL, whole seconds: a shift writes it, and a run "
                                   "expects callers to follow after it (default: the records' own, "
                                   "taken to be 60s)"},
        },
    }
    EXAMPLE: ClassVar[str] = """\
providers:
  dns: {kind: route53, zone: Z0123456789ABCDEFGHIJ}
sites:
  hq: {kind: in_house, hours: "24/7"}
  acme: {kind: outsourced, hours: "24/7"}
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    normal: {hq: 100}
    route: {provider: dns, ref: sip.lender.example, type: SRV, ttl: 60s,
            destinations: {hq: hq, acme: acme}}
"""
    RIGHTS: ClassVar[str] = """\
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["route53:ListResourceRecordSets"],
   "Resource": "arn:aws:route53:::hostedzone/Z0123456789ABCDEFGHIJ"},
  {"Effect": "Allow", "Action": ["route53:ChangeResourceRecordSets"],
   "Resource": "arn:aws:route53:::hostedzone/Z0123456789ABCDEFGHIJ",
   "Condition": {"ForAllValues:StringEquals": {
     "route53:ChangeResourceRecordSetsNormalizedRecordNames": ["sip.lender.example"],
     "route53:ChangeResourceRecordSetsActions": ["UPSERT", "CREATE", "DELETE"]}}},
  {"Effect": "Allow", "Action": ["route53:GetChange"], "Resource": "arn:aws:route53:::change/*"}]}
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "A rollback brings back weights, or primary and secondary, and TTLs as they were found.",
        "Changes go through one control plane in us-east-1; where that Region may be what fails, "
        "put an `arc` lever or the edge first.",
        "When all weights are 0, Route 53 answers with every record alike; it is read so.",
        "A record whose health check fails is left out of the answers, whatever its weight: shares "
        "read back are what is set, not what is answered.",
        "Weights that are no whole percentages of their sum cannot be read as shares; set them so "
        "that they sum to 100.",
        "Resolvers keep an answer for its TTL, some for longer; calls that are under way stay.",
    )

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._account = Account(spec, resolve, runtime, timeout=self.call_seconds)
        self._zone = Zone(self._account, text(spec.params.get("zone")),
                          text(spec.params.get("region"), _HOME))

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        block = lever or {}
        found = frozenset(mapping(block.get("destinations"))) or None
        return Capabilities(
            routes=True, share_step=100 if block.get("policy") == "failover" else 1,
            treatments=found is None or bool(found & TREATMENTS), destinations=found,
            propagation=seconds(block.get("ttl"), _TTL) + _INSYNC,
            rights=("route53:ListResourceRecordSets", "route53:ChangeResourceRecordSets",
                    "route53:GetChange"),
            needs=("one record for each site and treatment, weighted or failover, with a set "
                   "identifier of its own and a short TTL",),
        )

    def route(self, lever: LeverSpec) -> Route:
        ttl = seconds(lever.params["ttl"], _TTL) if "ttl" in lever.params else None
        return RecordRoute(self._zone, Records(
            lever.ref, text(lever.params.get("type"), "A"),
            texts(lever.params.get("destinations")),
            failover=lever.params.get("policy") == "failover",
            ttl=None if ttl is None else max(1, round(ttl))))

    def close(self) -> None:
        self._account.close()
