"""Sets of records as shares. A record is its text (`10 50 5060 sip.hq.example.`), lower case."""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Final

from ccfailover.model.shares import Shares
from ccfailover.providers.weights import shares_of, weights_of

Records = frozenset[str]
Places = Mapping[str, tuple[str, ...]]
HEAVIEST: Final = 65_535
"""The largest weight of an SRV record."""


class RecordSet(ABC):
    """What the records of one name and type mean for the sites of a policy."""

    rtype: str
    sites: frozenset[str]
    step = 1

    @abstractmethod
    def refusal(self, to: Shares) -> str | None:
        """Why these shares cannot be expressed; None: they can."""

    @abstractmethod
    def shares(self, records: Records) -> Shares:
        """Raises ValueError where they make no sense, or send somebody to who knows whom."""

    @abstractmethod
    def changed(self, records: Records, to: Shares) -> Records:
        """The set that has these shares, with what is not ours as it was. Raises ValueError."""

    @abstractmethod
    def ours(self, records: Records) -> Records:
        """Those of places that `destinations` names."""

    def _unnamed(self, to: Shares) -> str | None:
        unknown = sorted(set(to) - self.sites)
        return f"destinations does not name {', '.join(unknown)}" if unknown else None


@dataclass(frozen=True)
class _Srv:
    priority: int
    weight: int
    place: str
    """`host.:port`"""

    def __str__(self) -> str:
        host, _, port = self.place.rpartition(":")
        return f"{self.priority} {self.weight} {port} {host}"

    @classmethod
    def of(cls, record: str) -> _Srv:
        priority, weight, port, host = record.split(" ", 3)
        return cls(int(priority), int(weight), f"{host}:{port}")


class SrvSet(RecordSet):
    """RFC 2782: callers go to the records of the lowest priority number, by weight. A site at
    0 % has no record at all: weight 0 would be "a very small chance"."""

    rtype = "SRV"

    def __init__(self, places: Places, priority: int) -> None:
        self.sites = frozenset(places)
        self._priority = priority
        self._places = {site: tuple(_place(each) for each in named)
                        for site, named in places.items()}
        self._owner = _owners(self._places)

    def refusal(self, to: Shares) -> str | None:
        return self._unnamed(to)

    def shares(self, records: Records) -> Shares:
        found = [_Srv.of(record) for record in records]
        if not found:
            raise ValueError("there are no records")
        first = min(each.priority for each in found)
        best = sorted((each for each in found if each.priority == first), key=str)
        for each in best:
            if each.place not in self._owner:
                raise ValueError(f"callers go to {each.place[:80]}, which destinations does not "
                                 "name")
        total = sum(each.weight for each in best)
        idle = sum(1 for each in best if not each.weight)
        # A client draws a whole number from 0 to the total, and goes at 0 to one whose weight is
        # 0. From 200 on that is less than half of a percent, and rounds to nothing.
        chance = Fraction(1, idle) if idle and total < 200 else Fraction(0)
        weights: dict[str, Fraction] = {}
        for each in best:
            site = self._owner[each.place]
            weights[site] = weights.get(site, Fraction(0)) + (each.weight or chance)
        return shares_of(weights)

    def changed(self, records: Records, to: Shares) -> Records:
        found = [_Srv.of(record) for record in records]
        # Below those that get callers now a zone may keep others to fall back on, ours as well.
        last = max([self._priority, *sorted(each.priority for each in found)[:1]])
        others = [each for each in found if each.place not in self._owner]
        spare = [each for each in found if each.place in self._owner and each.priority > last]
        for each in others:
            if each.priority <= self._priority:
                raise ValueError(f"{each.place[:80]} has priority {each.priority}, and "
                                 f"destinations does not name it: with ours at {self._priority} "
                                 "it would get callers")
        weights = weights_of(to, {site: len(self._places[site]) for site in to}, HEAVIEST)
        ours = [_Srv(self._priority, weight, place)
                for site in to
                for place, weight in zip(self._places[site], weights[site], strict=True)
                if weight]
        return frozenset(map(str, [*others, *spare, *ours]))

    def ours(self, records: Records) -> Records:
        return frozenset(each for each in records if _Srv.of(each).place in self._owner)


class AddressSet(RecordSet):
    """Addresses without weights: each gets an equal part of the callers."""

    _TYPES: ClassVar[Mapping[int, str]] = {4: "A", 6: "AAAA"}

    def __init__(self, places: Places, version: int) -> None:
        self.rtype = self._TYPES[version]
        self.sites = frozenset(places)
        self._places = {site: tuple(_address(each, version) for each in named)
                        for site, named in places.items()}
        self._owner = _owners(self._places)
        self.step = self.step_of(places)

    @staticmethod
    def step_of(places: Places) -> int:
        """Two sites with as many addresses each can have halves; else only the whole is sure."""
        counts = {len(named) for named in places.values()}
        return 50 if len(places) > 1 and len(counts) == 1 else 100

    def refusal(self, to: Shares) -> str | None:
        unnamed = self._unnamed(to)
        if unnamed is not None:
            return unnamed
        equal = shares_of({site: len(self._places[site]) for site in to})
        if equal == to:
            return None
        for site, percent in to.items():
            if percent % self.step:
                return (f"{site} {percent} % is no multiple of the step {self.step} %: addresses "
                        f"share alike, which gives {equal}")
        return f"addresses share alike, which gives {equal} and not {to}"

    def shares(self, records: Records) -> Shares:
        counts: dict[str, int] = {}
        for record in sorted(records):
            site = self._owner.get(record)
            if site is None:
                raise ValueError(f"callers go to {record[:80]}, which destinations does not name")
            counts[site] = counts.get(site, 0) + 1
        if not counts:
            raise ValueError("there are no records")
        return shares_of(counts)

    def changed(self, records: Records, to: Shares) -> Records:
        return frozenset(address for site in to for address in self._places[site])

    def ours(self, records: Records) -> Records:
        return frozenset(records & set(self._owner))


def _owners(places: Places) -> dict[str, str]:
    owners: dict[str, str] = {}
    for site, named in places.items():
        for each in named:
            if each in owners:
                raise ValueError(f"destinations names {each} twice")
            owners[each] = site
    return owners


def _place(named: str) -> str:
    host, _, port = named.lower().rpartition(":")
    if not host or not port.isdigit() or int(port) > HEAVIEST or ":" in host:
        raise ValueError(f"an SRV record needs host:port, and not {named[:80]!r}")
    whole = host.rstrip(".") + "."
    if too_long(whole):
        raise ValueError(f"{host[:80]!r} is too long for a name")
    return f"{whole}:{int(port)}"


def too_long(name: str) -> bool:
    """Of a whole name, with its last dot: 255 octets at most, and 63 a label (RFC 1035, 2.3.4)."""
    return len(name) > 254 or any(len(label) > 63 for label in name.split("."))


def _address(named: str, version: int) -> str:
    try:
        found = ipaddress.ip_address(named)
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise ValueError(f"{named[:80]!r} is no IPv{version} address")
    return str(found)
