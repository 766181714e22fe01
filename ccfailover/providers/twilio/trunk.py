"""The origination URLs of one trunk: shares as weights of the enabled ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.documents import quoted
from ccfailover.providers.twilio.session import Session
from ccfailover.providers.weights import shares_of

_UNCHANGED = "the shares were not changed"
_MOST = 65_535
_RAW = re.compile(r"([0-9A-Za-z]{1,34})=(on|off)\.([0-9]{1,5})\.([0-9]{1,5})")


@dataclass(frozen=True)
class Target:
    """One origination URL as it is, or as it is to be."""

    on: bool
    priority: int
    weight: int

    @property
    def carries(self) -> str:
        """Of one that is off, nothing else counts."""
        return f"{self.priority}.{self.weight}" if self.on else "off"

    def __str__(self) -> str:
        return f"{'on' if self.on else 'off'}.{self.priority}.{self.weight}"


class TrunkRoute(Route):
    def __init__(self, session: Session, ref: str, destinations: Mapping[str, str],
                 priority: int) -> None:
        self._session, self._ref, self._priority = session, ref, priority
        self._destinations = destinations
        self._sites = {sid: name for name, sid in destinations.items()}

    def read(self) -> RouteState:
        urls = self._urls(self._session.end())
        on = {sid: url for sid, url in urls.items() if url.on}
        if not on:
            raise self._nonsense("no origination URL is enabled")
        first = min(url.priority for url in on.values())
        weights: dict[str, int] = {}
        for sid, url in on.items():
            if url.priority == first:
                if sid not in self._sites:
                    raise self._nonsense(
                        f"a share goes to {sid}, which destinations does not name")
                weights[self._sites[sid]] = url.weight
        return RouteState(shares_of(weights), self._version(urls), raw=self._raw(urls))

    def between(self, state: RouteState, aims: Sequence[RouteState]) -> bool:
        """Each URL is written by itself: one may stand at one aim, and the next at another."""
        now, known = _parsed(state.raw), [(aim, _parsed(aim.raw)) for aim in aims]
        if set(now) != set(self._sites):
            return super().between(state, aims)
        return all(url.carries in {(parsed.get(sid) or self._wanted(sid, aim.shares, url)).carries
                                   for aim, parsed in known} for sid, url in now.items())

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        unknown = sorted(set(to) - set(self._destinations))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        end = self._session.end()
        urls = self._urls(end)
        wanted = {sid: self._wanted(sid, to, urls[sid]) for sid in self._sites}
        self._set(urls, wanted, expected, end)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        wanted = _parsed(before.raw)
        if set(wanted) != set(self._sites):  # the policy names others by now
            self.shift(before.shares, expected=expected, key=key)
            return
        end = self._session.end()
        self._set(self._urls(end), wanted, expected, end)

    def _wanted(self, sid: str, to: Shares, now: Target) -> Target:
        share = to.of(self._sites[sid])
        return Target(True, self._priority, share) if share else replace(now, on=False)

    def _set(self, urls: Mapping[str, Target], wanted: Mapping[str, Target],
             expected: RouteState | None, end: float) -> None:
        first = min((url.priority for url in wanted.values() if url.on), default=self._priority)
        for sid, url in urls.items():
            if sid not in wanted and url.on and url.priority <= first:
                raise self._refused(f"{sid} is enabled with priority {url.priority}, and "
                                    "destinations does not name it: it would take calls")
        if expected is not None:
            self._refuse_changed(urls, wanted, expected)
        # Receivers first: at no time is everything off.
        todo = sorted((sid for sid in wanted if urls[sid] != wanted[sid]),
                      key=lambda sid: (not wanted[sid].on, urls[sid].on, sid))
        for number, sid in enumerate(todo):
            self._write(sid, wanted[sid], urls[sid], number, len(todo), end)

    def _write(self, sid: str, target: Target, now: Target, number: int, of: int,
               end: float) -> None:
        form: dict[str, object] = {"Enabled": "true" if target.on else "false"}
        if target.on or (target.priority, target.weight) != (now.priority, now.weight):
            form |= {"Priority": target.priority, "Weight": target.weight}
        try:
            self._session.post(f"{self._session.trunk(self._ref)}/{sid}", form, end,
                               not_done=_UNCHANGED)
        except Unavailable as error:
            if not number:
                raise
            raise Unavailable(f"{error.what}, after {number} of {of} origination URLs were "
                              "written", in_doubt=True, provider=error.provider,
                              where=error.where, retry_after=error.retry_after,
                              hint="the same shift again writes the rest") from None
        except Rejected as error:
            if not number:
                raise
            raise Rejected(error.what, provider=error.provider, where=error.where,
                           not_done=f"only {number} of {of} origination URLs were written",
                           hint=error.hint) from None

    def _refuse_changed(self, urls: Mapping[str, Target], wanted: Mapping[str, Target],
                        expected: RouteState) -> None:
        """Each URL is as it was read, or as an earlier attempt of ours left it; else somebody
        else was at it."""
        before = dict(part.split("=", 1) for part in (expected.version or "").split(",")
                      if "=" in part)
        changed = [sid for sid in wanted if urls[sid].carries not in (before.get(sid),
                                                                     wanted[sid].carries)]
        if changed:
            raise self._refused("changed since it was read", hint="read it again: somebody else "
                                                                  "may be changing it")

    def _urls(self, end: float) -> dict[str, Target]:
        """Every origination URL of the trunk, by its SID; those of the policy are among them."""
        place = self._session.trunk(self._ref)
        found = {}
        for entry in self._session.all(place, "origination_urls", end):
            read = _target(entry)
            if read is None:
                raise self._nonsense("an origination URL without SID, weight, priority or enabled")
            if read[0] in found:  # pages that overlap: which of the two is so?
                raise self._nonsense(f"origination URL {read[0]} is there twice")
            found[read[0]] = read[1]
        gone = sorted(set(self._sites) - set(found))
        if gone:
            raise Rejected(f"the trunk has no origination URL {quoted(gone[0])}, which "
                           "destinations names", provider=self._session.name, where=place)
        return found

    def _version(self, urls: Mapping[str, Target]) -> str:
        return ",".join(f"{sid}={urls[sid].carries}" for sid in sorted(self._sites))

    def _raw(self, urls: Mapping[str, Target]) -> str:
        return ",".join(f"{sid}={urls[sid]}" for sid in sorted(self._sites))

    def _nonsense(self, what: str) -> Rejected:
        return self._session.nonsense(what, self._session.trunk(self._ref))

    def _refused(self, what: str, hint: str | None = None) -> Rejected:
        return Rejected(what, provider=self._session.name, where=self._ref, not_done=_UNCHANGED,
                        hint=hint)


def _target(entry: object) -> tuple[str, Target] | None:
    if not isinstance(entry, dict):
        return None
    sid, on = entry.get("sid"), entry.get("enabled")
    priority, weight = entry.get("priority"), entry.get("weight")
    if not isinstance(sid, str) or not sid.isalnum() or not isinstance(on, bool):
        return None
    if type(priority) is not int or type(weight) is not int:
        return None
    if not (0 <= priority <= _MOST and 1 <= weight <= _MOST):
        return None
    return sid[:34], Target(on, priority, weight)


def _parsed(raw: str | None) -> dict[str, Target]:
    """The URLs of `RouteState.raw`; none where that is not ours."""
    found = {}
    for part in (raw or "").split(","):
        match = _RAW.fullmatch(part)
        if match is None:
            return {}
        found[match[1]] = Target(match[2] == "on", int(match[3]), int(match[4]))
    return found
