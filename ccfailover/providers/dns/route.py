"""The records of one name and type as a route."""

from __future__ import annotations

import json

from ccfailover.errors import Rejected
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.dns.link import Change, Link, Seen
from ccfailover.providers.dns.records import Records, RecordSet

_UNCHANGED = "the shares were not changed"
_CHANGED = "changed since it was read"


class DnsRoute(Route):
    """Compare-and-set by prerequisites (RFC 2136, 2.4.2): the server changes the records only
    while they are exactly those that were read, and with `by_serial` the zone's SOA, too."""

    def __init__(self, link: Link, name: str, records: RecordSet, *, ttl: int,
                 by_serial: bool) -> None:
        self._link = link
        self._name = name
        self._records = records
        self._ttl = ttl
        self._by_serial = by_serial

    def read(self) -> RouteState:
        return self._state(self._seen(self._link.until()))

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        refusal = self._records.refusal(to)
        if refusal is not None:
            raise self._refused(refusal)
        until = self._link.until()
        seen = self._compared(to, expected, until)
        try:
            wanted = self._records.changed(seen.records, to)
        except ValueError as error:
            raise self._refused(str(error)) from None
        if wanted != seen.records:
            self._write(wanted, self._ttl, seen, expected, until)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        try:
            raw = json.loads(before.raw or "{}")
            ttl, then = int(raw["ttl"]), frozenset(map(str, raw["records"]))
            until = self._link.until()
            seen = self._compared(before.shares, expected, until)
            wanted = (seen.records - self._records.ours(seen.records)) | then
            same = self._records.ours(then) == then and self._records.shares(wanted)
        except (ValueError, LookupError, TypeError):
            same = False
        if same != before.shares:  # the policy names others by now, or the zone has others
            self.shift(before.shares, expected=expected, key=key)
        elif (wanted, ttl) != (seen.records, seen.ttl):
            self._write(wanted, ttl, seen, expected, until)

    def _compared(self, to: Shares, expected: RouteState | None, until: float) -> Seen:
        """What is there now. Raises Rejected where somebody else changed it."""
        seen = self._seen(until)
        now = self._state(seen)
        if expected is not None and now.shares != to and (
                now.shares != expected.shares or expected.version not in (None, now.version)):
            raise self._refused(_CHANGED)
        return seen

    def _write(self, wanted: Records, ttl: int, seen: Seen, expected: RouteState | None,
               until: float) -> None:
        change = Change(self._name, self._records.rtype, wanted, ttl, by_soa=(
            self._by_serial and expected is not None and expected.version is not None))
        if not self._link.update(change, seen, until):
            raise self._refused(_CHANGED)

    def _seen(self, until: float) -> Seen:
        return self._link.look(self._name, self._records.rtype, until)

    def _state(self, seen: Seen) -> RouteState:
        try:
            shares = self._records.shares(seen.records)
        except ValueError as error:
            raise Rejected(f"the reply makes no sense: {error}", provider=self._link.provider,
                           where=self._where()) from None
        raw = json.dumps({"ttl": seen.ttl, "records": sorted(self._records.ours(seen.records))})
        return RouteState(shares, str(seen.serial) if self._by_serial else None, raw=raw)

    def _where(self) -> str:
        return f"{self._name} {self._records.rtype}"

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._link.provider, where=self._where(),
                        not_done=_UNCHANGED)
