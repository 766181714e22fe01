"""Amazon Connect: traffic distribution groups, flows of phone numbers, queues' gates.

    providers:
      connect: {kind: connect, region: us-east-1, instance: 0f2d…}
    queues:
      loan_calls:
        # between our own two linked instances
        route: {provider: connect, ref: "arn:aws:connect:us-east-1:…:traffic-distribution-group/…",
                destinations: {hq: us-east-1, west: us-west-2}}
      card_calls:
        # to an outsourcer and to treatments: each has a flow that is ready
        route: {provider: connect, lever: contact_flow, ref: PHONE-NUMBER-ID,
                destinations: {hq: FLOW-ID, acme: FLOW-ID, message: FLOW-ID}}
        consumers: {hq: {provider: connect, lever: queue_status, ref: QUEUE-ID}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Announcement, Gate, Provider, Resolve, Route
from ccfailover.providers.aws.account import Account
from ccfailover.providers.aws.connect.flows import FlowAnnouncement, FlowRoute, Numbers
from ccfailover.providers.aws.connect.gates import HoursGate, StatusGate
from ccfailover.providers.aws.connect.groups import STEP, GroupRoute
from ccfailover.providers.aws.connect.instance import Instance
from ccfailover.providers.aws.connect.metrics import Watch, watched
from ccfailover.providers.aws.connect.overrides import DAYS, NAME, OverrideGate
from ccfailover.providers.aws.connect.schema import LEVER, PARAMS
from ccfailover.providers.params import mapping, text, texts
from ccfailover.runtime import Runtime

_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "traffic_distribution": (
        "connect:GetTrafficDistribution", "connect:UpdateTrafficDistribution",
        "connect:DescribeTrafficDistributionGroup"),
    "contact_flow": ("connect:ListFlowAssociations", "connect:AssociatePhoneNumberContactFlow"),
    "announcement": ("connect:ListFlowAssociations", "connect:AssociatePhoneNumberContactFlow"),
    "queue_status": ("connect:DescribeQueue", "connect:UpdateQueueStatus"),
    "queue_hours": ("connect:DescribeQueue", "connect:UpdateQueueHoursOfOperation"),
    "hours_override": (
        "connect:ListHoursOfOperationOverrides", "connect:GetEffectiveHoursOfOperations",
        "connect:CreateHoursOfOperationOverride", "connect:UpdateHoursOfOperationOverride",
        "connect:DeleteHoursOfOperationOverride"),
}
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "traffic_distribution": (
        "a replica of the instance in the paired Region, for which the account team gives access",
        "phone numbers and agents in one traffic distribution group, and that group ACTIVE"),
    "contact_flow": ("one published flow for each site and treatment: its own queue, or a transfer "
                     "to the outsourcer",),
    "announcement": ("one published flow for each announcement, and one for when there is none",),
    "queue_status": (),
    "queue_hours": ("hours of operation that are never open",),
    "hours_override": ("room for one more override of these hours (Connect allows 50), on dates "
                       "that no other override has",),
}


class ConnectProvider(Provider):
    kind: ClassVar[str] = "connect"
    summary: ClassVar[str] = ("Amazon Connect: traffic distribution groups, phone numbers' flows, "
                              "queues, announcements")
    PARAMS: ClassVar[Mapping[str, object]] = PARAMS
    LEVER: ClassVar[Mapping[str, object]] = LEVER
    EXAMPLE: ClassVar[str] = """\
providers:
  connect: {kind: connect, region: us-east-1, instance: 11111111-2222-3333-4444-555555555555}
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
    home_down: message
    route:
      provider: connect
      lever: contact_flow
      ref: aaaaaaaa-1111-2222-3333-444444444444
      destinations:
        hq: bbbbbbbb-1111-2222-3333-444444444444
        acme: cccccccc-1111-2222-3333-444444444444
        message: dddddddd-1111-2222-3333-444444444444
"""
    RIGHTS: ClassVar[str] = """\
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow",
   "Action": ["connect:GetTrafficDistribution", "connect:UpdateTrafficDistribution",
              "connect:DescribeTrafficDistributionGroup"],
   "Resource": "arn:aws:connect:us-east-1:111122223333:traffic-distribution-group/*"},
  {"Effect": "Allow",
   "Action": ["connect:ListFlowAssociations", "connect:AssociatePhoneNumberContactFlow",
              "connect:DescribeQueue", "connect:UpdateQueueStatus",
              "connect:UpdateQueueHoursOfOperation", "connect:GetCurrentMetricData",
              "connect:ListHoursOfOperationOverrides", "connect:GetEffectiveHoursOfOperations",
              "connect:CreateHoursOfOperationOverride", "connect:UpdateHoursOfOperationOverride",
              "connect:DeleteHoursOfOperationOverride"],
   "Resource": ["arn:aws:connect:us-east-1:111122223333:instance/INSTANCE",
                "arn:aws:connect:us-east-1:111122223333:instance/INSTANCE/*",
                "arn:aws:connect:us-east-1:111122223333:phone-number/*"]}]}
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "A rollback brings back a group's sign-in, too, where the lever moves it.",
        "A traffic distribution group moves work between your own two linked instances, never to "
        "an outsourcer; for that a number is given another flow.",
        "Groups know steps of ten only, and are changed from the Region that takes the traffic.",
        "Agents move together with the calls: else these wait where nobody is signed in.",
        "Sign-in is moved for the default group only.",
        "Calls that are under way end where they are.",
        "The API gives 2 calls a second and then says 429, not when to come back: it is left "
        "alone for 2.5 s.",
        "A metric that is null or absent is not 0: it is left out.",
        "Hours, exchanged or overridden, close only what asks for them: the flows' block that "
        "checks hours of operation.",
        "A number's flow is read from a list that Connect may bring up to date late.",
    )

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._account = Account(spec, resolve, runtime, timeout=self.call_seconds)
        self._instance = Instance(self._account, text(spec.params.get("region")),
                                  text(spec.params.get("instance")))

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        if lever is None:
            rights = tuple(sorted({right for each in _RIGHTS.values() for right in each}))
            return Capabilities(
                routes=True, gates=True, announcements=True, share_step=STEP,
                rights=(*rights, "connect:GetCurrentMetricData"),
                needs=tuple(sentence for each in _NEEDS.values() for sentence in each))
        sort = text(lever.get("lever"), "traffic_distribution")
        found = frozenset(mapping(lever.get("destinations"))) or None
        watches = bool(mapping(lever.get("watch")))
        return Capabilities(
            routes=sort in ("traffic_distribution", "contact_flow"),
            gates=sort in ("queue_status", "queue_hours", "hours_override"),
            announcements=sort == "announcement",
            share_step=STEP if sort == "traffic_distribution" else 100,
            treatments=found is None or bool(found & TREATMENTS), destinations=found, live=watches,
            rights=_RIGHTS.get(sort, ()) + (("connect:GetCurrentMetricData",) if watches else ()),
            needs=_NEEDS.get(sort, ()))

    def route(self, lever: LeverSpec) -> Route:
        destinations = self._destinations(lever)
        if self._sort(lever) == "traffic_distribution":
            return GroupRoute(self._account, lever.ref, destinations,
                              home=text(self.spec.params.get("region")),
                              sign_in=lever.params.get("sign_in") is True,
                              watch=self._watch(lever, destinations))
        if self._sort(lever) == "contact_flow":
            return FlowRoute(self._numbers(lever), destinations, self._watch(lever, {}))
        raise self._other(lever, "route", "traffic_distribution or contact_flow")

    def gate(self, lever: LeverSpec) -> Gate:
        if self._sort(lever) == "queue_status":
            return StatusGate(self._instance, lever.ref)
        if self._sort(lever) == "queue_hours":
            hours = texts(lever.params.get("hours"))
            if len({*hours.values()}) != 2:
                raise UsageError("hours names the hours of operation when open and when closed",
                                 where=lever.lever, hint="add hours: {open: …, closed: …}")
            return HoursGate(self._instance, lever.ref, hours["open"], hours["closed"])
        if self._sort(lever) == "hours_override":
            days = lever.params.get("days")
            return OverrideGate(self._instance, lever.ref, text(lever.params.get("name"), NAME),
                                days if isinstance(days, int) else DAYS, self.runtime.now)
        raise self._other(lever, "gate", "queue_status, queue_hours or hours_override")

    def announcement(self, lever: LeverSpec) -> Announcement:
        flows = texts(lever.params.get("announcements"))
        normal = text(lever.params.get("normal"))
        if self._sort(lever) != "announcement" or not flows or not normal:
            raise self._other(lever, "announcement", "announcement, with announcements: {…} and "
                                                     "the normal flow")
        return FlowAnnouncement(self._numbers(lever), flows, normal)

    def close(self) -> None:
        self._account.close()

    def _numbers(self, lever: LeverSpec) -> Numbers:
        return Numbers(self._instance, lever.ref)

    def _watch(self, lever: LeverSpec, regions: Mapping[str, str]) -> Watch:
        return watched(self._instance, lever.params.get("watch"), regions, self.runtime)

    @staticmethod
    def _sort(lever: LeverSpec) -> str:
        return text(lever.params.get("lever"), "traffic_distribution")

    @staticmethod
    def _destinations(lever: LeverSpec) -> Mapping[str, str]:
        found = texts(lever.params.get("destinations"))
        if len(set(found.values())) != len(found):
            raise UsageError("two destinations have the same name on the platform",
                             where=lever.lever,
                             hint="give every site and treatment its own in destinations")
        return found

    def _other(self, lever: LeverSpec, noun: str, known: str) -> UsageError:
        return UsageError(f"this lever is no {noun}", where=lever.lever,
                          hint=f"a {noun} of {self.name} has lever: {known}")
