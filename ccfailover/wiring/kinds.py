"""Name → class, imported only when a policy names the kind.

To add one here: one file, one line below, one fixture for the conformance suite. Other packages
add kinds by the entry points `ccfailover.providers`, `ccfailover.probes`, `ccfailover.steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ccfailover.errors import UsageError

if TYPE_CHECKING:
    from ccfailover.health import Probe
    from ccfailover.model.capabilities import Capabilities
    from ccfailover.providers import Provider
    from ccfailover.runbooks.step import Step

PROVIDERS = {
    "arc": "ccfailover.providers.aws.arc:ArcProvider",
    "command": "ccfailover.providers.command:CommandProvider",
    "connect": "ccfailover.providers.aws.connect:ConnectProvider",
    "directory": "ccfailover.providers.directory:DirectoryProvider",
    "dns": "ccfailover.providers.dns:DnsProvider",
    "genesys": "ccfailover.providers.genesys:GenesysProvider",
    "haproxy": "ccfailover.providers.haproxy:HaproxyProvider",
    "http": "ccfailover.providers.http:HttpProvider",
    "kamailio": "ccfailover.providers.kamailio:KamailioProvider",
    "manual": "ccfailover.providers.manual:ManualProvider",
    "postgresql": "ccfailover.providers.postgresql:PostgresqlProvider",
    "rabbitmq": "ccfailover.providers.rabbitmq:RabbitmqProvider",
    "region_switch": "ccfailover.providers.aws.region_switch:RegionSwitchProvider",
    "route53": "ccfailover.providers.aws.route53:Route53Provider",
    "sqs": "ccfailover.providers.sqs:SqsProvider",
    "twilio": "ccfailover.providers.twilio:TwilioProvider",
}
PROBES = {
    "http": "ccfailover.health.probes.http:HttpProbe",
    "tcp": "ccfailover.health.probes.tcp:TcpProbe",
    "command": "ccfailover.health.probes.command:CommandProbe",
}
# Every lever and backlog is watched through these two; a policy does not write them down.
IMPLICIT_PROBES = {
    "route": "ccfailover.health.probes.route:RouteProbe",
    "backlog": "ccfailover.health.probes.backlog:BacklogProbe",
}
STEPS = {
    "confirm": "ccfailover.runbooks.steps.confirm:Confirm",
    "approve": "ccfailover.runbooks.steps.approve:Approve",
    "redirect_intake": "ccfailover.runbooks.steps.redirect_intake:RedirectIntake",
    "shift_route": "ccfailover.runbooks.steps.shift_route:ShiftRoute",
    "transfer": "ccfailover.runbooks.steps.transfer:Transfer",
    "hold_consumers": "ccfailover.runbooks.steps.hold_consumers:HoldConsumers",
    "notify": "ccfailover.runbooks.steps.notify:Notify",
    "announce": "ccfailover.runbooks.steps.announce:Announce",
    "drain": "ccfailover.runbooks.steps.drain:Drain",
    "procedure": "ccfailover.runbooks.steps.procedure:Procedure",
    "verify": "ccfailover.runbooks.steps.verify:Verify",
}


@cache
def _entry_points(group: str) -> Mapping[str, Any]:
    from importlib.metadata import entry_points  # 20 ms: only for a kind that is not ours

    return {point.name: point for point in entry_points(group=group)}


def _find(kind: str, builtin: Mapping[str, str], group: str, noun: str) -> Any:
    if kind in builtin:
        module, _, name = builtin[kind].partition(":")
        return getattr(import_module(module), name)
    found = _entry_points(group).get(kind)
    if found is None:
        raise UsageError(f"there is no {noun} kind {kind!r}",
                         hint=f"one of: {', '.join(sorted({*builtin, *_entry_points(group)}))}")
    return found.load()


def provider_class(kind: str) -> type[Provider]:
    found: type[Provider] = _find(kind, PROVIDERS, "ccfailover.providers", "provider")
    return found


def probe_class(kind: str) -> type[Probe]:
    found: type[Probe] = _find(kind, PROBES | IMPLICIT_PROBES, "ccfailover.probes", "probe")
    return found


def step_class(kind: str) -> type[Step]:
    found: type[Step] = _find(kind, STEPS, "ccfailover.steps", "step")
    return found


class Schemas:
    """What `policy.load` needs to know of the kinds; see `policy.kinds.KindSchemas`."""

    def provider_kinds(self) -> Sequence[str]:
        return sorted({*PROVIDERS, *_entry_points("ccfailover.providers")})

    def provider_schema(self, kind: str) -> Mapping[str, object]:
        return provider_class(kind).PARAMS

    def lever_schema(self, kind: str) -> Mapping[str, object]:
        return provider_class(kind).LEVER

    def capabilities(self, kind: str, params: Mapping[str, object],
                     lever: Mapping[str, object] | None) -> Capabilities:
        return provider_class(kind).capabilities(params, lever)

    def probe_kinds(self) -> Sequence[str]:
        return sorted({*PROBES, *_entry_points("ccfailover.probes")})

    def probe_schema(self, kind: str) -> Mapping[str, object]:
        return probe_class(kind).PARAMS

    def step_kinds(self) -> Sequence[str]:
        return sorted({*STEPS, *_entry_points("ccfailover.steps")})

    def step_schema(self, kind: str) -> Mapping[str, object]:
        return step_class(kind).PARAMS
