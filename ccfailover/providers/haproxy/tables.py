"""The two tables of the runtime API, taken apart: `show servers state` and `show stat` (HAProxy
management guide, 9.3 and 9.1). Both name their columns, and newer releases add some."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_FORCED_MAINT, _INHERITED_MAINT, _FORCED_DRAIN, _INHERITED_DRAIN = 0x01, 0x02, 0x08, 0x10
# 0x04 only remembers that the configuration said `disabled`; 0x20, a name that does not resolve,
# is of health and not of will.
BACKEND: Final = "BACKEND"
_LISTED: Final = re.compile(r"([^=,]{1,200})=([0-9]{1,3})(m?)(d?)(i?)")


@dataclass(frozen=True)
class Server:
    """One server as it is set, whatever its health. `inherited`: off because the server is off
    that it tracks, which cannot be undone here."""

    name: str
    weight: int
    maint: bool
    drain: bool
    inherited: bool

    @property
    def carries(self) -> int:
        """The weight that counts."""
        return 0 if self.off else self.weight

    @property
    def off(self) -> bool:
        return self.maint or self.drain

    def __str__(self) -> str:
        """`hq1=70`, with an `m` where it is in maint, a `d` in drain, an `i` where that is
        inherited."""
        return (f"{self.name}={self.weight}{'m' * self.maint}{'d' * self.drain}"
                f"{'i' * self.inherited}")

    @classmethod
    def listed(cls, text: str | None) -> dict[str, Server]:
        """The servers of such a list, by name; none where it is no such list."""
        found = {}
        for part in (text or "").split(","):
            match = _LISTED.fullmatch(part)
            if match is None:
                return {}
            name, weight, maint, drain, inherited = match.groups()
            found[name] = cls(name, int(weight), bool(maint), bool(drain), bool(inherited))
        return found


@dataclass(frozen=True)
class Line:
    """A line of `show stat`: counters that are missing or empty are left out."""

    counters: Mapping[str, int]
    backup: bool
    http: bool

    def sum(self, *names: str) -> int | None:
        """None unless all of them are there."""
        found = [self.counters.get(name) for name in names]
        return None if None in found else sum(count for count in found if count is not None)


def servers(table: str) -> dict[str, Server]:
    """By name. Raises ValueError for what is no `show servers state` of format 1."""
    lines = table.split("\n")
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):
        raise ValueError("no table of servers in format 1")
    columns = lines[1][2:].split(" ")
    found = {}
    for line in lines[2:]:
        row = dict(zip(columns, line.split(" "), strict=False))
        try:
            name, weight = row["srv_name"], int(row["srv_uweight"])
            admin = int(row["srv_admin_state"])
        except (KeyError, ValueError):
            raise ValueError("a line of the table of servers lacks something") from None
        if not 0 <= weight <= 256 or name in found:
            raise ValueError("a server's weight is out of bounds, or it is listed twice")
        found[name] = Server(
            name, weight, maint=bool(admin & (_FORCED_MAINT | _INHERITED_MAINT)),
            drain=bool(admin & (_FORCED_DRAIN | _INHERITED_DRAIN)),
            inherited=bool(admin & (_INHERITED_MAINT | _INHERITED_DRAIN)))
    return found


def stat(table: str) -> dict[str, Line]:
    """By server, and `BACKEND`. Raises ValueError for what is no `show stat`."""
    if not table.startswith("# pxname,svname,"):
        raise ValueError("no table of counters")
    try:
        rows = list(csv.DictReader(table[2:].split("\n"), strict=True))
    except csv.Error:
        raise ValueError("no table of counters") from None
    found = {}
    for row in rows:
        counters = {name: int(value) for name, value in row.items()
                    if isinstance(value, str) and value.isascii() and value.isdigit()
                    and len(value) <= 20}
        found[row["svname"] or ""] = Line(counters, backup=counters.get("bck", 0) > 0
                                          and row["svname"] != BACKEND,
                                          http=row.get("mode") == "http")
    return found
