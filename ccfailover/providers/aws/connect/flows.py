"""The flow that a phone number's callers come into: as a route, and as an announcement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ccfailover.model.shares import Shares
from ccfailover.providers import Announcement, Route, RouteState
from ccfailover.providers.aws.connect.instance import Instance
from ccfailover.providers.aws.connect.metrics import Watch
from ccfailover.providers.documents import quoted
from ccfailover.providers.params import text

_PAGE: Final = 1000


@dataclass(frozen=True)
class Numbers:
    """One number of an instance. Ids stand for ARNs: only their last part is compared."""

    instance: Instance
    ref: str

    def flow(self) -> str:
        """The id of the number's flow. Raises Rejected when the number has none."""
        for row in self.instance.listed(
                "list_flow_associations", "FlowAssociationSummaryList",
                {"ResourceType": "VOICE_PHONE_NUMBER", "MaxResults": _PAGE}, where=self.ref,
                what="numbers and flows"):
            if last(text(row.get("ResourceId"))) == last(self.ref):
                return last(text(row.get("FlowId")))
        raise self.instance.refused("the instance has no such number with a flow", self.ref,
                                    "check ref, instance and Region in the policy")

    def associate(self, flow: str) -> None:
        self.instance.call("associate_phone_number_contact_flow",
                           {"PhoneNumberId": self.ref, "ContactFlowId": flow},
                           where=self.ref, writes=True)


class FlowRoute(Route):
    """All callers of a number come into one flow: a share is 0 or 100."""

    def __init__(self, numbers: Numbers, destinations: Mapping[str, str], watch: Watch) -> None:
        self._numbers, self._destinations, self._watch = numbers, destinations, watch
        self._sites = {last(flow): site for site, flow in destinations.items()}

    def read(self) -> RouteState:
        flow = self._numbers.flow()
        site = self._sites.get(flow)
        if site is None:
            raise self._numbers.instance.nonsense(
                f"the number has the flow {quoted(flow)}, which destinations does not name",
                self._numbers.ref)
        return RouteState(Shares({site: 100}))

    def measure(self) -> Mapping[str, float]:
        return self._watch.measure()

    def live(self) -> Mapping[str, int] | None:
        return self._watch.live()

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        where, refused = self._numbers.ref, self._numbers.instance.refused
        unknown = sorted(set(to) - set(self._destinations))
        if unknown:
            raise refused(f"destinations does not name {', '.join(unknown)}", where)
        if len(to) != 1:
            name = next(iter(to))
            raise refused(f"{name} {to.of(name)} % is no multiple of the step 100 %: a number has "
                          "one flow", where)
        with self._numbers.instance.account.at_once():
            if expected is not None and self.read().shares not in (expected.shares, to):
                raise refused("changed since it was read", where)
            self._numbers.associate(self._destinations[next(iter(to))])


class FlowAnnouncement(Announcement):
    def __init__(self, numbers: Numbers, flows: Mapping[str, str], normal: str) -> None:
        self._numbers, self._flows, self._normal = numbers, flows, normal

    def said(self) -> str | None:
        flow = self._numbers.flow()
        if flow == last(self._normal):
            return None
        for name, its in self._flows.items():
            if last(its) == flow:
                return name
        raise self._numbers.instance.nonsense(
            f"the number has the flow {quoted(flow)}, which the policy does not name",
            self._numbers.ref)

    def say(self, name: str | None, *, key: str) -> None:
        if name is not None and name not in self._flows:
            raise self._numbers.instance.refused(
                f"announcements does not name {quoted(name)}", self._numbers.ref)
        self._numbers.associate(self._normal if name is None else self._flows[name])


def last(arn: str) -> str:
    """The id, where an ARN or an id is given."""
    return arn.rpartition("/")[2]
