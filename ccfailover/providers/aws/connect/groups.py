"""A traffic distribution group: telephony and agents of two linked instances, in tens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.aws.account import Account, Document, Place
from ccfailover.providers.aws.connect.metrics import Watch
from ccfailover.providers.documents import quoted
from ccfailover.providers.params import mapping, text

STEP: Final = 10
_UNCHANGED: Final = "the shares were not changed"
_BUSY: Final = frozenset({"CREATION_IN_PROGRESS", "UPDATE_IN_PROGRESS"})


class GroupRoute(Route):
    def __init__(self, account: Account, ref: str, regions: Mapping[str, str], *, home: str,
                 sign_in: bool, watch: Watch) -> None:
        """`regions`: site → Region. `home`: where the group was made."""
        self._account, self._ref, self._regions = account, ref, regions
        self._home, self._sign_in, self._watch = home, sign_in, watch
        self._sites = {region: site for site, region in regions.items()}
        self._latest: str | None = None

    def read(self) -> RouteState:
        """From the Region that answered last or was last written to; when it does not answer,
        from the other. Raises Rejected when agents are elsewhere than the calls."""
        told = self._look("get_traffic_distribution", {"Id": self._ref})
        calls = self._distribution(told, "TelephonyConfig")
        agents = self._distribution(told, "AgentConfig")
        if agents is None:
            raise self._nonsense("it tells nothing of agents")
        if calls is None:
            raise self._nonsense("it tells nothing of telephony")
        try:
            shares = Shares({self._sites[region]: part for region, part in calls.items()})
        except ValueError as error:
            raise self._nonsense(str(error)) from None
        if agents != calls:
            said = ", ".join(f"{region} {part} %" for region, part in sorted(agents.items()))
            raise Rejected(
                f"calls and agents are apart: calls {shares}; agents {said}",
                provider=self._account.provider, where=self._ref,
                hint="give agents the same distribution as telephony in Connect, then go on")
        return RouteState(shares, raw=self._raw(told))

    def measure(self) -> Mapping[str, float]:
        return self._watch.measure()

    def live(self) -> Mapping[str, int] | None:
        return self._watch.live()

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self._check(to)
        with self._account.at_once():
            self._write(to, expected, {})

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        self._check(before.shares)
        then = mapping(json.loads(before.raw)) if before.raw else {}
        with self._account.at_once():
            self._write(before.shares, expected, then)

    def _write(self, to: Shares, expected: RouteState | None,
               then: Mapping[str, object]) -> None:
        """`then`: where agents could sign in once, by Region."""
        current = None
        if expected is not None:
            current = self.read().shares
            if current not in (expected.shares, to):
                raise self._refused("changed since it was read")
        region = self._regions[self._taker(to, current)]
        if region != self._home and not self._ref.startswith("arn:"):
            raise self._refused(f"{region} knows the group by its ARN only",
                                "give the group's ARN as ref")
        self._ready(region)
        parts = {"Distributions": [{"Region": where, "Percentage": to.of(site)}
                                   for site, where in sorted(self._regions.items())]}
        params: dict[str, object] = {
            "Id": self._ref, "TelephonyConfig": parts, "AgentConfig": parts}
        if self._sign_in:
            params["SignInConfig"] = {"Distributions": [
                {"Region": where, "Enabled": then.get(where, to.of(site) > 0) is True}
                for site, where in sorted(self._regions.items())]}
        self._account.call(Place("connect", region), "update_traffic_distribution", params,
                           where=f"{self._ref} in {region}", writes=True)
        self._latest = region

    # -------------------------------------------------------------------------------------------

    def _raw(self, told: Document) -> str | None:
        """Where agents may sign in, if a shift writes that."""
        rows = mapping(told.get("SignInConfig")).get("Distributions")
        if not self._sign_in or not isinstance(rows, list):
            return None
        found = {text(mapping(row).get("Region")): mapping(row).get("Enabled") is True
                 for row in rows}
        return json.dumps(dict(sorted(found.items()))) if set(found) == set(self._sites) else None

    def _check(self, to: Shares) -> None:
        unknown = sorted(set(to) - set(self._regions))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        if len(self._regions) != 2:
            raise self._refused("a group spreads over two Regions, and both are given",
                                "name both in destinations")
        for name, percent in to.items():
            if percent % STEP:
                raise self._refused(f"{name} {percent} % is no multiple of the step {STEP} %")

    @staticmethod
    def _taker(to: Shares, current: Shares | None) -> str:
        """The site whose Region takes the traffic: where its share grows most, or is largest."""
        if current is not None and current != to:
            return max(sorted(to), key=lambda site: to.of(site) - current.of(site))
        return max(sorted(to), key=to.of)

    def _ready(self, region: str) -> None:
        told = self._account.call(
            Place("connect", region), "describe_traffic_distribution_group",
            {"TrafficDistributionGroupId": self._ref}, where=f"{self._ref} in {region}",
            writes=False)
        group = mapping(told.get("TrafficDistributionGroup"))
        status = group.get("Status")
        if status in _BUSY:
            raise Unavailable(f"the group is {status}", in_doubt=False, retry_after=2.0,
                              provider=self._account.provider, where=self._ref,
                              not_done=_UNCHANGED)
        if status != "ACTIVE":
            raise self._refused(f"the group is {quoted(str(status))}, not ACTIVE")
        if self._sign_in and group.get("IsDefault") is not True:
            raise self._refused("sign_in is for the default group, and this one is not",
                                "take sign_in out of this lever")

    def _look(self, operation: str, params: Document) -> Document:
        """Half of a call's time for each Region: one of them may be what fails."""
        regions = list(self._where())
        failed: Unavailable | None = None
        for region in regions:
            try:
                told = self._account.call(
                    Place("connect", region), operation, params, where=f"{self._ref} in {region}",
                    writes=False, timeout=self._account.timeout / len(regions))
            except Unavailable as error:
                failed = failed or error
                if error.what.startswith("throttled"):
                    break  # the other Region is no way round a limit
                continue
            self._latest = region
            return told
        raise failed or self._refused("no Region of this lever knows the group by its id",
                                      "give the group's ARN as ref")

    def _where(self) -> Iterator[str]:
        first = self._latest or self._home
        known = sorted(self._regions.values(), key=lambda region: (region != first, region))
        for region in known:
            if region == self._home or self._ref.startswith("arn:"):
                yield region

    def _distribution(self, told: Document, name: str) -> dict[str, int] | None:
        """Region → percent. Raises Rejected for what goes to a Region that the policy lacks."""
        rows = mapping(told.get(name)).get("Distributions")
        if not isinstance(rows, list):
            return None
        found: dict[str, int] = {}
        for row in rows:
            region, part = text(mapping(row).get("Region")), mapping(row).get("Percentage")
            if isinstance(part, bool) or not isinstance(part, int) or not 0 <= part <= 100:
                raise self._nonsense(f"the share of {quoted(region)} is no percentage")
            if region not in self._sites:
                if part:
                    raise self._nonsense(f"{part} % goes to {quoted(region)}, which destinations "
                                         "does not name")
            elif region in found:
                raise self._nonsense(f"{quoted(region)} is listed twice")
            else:
                found[region] = part
        return {region: found.get(region, 0) for region in self._sites}

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._account.provider,
                        where=self._ref)

    def _refused(self, what: str, hint: str | None = None) -> Rejected:
        return Rejected(what, provider=self._account.provider, where=self._ref,
                        not_done=_UNCHANGED, hint=hint)
