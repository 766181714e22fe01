"""Amazon Application Recovery Controller: routing controls, one for each site.

    providers:
      arc:
        kind: arc
        endpoints:            # DescribeCluster gives them: copy all five here beforehand
          us-east-1: https://aaaa.route53-recovery-cluster.us-east-1.amazonaws.com/v1
          us-west-2: https://bbbb.route53-recovery-cluster.us-west-2.amazonaws.com/v1
          …
    queues:
      loan_calls:
        route: {provider: arc, ref: CONTROL-PANEL-ARN,
                destinations: {hq: ROUTING-CONTROL-ARN, acme: ROUTING-CONTROL-ARN}}

A control is On or Off, and health checks and records follow it. The five endpoints are the data
plane: no call here needs the control plane in us-west-2, which may be down with what failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Provider, Resolve, Route
from ccfailover.providers.aws.account import Account
from ccfailover.providers.aws.arc.cluster import Cluster
from ccfailover.providers.aws.arc.controls import ControlRoute, Panel, smallest_step
from ccfailover.providers.aws.schema import ACCOUNT, names
from ccfailover.providers.params import DURATION, mapping, seconds, text, texts
from ccfailover.runtime import Runtime

_ARN = "^arn:aws[a-z-]*:route53-recovery-control::[0-9]{12}:controlpanel/[0-9a-f]{32}"
_CONTROL = _ARN + "/routingcontrol/[0-9a-f]{16}$"
_RULE = _ARN + "/safetyrule/[0-9a-f]{16}$"
_PANEL = ("arn:aws:route53-recovery-control::111122223333:controlpanel/"
          "0123456789abcdef0123456789abcdef")
_FOLLOWS = 60.0
"""Seconds until resolvers follow, where the policy does not say."""
_REGION = "^[a-z]{2}(-[a-z]+)+-[0-9]+$"


class ArcProvider(Provider):
    kind: ClassVar[str] = "arc"
    summary: ClassVar[str] = "Amazon Application Recovery Controller: routing controls"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "additionalProperties": False,
        "oneOf": [{"required": ["endpoints"]}, {"required": ["endpoints_file"]}],
        "properties": {
            "endpoints": {
                "type": "object", "minProperties": 1, "maxProperties": 5,
                "propertyNames": {"pattern": _REGION},
                "additionalProperties": {"type": "string", "pattern": "^https?://"},
                "description": "Region → the cluster's endpoint there, all five of them",
            },
            "endpoints_file": {
                "type": "string", "minLength": 1,
                "description": "a file with the answer of DescribeCluster (JSON), kept beforehand",
            },
            "safety_rules": names("name → ARN of a safety rule, for refusals to name it", _RULE),
            **{name: schema for name, schema in ACCOUNT.items() if name != "endpoint_url"},
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref", "destinations"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "pattern": _ARN + "$",
                    "description": "the control panel's ARN"},
            "destinations": names("site or treatment → the ARN of its routing control", _CONTROL),
            "equal_parts": {
                "type": "boolean",
                "description": "records give equal parts to all controls that are On (default: "
                               "one is On, and has all)",
            },
            "not_traffic": {
                "type": "array", "items": {"type": "string", "pattern": _CONTROL},
                "description": "other controls of this panel that carry no traffic (gates)",
            },
            "override_safety_rules": {
                "type": "array", "minItems": 1, "items": {"type": "string", "pattern": _RULE},
                "description": "break glass: these rules are overridden by every shift",
            },
            "propagation": {**DURATION, "description": "how long until callers follow: health "
                                                       "check and TTL (default 60s)"},
        },
    }
    EXAMPLE: ClassVar[str] = f"""\
providers:
  arc:
    kind: arc
    endpoints:
      us-east-1: https://aaaaaaaa.route53-recovery-cluster.us-east-1.amazonaws.com/v1
      us-west-2: https://bbbbbbbb.route53-recovery-cluster.us-west-2.amazonaws.com/v1
      eu-west-1: https://cccccccc.route53-recovery-cluster.eu-west-1.amazonaws.com/v1
      ap-northeast-1: https://dddddddd.route53-recovery-cluster.ap-northeast-1.amazonaws.com/v1
      ap-southeast-2: https://eeeeeeee.route53-recovery-cluster.ap-southeast-2.amazonaws.com/v1
sites:
  hq: {{kind: in_house, hours: "24/7"}}
  acme: {{kind: outsourced, hours: "24/7"}}
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    normal: {{hq: 100}}
    route:
      provider: arc
      ref: {_PANEL}
      destinations:
        hq: {_PANEL}/routingcontrol/0000000000000001
        acme: {_PANEL}/routingcontrol/0000000000000002
"""
    RIGHTS: ClassVar[str] = """\
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow",
   "Action": ["route53-recovery-cluster:ListRoutingControls",
              "route53-recovery-cluster:GetRoutingControlState",
              "route53-recovery-cluster:UpdateRoutingControlState",
              "route53-recovery-cluster:UpdateRoutingControlStates"],
   "Resource": "arn:aws:route53-recovery-control::111122223333:controlpanel/*"}]}
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "Keep the five endpoints beforehand: asking for them needs the control plane in us-west-2.",
        "At least three of the five are up, not all: they are tried in random order.",
        "A control is On or Off. With failover records two that are On do not share the work: say "
        "`equal_parts` only where the records really give equal parts.",
        "A safety rule can refuse a shift; `override_safety_rules` beats it, and the right for it "
        "is `route53-recovery-cluster:UpdateRoutingControlStates` as well.",
        "Controls move health checks; callers follow after the check and the record's TTL.",
    )

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._account = Account(spec, resolve, runtime, timeout=self.call_seconds)
        self._cluster = Cluster(self._account, texts(spec.params.get("endpoints")),
                                text(spec.params.get("endpoints_file")),
                                texts(spec.params.get("safety_rules")))

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        block = lever or {}
        found = frozenset(mapping(block.get("destinations")))
        return Capabilities(
            routes=True, treatments=not found or bool(found & TREATMENTS),
            share_step=smallest_step(len(found)) if block.get("equal_parts") is True else 100,
            destinations=found or None,
            propagation=seconds(block.get("propagation"), _FOLLOWS),
            rights=("route53-recovery-cluster:ListRoutingControls",
                    "route53-recovery-cluster:UpdateRoutingControlStates"),
            needs=("a cluster, one routing control for each site or treatment, and records whose "
                   "health checks follow them",
                   "the cluster's five endpoints in the policy, or in a file, beforehand"))

    def route(self, lever: LeverSpec) -> Route:
        controls = texts(lever.params.get("destinations"))
        if len(set(controls.values())) != len(controls):
            raise UsageError("two destinations have the same routing control", where=lever.lever,
                             hint="give every site and treatment its own in destinations")
        return ControlRoute(self._cluster, Panel(
            lever.ref, controls, equal=lever.params.get("equal_parts") is True,
            ignored=_arns(lever.params.get("not_traffic")),
            override=tuple(sorted(_arns(lever.params.get("override_safety_rules"))))))

    def close(self) -> None:
        self._account.close()


def _arns(value: object) -> frozenset[str]:
    return frozenset(str(arn) for arn in value) if isinstance(value, list | tuple) else frozenset()
