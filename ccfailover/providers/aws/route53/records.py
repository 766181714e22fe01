"""The records of one name and type as a route: read, written whole, followed to INSYNC."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.aws.account import Account, Place
from ccfailover.providers.documents import quoted
from ccfailover.providers.params import text

_UNCHANGED: Final = "the shares were not changed"
_MOST: Final = 300
"""Records that one request lists at most."""
_AGAIN: Final = 2.0
_LARGEST: Final = 255
Record = Mapping[str, object]


@dataclass(frozen=True)
class Records:
    """What a lever names. `destinations`: site or treatment → set identifier."""

    name: str
    type: str
    destinations: Mapping[str, str]
    failover: bool
    ttl: int | None


class Zone:
    """One hosted zone; it remembers which changes are not yet at all name servers."""

    def __init__(self, account: Account, zone: str, region: str) -> None:
        self.account = account
        self.provider = account.provider
        self._zone, self._place = zone, Place("route53", region)
        self._pending: dict[tuple[str, str], str] = {}
        self._lock = Lock()

    def listed(self, name: str, kind: str) -> list[Record]:
        """All records of this name and type."""
        found: list[Record] = []
        mark: dict[str, object] = {"StartRecordName": name, "StartRecordType": kind}
        for _ in range(4):  # no name has more records than three pages hold
            reply = self.account.call(
                self._place, "list_resource_record_sets",
                {"HostedZoneId": self._zone, "MaxItems": str(_MOST), **mark},
                where=name, writes=False)
            rows = reply.get("ResourceRecordSets")
            if not isinstance(rows, list):
                raise Rejected("the reply makes no sense: no list of records",
                               provider=self.provider, where=name)
            ours = [row for row in rows if isinstance(row, dict)
                    and plain(text(row.get("Name"))) == plain(name) and row.get("Type") == kind]
            found += ours
            if (reply.get("IsTruncated") is not True or len(ours) < len(rows)
                    or plain(text(reply.get("NextRecordName"))) != plain(name)):
                return found
            mark = {"StartRecordName": reply.get("NextRecordName"),
                    "StartRecordType": reply.get("NextRecordType"),
                    "StartRecordIdentifier": reply.get("NextRecordIdentifier")}
            mark = {key: value for key, value in mark.items() if isinstance(value, str)}
        raise Rejected("the reply makes no sense: the list of records does not end",
                       provider=self.provider, where=name)

    def change(self, name: str, kind: str, changes: Sequence[tuple[str, Record]],
               comment: str) -> None:
        """All of them, or none."""
        reply = self.account.call(
            self._place, "change_resource_record_sets",
            {"HostedZoneId": self._zone, "ChangeBatch": {
                "Comment": comment[:256],
                "Changes": [{"Action": action, "ResourceRecordSet": record}
                            for action, record in changes]}},
            where=name, writes=True)
        info = reply.get("ChangeInfo")
        change = text(info.get("Id")) if isinstance(info, dict) else ""
        if not change:
            raise Unavailable("the reply makes no sense: no change id", in_doubt=True,
                              provider=self.provider, where=name)
        with self._lock:
            self._pending[name, kind] = change.rpartition("/")[2]

    def settled(self, name: str, kind: str) -> None:
        """Raises Unavailable while a change of ours is not at all name servers."""
        with self._lock:
            change = self._pending.get((name, kind))
        if change is None:
            return
        reply = self.account.call(self._place, "get_change", {"Id": change}, where=name,
                                  writes=False)
        info = reply.get("ChangeInfo")
        status = info.get("Status") if isinstance(info, dict) else None
        if status == "PENDING":
            raise Unavailable("the change is pending: not all name servers have it yet",
                              in_doubt=False, provider=self.provider, where=name,
                              retry_after=_AGAIN)
        if status != "INSYNC":
            raise Rejected("the reply makes no sense: a change neither pending nor in sync",
                           provider=self.provider, where=name)
        with self._lock:
            if self._pending.get((name, kind)) == change:
                del self._pending[name, kind]


class RecordRoute(Route):
    def __init__(self, zone: Zone, records: Records) -> None:
        self._zone, self._records = zone, records
        self._sites = {mark: site for site, mark in records.destinations.items()}

    def read(self) -> RouteState:
        """Raises Unavailable while our own last change is on its way to the name servers."""
        state = self._state(self._ours())
        self._zone.settled(self._records.name, self._records.type)
        return state

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self._check(to)
        with self._zone.account.at_once():
            self._write(to, expected, key, {})

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        then = _parsed(before.raw)
        if set(then) != set(self._records.destinations):  # the policy names others by now
            then = {}
            self._check(before.shares)
        with self._zone.account.at_once():
            self._write(before.shares, expected, key, then)

    def _write(self, to: Shares, expected: RouteState | None, key: str,
               then: Mapping[str, Record]) -> None:
        """`then`: what each site's record had once, to be brought back."""
        found = self._ours()
        if expected is not None and self._state(found).shares not in (expected.shares, to):
            # No compare-and-set for weights: a read just before narrows the gap, it cannot close it
            raise self._refused("changed since it was read")
        aim = {site: {**self._kept(record), self._word: self._part(to, site),
                      **{name: value for name, value in then.get(site, {}).items()
                         if name in record}} for site, record in found.items()}
        changes = self._swapped(found, aim) if self._records.failover else \
            [("UPSERT", record) for record in aim.values()]
        if changes:
            self._zone.change(self._records.name, self._records.type, changes,
                              f"ccfailover {key}")

    # --- reading -------------------------------------------------------------------------------

    def _ours(self) -> dict[str, Record]:
        """Every named record, by site. Raises Rejected when one is missing, or one that is not
        named would be answered, too."""
        names, found = self._records, {}
        for record in self._zone.listed(names.name, names.type):
            mark = text(record.get("SetIdentifier"))
            site = self._sites.get(mark)
            if self._word not in record:
                word = "failover" if names.failover else "weighted"
                raise self._nonsense(f"record {quoted(mark)} is not a {word} one")
            if site is not None:
                found[site] = record
            elif names.failover or record.get("Weight") != 0:
                raise self._nonsense(f"record {quoted(mark)} takes part, and destinations does "
                                     "not name it")
        missing = sorted(set(names.destinations) - set(found))
        if missing:
            raise Rejected(
                f"there is no {names.type} record for {', '.join(missing)}",
                provider=self._zone.provider, where=names.name, not_done=_UNCHANGED,
                hint="make one for every site and treatment, with the set identifiers that "
                     "destinations gives")
        return found

    def _state(self, found: Mapping[str, Record]) -> RouteState:
        if self._records.failover:
            primary = [site for site, record in found.items()
                       if record.get("Failover") == "PRIMARY"]
            if len(primary) != 1:
                raise self._nonsense(f"{len(primary)} records are the primary one")
            return RouteState(Shares({primary[0]: 100}), raw=self._raw(found))
        weights: dict[str, int] = {}
        for site, record in found.items():
            weight = record.get("Weight")
            if isinstance(weight, bool) or not isinstance(weight, int) \
                    or not 0 <= weight <= _LARGEST:
                raise self._nonsense(f"the weight of {site} is outside 0..{_LARGEST}")
            weights[site] = weight
        if not any(weights.values()):
            weights = dict.fromkeys(weights, 1)  # Route 53 answers with each of them alike
        total = sum(weights.values())
        if any(100 * weight % total for weight in weights.values()):
            raise self._nonsense(
                f"the weights {', '.join(f'{s} {w}' for s, w in sorted(weights.items()))} "
                "are no whole percentages")
        return RouteState(Shares({site: 100 * weight // total for site, weight in weights.items()}),
                          raw=self._raw(found))

    def _raw(self, found: Mapping[str, Record]) -> str:
        """What a shift writes of each record."""
        return json.dumps({site: {name: record[name] for name in (self._word, "TTL")
                                  if name in record} for site, record in sorted(found.items())})

    # --- writing -------------------------------------------------------------------------------

    def _check(self, to: Shares) -> None:
        unknown = sorted(set(to) - set(self._records.destinations))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        if self._records.failover and len(to) != 1:
            raise self._refused(
                f"{next(iter(to))} {to.of(next(iter(to)))} % is no multiple of the step 100 %: "
                "failover records send all to one")
        if self._records.failover and len(self._records.destinations) != 2:
            raise self._refused("failover records are two: one primary, one secondary")

    @property
    def _word(self) -> str:
        return "Failover" if self._records.failover else "Weight"

    def _part(self, to: Shares, site: str) -> object:
        if self._records.failover:
            return "PRIMARY" if to.of(site) else "SECONDARY"
        return to.of(site)

    def _swapped(self, found: Mapping[str, Record],
                 aim: Mapping[str, Record]) -> list[tuple[str, Record]]:
        """Both go before both come: there are never two primary ones. A record that has changed
        since is not the one to delete, so Route 53 refuses: compare-and-set."""
        if all(record == aim[site] for site, record in found.items()):
            return []
        return [*(("DELETE", dict(record)) for record in found.values()),
                *(("CREATE", record) for record in aim.values())]

    def _kept(self, record: Record) -> dict[str, object]:
        kept = dict(record)
        if self._records.ttl is not None and "TTL" in kept:  # an alias has none of its own
            kept["TTL"] = self._records.ttl
        return kept

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._zone.provider,
                        where=self._records.name)

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._zone.provider, where=self._records.name,
                        not_done=_UNCHANGED)


def _parsed(raw: str | None) -> dict[str, Record]:
    found = json.loads(raw) if raw else {}
    return found if isinstance(found, dict) else {}


def plain(name: str) -> str:
    r"""A name as Route 53 lists it: lower case, `*` as `\052`, without the dot at its end."""
    return name.lower().rstrip(".").replace("*", r"\052")
