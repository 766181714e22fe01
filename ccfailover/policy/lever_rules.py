"""What levers must be able to do: routes, treatments, several for one queue, one for several."""

from __future__ import annotations

from ccfailover.errors import Problem
from ccfailover.model.capabilities import Capabilities, combined
from ccfailover.model.policy import LeverSpec, Policy, Queue, Several
from ccfailover.model.shares import TREATMENTS
from ccfailover.policy.kinds import KindSchemas
from ccfailover.policy.places import Path
from ccfailover.policy.read import Document


class LeverRules:
    """`problems` grows as rules are asked."""

    def __init__(self, policy: Policy, document: Document, kinds: KindSchemas) -> None:
        self._policy = policy
        self._document = document
        self._kinds = kinds
        self.problems: list[Problem] = []

    def _say(self, path: Path, message: str, *, key: bool = False,
             severity: str = "error") -> None:
        places = self._document.places
        mark = places.key(path) if key else places.value(path)
        self.problems.append(Problem(self._document.file, *mark, message, severity=severity))

    def _warn(self, path: Path, message: str, *, key: bool = False) -> None:
        self._say(path, message, key=key, severity="warning")

    def _capabilities(self, lever: LeverSpec) -> Capabilities:
        return combined(lever, self._single)

    def _single(self, lever: LeverSpec) -> Capabilities:
        provider = self._policy.providers[lever.provider]
        return self._kinds.capabilities(provider.kind, provider.params,
                                        {"ref": lever.ref, **lever.params})

    def levers(self, queue: Queue) -> None:
        """Levers must be able to do what the policy will ask of them."""
        for use, lever in (("route", queue.route), ("intake", queue.intake)):
            if lever is not None:
                self._route(queue, use, lever)
                if lever.several is not None:
                    self._several(queue, use, lever.several)
        for use, wanted, levers in (("backlog", "backlogs", queue.backlogs),
                                    ("consumers", "gates", queue.consumers)):
            for site, lever in levers.items():
                if not getattr(self._capabilities(lever), wanted):
                    kind = self._policy.providers[lever.provider].kind
                    self._say(("queues", queue.name, use, site, "provider"),
                              f"{lever.provider} is of kind {kind}, which has no {wanted}")
                elif lever.canary and not takes_back(self._capabilities(lever)):
                    self._say(("queues", queue.name, use, site, "canary"),
                              f"what was put into {lever.provider} cannot be taken back, so that "
                              "a canary would stay there")

    def _route(self, queue: Queue, use: str, lever: LeverSpec) -> None:
        at: Path = ("queues", queue.name)
        can = self._capabilities(lever)
        who, here = lever.provider, (*at, use, "provider")
        if lever.several is not None:
            who = " and ".join(part.provider for part in lever.several.parts)
            here = (*at, use, "levers")
        for index, one in enumerate(lever.parts):
            if not self._single(one).routes:
                kind = self._policy.providers[one.provider].kind
                self._say(here if lever.several is None else (*here, index, "provider"),
                          f"{one.provider} is of kind {kind}, which has no routes: it cannot "
                          "spread arrivals")
        if not can.routes:
            return
        if can.share_step > 1:
            for to, part in queue.normal.items():
                if part % can.share_step:
                    self._say((*at, "normal", to), f"{who} moves shares in steps of "
                              f"{can.share_step} %, so that {to}: {part} cannot be set")
        asked = dict.fromkeys([queue.home, *queue.backups, *queue.normal])
        if queue.home_down in TREATMENTS:
            asked[queue.home_down] = None
        for to in asked:
            path = (*at, "home_down") if to == queue.home_down else here
            if to in queue.normal and to in TREATMENTS:
                path = (*at, "normal", to)
            if to in TREATMENTS and not can.treatments:
                self._say(path, f"{who} has no treatments, so that nothing can go to "
                          f"{to}")
            elif can.destinations is not None and to not in can.destinations:
                self._say(path, f"{who} has no way to {to} for {queue.name}'s {use}; "
                          f"it knows {', '.join(sorted(can.destinations))}")

    def _several(self, queue: Queue, use: str, several: Several) -> None:
        """What each of several levers has to know beside where shares may go."""
        at: Path = ("queues", queue.name, use)
        for index, part in enumerate(several.parts):
            can = self._single(part)
            if several.combine == "multiply":
                asked, why = [several.through], "through which calls come to the next lever"
            else:
                asked, why = list(several.rest) if index else [], "where it stands at rest"
            for to in asked:
                if can.destinations is not None and to not in can.destinations:
                    self._say((*at, "levers", index), f"{part.provider} has no way to {to}, {why}")
                elif index and several.combine == "replace" \
                        and several.rest.of(to) % can.share_step:
                    self._say((*at, "levers", index), f"{part.provider} moves shares in steps of "
                              f"{can.share_step} %, so that it cannot rest at {several.rest}")

    def shared(self) -> None:
        """Queues on one lever move together, so that they must share all of their levers."""
        users = [(queue, use, lever) for queue in self._policy.queues.values()
                 for use, lever in (("route", queue.route), ("intake", queue.intake)) if lever]
        for index, (queue, use, lever) in enumerate(users):
            mine = {part.lever for part in lever.parts}
            for other, role, theirs in users[:index]:
                common = sorted(mine & {part.lever for part in theirs.parts})
                at: Path = ("queues", queue.name, use)
                if common and lever.lever != theirs.lever:
                    self._say(at, f"{queue.name} shares {', '.join(common)} with {other.name}'s "
                              f"{role}, but not all of its levers: what moves one would move part "
                              "of the other", key=True)
                elif common and lever.several != theirs.several:
                    self._say(at, f"{queue.name} and {other.name} have the same levers and combine "
                              "them in two ways", key=True)

    def spoken(self, queue: Queue) -> None:
        """An announcement has to be of a kind that makes any."""
        lever = queue.announcement
        if lever is not None and not self._single(lever).announcements:
            kind = self._policy.providers[lever.provider].kind
            self._say(("queues", queue.name, "announcement", "provider"),
                      f"{lever.provider} is of kind {kind}, which has no announcements")

    def procedures(self) -> None:
        for name, lever in self._policy.procedures.items():
            if not self._single(lever).procedures:
                kind = self._policy.providers[lever.provider].kind
                self._say(("procedures", name, "provider"),
                          f"{lever.provider} is of kind {kind}, which has no procedures")


def takes_back(can: Capabilities) -> bool:
    """Can what was put be claimed and deleted by us again, as a canary must be?"""
    return can.claims and can.assignee is None
