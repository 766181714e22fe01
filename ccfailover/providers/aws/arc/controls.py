"""The routing controls of a panel as a route: all to the one that is On, or equal parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Final

from ccfailover.errors import ProviderError, Rejected
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.aws.arc.cluster import Cluster
from ccfailover.providers.documents import quoted
from ccfailover.providers.params import mapping, text

_UNCHANGED: Final = "the shares were not changed"
_STATES: Final = ("On", "Off")
_PAGES: Final = 10


@dataclass(frozen=True)
class Panel:
    """`controls`: site or treatment → ARN. `equal`: those that are On share alike. `ignored`:
    controls that carry no traffic. `override`: safety rules that every shift overrides."""

    arn: str
    controls: Mapping[str, str]
    equal: bool
    ignored: frozenset[str]
    override: tuple[str, ...]


def smallest_step(count: int) -> int:
    """What all equal parts among up to `count` are multiples of, in percent."""
    step = 100
    for parts in range(2, count + 1):
        if 100 % parts == 0:
            step = gcd(step, 100 // parts)
    return step


class ControlRoute(Route):
    def __init__(self, cluster: Cluster, panel: Panel) -> None:
        self._cluster, self._panel = cluster, panel

    def read(self) -> RouteState:
        states = self._states()
        sites = {arn: site for site, arn in self._panel.controls.items()}
        missing = sorted(site for arn, site in sites.items() if arn not in states)
        if missing:
            raise Rejected(f"the panel has no routing control for {', '.join(missing)}",
                           provider=self._cluster.provider, where=self._panel.arn,
                           hint="check destinations in the policy")
        for arn, state in states.items():
            if arn not in sites and arn not in self._panel.ignored and state == "On":
                raise self._nonsense(
                    f"{quoted(arn[-40:])} is On, and neither destinations nor not_traffic names it")
        on = [site for arn, site in sites.items() if states[arn] == "On"]
        if not on:
            raise self._nonsense("no routing control is On")
        if len(on) > 1 and not self._panel.equal:
            raise self._nonsense(f"{', '.join(sorted(on))} are On, and the policy does not say "
                                 "that they share in equal parts")
        if 100 % len(on):
            raise self._nonsense(f"{len(on)} are On: equal parts are no whole percentages")
        return RouteState(Shares(dict.fromkeys(on, 100 // len(on))))

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self._check(to)
        with self._cluster.at_once():
            self._write(to, expected)

    def _write(self, to: Shares, expected: RouteState | None) -> None:
        if expected is not None and self.read().shares not in (expected.shares, to):
            raise self._refused("changed since it was read")
        params: dict[str, object] = {"UpdateRoutingControlStateEntries": [
            {"RoutingControlArn": arn, "RoutingControlState": "On" if to.of(site) else "Off"}
            for site, arn in self._panel.controls.items()]}
        if self._panel.override:
            params["SafetyRulesToOverride"] = list(self._panel.override)
        try:
            self._cluster.call("update_routing_control_states", params, where=self._panel.arn,
                               writes=True)
        except ProviderError as error:
            if self._panel.override:
                error.hint = (f"{error.hint + '; ' if error.hint else ''}this lever overrides "
                              f"{len(self._panel.override)} safety rules (override_safety_rules)")
            raise

    def _states(self) -> dict[str, str]:
        found: dict[str, str] = {}
        mark: dict[str, object] = {}
        for _ in range(_PAGES):
            reply = self._cluster.call(
                "list_routing_controls", {"ControlPanelArn": self._panel.arn, **mark},
                where=self._panel.arn, writes=False)
            rows = reply.get("RoutingControls")
            if not isinstance(rows, list):
                raise self._nonsense("no list of routing controls")
            for row in rows:
                arn = text(mapping(row).get("RoutingControlArn"))
                state = text(mapping(row).get("RoutingControlState"))
                if not arn or state not in _STATES:
                    raise self._nonsense("a routing control neither On nor Off")
                found[arn] = state
            following = reply.get("NextToken")
            if not isinstance(following, str) or not following:
                return found
            mark = {"NextToken": following}
        raise self._nonsense("the list of routing controls does not end")

    def _check(self, to: Shares) -> None:
        panel = self._panel
        unknown = sorted(set(to) - set(panel.controls))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        step = smallest_step(len(panel.controls)) if panel.equal else 100
        for name, percent in to.items():
            if percent % step:
                raise self._refused(f"{name} {percent} % is no multiple of the step {step} %: a "
                                    "routing control is On or Off")
        if len({*to.values()}) > 1:
            raise self._refused(f"{to} are no equal parts, and a routing control is On or Off")

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._cluster.provider,
                        where=self._panel.arn)

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._cluster.provider, where=self._panel.arn,
                        not_done=_UNCHANGED)
