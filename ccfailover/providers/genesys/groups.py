"""Emergency groups: one as a route, several as announcements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.shares import Shares
from ccfailover.providers import Announcement, Route, RouteState
from ccfailover.providers.curl import Changed
from ccfailover.providers.documents import quoted
from ccfailover.providers.genesys.session import Session

_UNCHANGED: Final = "the emergency group was not changed"
_READ_ONLY: Final = frozenset({
    "id", "selfUri", "dateCreated", "dateModified", "createdBy", "modifiedBy", "createdByApp",
    "modifiedByApp"})
"""What the platform writes itself."""


@dataclass(frozen=True)
class Group:
    """One group as it was read; `body` is what goes back."""

    on: bool
    version: int
    routes: int
    body: Mapping[str, object]


class EmergencyRoute(Route):
    """`sites`: site or treatment → whether it answers while the group is on."""

    def __init__(self, session: Session, ref: str, sites: Mapping[str, bool]) -> None:
        self._session, self._ref, self._sites = session, ref, sites
        self._names = {on: name for name, on in sites.items()}

    def read(self) -> RouteState:
        return self._state(_read(self._session, self._ref, self._session.end()))

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        unknown = sorted(set(to) - set(self._sites))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        if len(to) != 1:
            name = sorted(to)[0]
            raise self._refused(f"{name} {to.of(name)} % is no multiple of the step 100 %")
        (site,) = to
        end = self._session.end()
        now = _read(self._session, self._ref, end)
        if now.on is self._sites[site]:
            return
        if expected is not None and expected.version not in (None, str(now.version)):
            raise self._refused("changed since it was read")
        if not now.routes:
            raise self._refused("the group lists no call routes: to switch it changes nothing")
        try:
            _switch(self._session, self._ref, now, self._sites[site], end)
        except Changed:
            # An earlier attempt of ours that seemed to fail may be what changed it.
            if self.read().shares != to:
                raise

    def _state(self, group: Group) -> RouteState:
        return RouteState(Shares({self._names[group.on]: 100}), str(group.version))

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._session.name, where=self._ref, not_done=_UNCHANGED)


class EmergencyAnnouncement(Announcement):
    """`groups`: announcement → the id of its group. At most one of them is on."""

    def __init__(self, session: Session, ref: str, groups: Mapping[str, str]) -> None:
        self._session, self._ref, self._groups = session, ref, groups

    def said(self) -> str | None:
        end = self._session.end()
        on = [name for name, ref in self._groups.items()
              if _read(self._session, ref, end).on]
        if len(on) > 1:
            raise Rejected(f"more than one announcement is on: {', '.join(sorted(on))}",
                           provider=self._session.name, where=self._ref)
        return on[0] if on else None

    def say(self, name: str | None, *, key: str) -> None:
        """The wanted one first: while two are on, callers hear one of them."""
        if name is not None and name not in self._groups:
            raise Rejected(f"announcements does not name {quoted(name)}",
                           provider=self._session.name, where=self._ref, not_done=_UNCHANGED)
        end, written = self._session.end(), False
        for number, each in enumerate(sorted(self._groups, key=lambda each: each != name)):
            seen_to = f"{number} of {len(self._groups)} emergency groups"
            try:
                group = _read(self._session, self._groups[each], end)
                if group.on is not (each == name):
                    _switch(self._session, self._groups[each], group, each == name, end)
                    written = True
            except Unavailable as error:
                if written:
                    error.what, error.in_doubt = f"{error.what}, after {seen_to}", True
                    error.not_done = None
                raise
            except Rejected as error:
                if written:
                    error.not_done = f"only {seen_to} were set"
                raise


def _read(session: Session, ref: str, end: float) -> Group:
    place = session.place(ref)
    document = session.get(place, end)
    on, version = document.get("enabled"), document.get("version")
    flows = document.get("emergencyCallFlows")
    flows = [] if flows is None else flows
    if not isinstance(document.get("name"), str) or type(version) is not int:
        raise session.nonsense("an emergency group without name or version", place)
    if not isinstance(on, bool) or not isinstance(flows, list):
        raise session.nonsense("an emergency group of which is not said whether it is on", place)
    if document.get("state") not in (None, "active"):
        raise Rejected("the emergency group is not active any more", provider=session.name,
                       where=place)
    return Group(on, version, sum(_routes(flow) for flow in flows),
                 {name: value for name, value in document.items() if name not in _READ_ONLY})


def _switch(session: Session, ref: str, group: Group, on: bool, end: float) -> None:
    session.put(session.place(ref), {**group.body, "enabled": on}, end, not_done=_UNCHANGED)


def _routes(flow: object) -> int:
    ivrs = flow.get("ivrs") if isinstance(flow, dict) else None
    return len(ivrs) if isinstance(ivrs, list) else 0
