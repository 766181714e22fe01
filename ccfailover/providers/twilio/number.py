"""The voice URL of one phone number: all of its calls, or none."""

from __future__ import annotations

from collections.abc import Mapping

from ccfailover.errors import Rejected
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.twilio.session import Session

_UNCHANGED = "the number was not changed"
_INSTEAD = ("trunk_sid", "voice_application_sid")


class NumberRoute(Route):
    def __init__(self, session: Session, ref: str, destinations: Mapping[str, str]) -> None:
        self._session, self._ref, self._destinations = session, ref, destinations
        self._sites = {url: name for name, url in destinations.items()}

    def read(self) -> RouteState:
        return self._read(self._session.end())

    def _read(self, end: float) -> RouteState:
        place = self._session.number(self._ref)
        number = self._session.get(place, end)
        for name in _INSTEAD:
            if number.get(name):
                raise Rejected(f"the number has a {name}, so that Twilio does not use its voice "
                               "URL", provider=self._session.name, where=place,
                               hint="take the number out of there, or use that as the lever")
        url = number.get("voice_url")
        if not isinstance(url, str):
            raise self._session.nonsense("no voice URL", place)
        site = self._sites.get(url)
        if site is None:
            raise self._session.nonsense(
                "the number calls a voice URL that destinations does not name", place)
        return RouteState(Shares({site: 100}))

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        unknown = sorted(set(to) - set(self._destinations))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        if len(to) != 1:
            name = sorted(to)[0]
            raise self._refused(f"{name} {to.of(name)} % is no multiple of the step 100 %")
        end = self._session.end()
        now = self._read(end)  # also refuses a number whose voice URL is not used
        if expected is not None and now.shares not in (expected.shares, to):
            raise self._refused("changed since it was read")
        (site,) = to
        self._session.post(self._session.number(self._ref),
                           {"VoiceUrl": self._destinations[site]}, end,
                           not_done=_UNCHANGED)

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._session.name, where=self._ref, not_done=_UNCHANGED)
