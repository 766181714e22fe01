"""Shares in one value of a hash table: `10=70;20=30;30=0;v=4be1c2a0`, set numbers and percent.

One value holds all shares of a route, so that one write changes all sites at once. The edge draws
a set for each new call. `v` names the write that made the value: the same shares written by
another step are another value, and so a change away and back shows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from ccfailover.errors import Rejected
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.documents import at, quoted
from ccfailover.providers.kamailio.counting import Counting
from ccfailover.providers.kamailio.rpc import Rpc, words

_UNCHANGED: Final = "the shares were not changed"
_LONGEST: Final = 1000
_PART: Final = re.compile(r"([0-9]{1,9})=([0-9]{1,3})")
_NONCE: Final = re.compile(r"v=([A-Za-z0-9_.-]{0,64})")


class SplitRoute(Route):
    """`destinations`: site or treatment → number of its dispatcher set."""

    def __init__(self, rpc: Rpc, lever: LeverSpec, table: str, destinations: Mapping[str, int],
                 counting: Counting) -> None:
        self._rpc, self._ref, self._table = rpc, lever.ref, table
        self._sets = dict(destinations)
        self._names = {number: name for name, number in destinations.items()}
        self._counting = counting

    def read(self) -> RouteState:
        return self._read(self._rpc.end())

    def _read(self, end: float) -> RouteState:
        since = started(self._rpc, end)
        value = self._value(end)
        seen = hashlib.sha256(value.encode()).hexdigest()[:12]
        return RouteState(self._shares(value), f"{since}:{seen}", boot=since, raw=_unmarked(value))

    def measure(self) -> Mapping[str, float]:
        return self._counting.measure()

    def live(self) -> Mapping[str, int] | None:
        return self._counting.live()

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        unknown = sorted(set(to) - set(self._sets))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        parts = [f"{number}={to.of(name)}" for name, number in self._sets.items()]
        self._set(RouteState(to), ";".join(parts), expected, key)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        if before.raw is None or self._shares(before.raw) != before.shares:
            self.shift(before.shares, expected=expected, key=key)
        else:
            self._set(before, before.raw, expected, key)

    def _set(self, to: RouteState, parts: str, expected: RouteState | None, key: str) -> None:
        end = self._rpc.end()
        if expected is not None:
            # The table has no compare-and-set: this narrows the gap, it cannot close it.
            now = self._read(end)
            if now.shares == to.shares and to.raw in (None, now.raw):
                return
            if now.shares != expected.shares or expected.version not in (None, now.version):
                raise self._refused("changed since it was read")
        else:
            self._value(end)  # a key that is not configured would be made, and read back
        mark = hashlib.sha256(key.encode()).hexdigest()[:8]
        self._rpc.call("htable.sets", self._table, self._ref, f"{parts};v={mark}",
                       end=end, writes=True, not_done=_UNCHANGED)

    def _value(self, end: float) -> str:
        found = self._rpc.call("htable.get", self._table, self._ref, end=end,
                               not_done=_UNCHANGED)
        value = at(found, "/item/value")
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise self._nonsense("no text of shares")
        return value

    def _shares(self, value: str) -> Shares:
        parts: dict[str, int] = {}
        for entry in filter(None, value.split(";")):
            if _NONCE.fullmatch(entry):
                continue
            match = _PART.fullmatch(entry)
            if match is None:
                raise self._nonsense(f"{quoted(entry, 30)} is no set=percent")
            number, percent = int(match[1]), int(match[2])
            name = self._names.get(number)
            if name is None and percent:
                raise self._nonsense(
                    f"{percent} % goes to set {number}, which destinations does not name")
            if name is not None:
                if name in parts:
                    raise self._nonsense(f"set {number} is listed twice")
                parts[name] = percent
        try:
            return Shares(parts)
        except ValueError as error:
            raise self._nonsense(str(error)) from None

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the value makes no sense: {what}", provider=self._rpc.name,
                        where=f"{self._table} {quoted(self._ref)}")

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._rpc.name, where=quoted(self._ref),
                        not_done=_UNCHANGED)


def _unmarked(value: str) -> str:
    """Without the name of the write that made it, which the next one replaces."""
    return ";".join(part for part in value.split(";") if part and not _NONCE.fullmatch(part))


def started(rpc: Rpc, end: float) -> str:
    """Since when the edge runs, in its own words, without a colon: see `RouteState.version`."""
    result = rpc.call("core.uptime", end=end, not_done=_UNCHANGED)
    try:
        since, = words(result, "/up_since")
    except ValueError:
        raise Rejected("the reply makes no sense: no up_since", provider=rpc.name,
                       where="core.uptime") from None
    return re.sub(r"[^A-Za-z0-9]+", "-", since)[:40]
