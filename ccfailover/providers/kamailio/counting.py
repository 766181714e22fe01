"""What the edge counts: calls answered (a hash table) and calls in progress (dialog profiles).

Both go by `ref:site`, as the shipped configuration keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ccfailover.errors import Rejected
from ccfailover.providers.documents import at
from ccfailover.providers.kamailio.rpc import Rpc

_OF_ALL: Final = ("lost", "rerouted")
_MOST: Final = 10**15


class Counting:
    """`table`: the hash table with the counters; `profile`: the dialog profile; each may be None.

    `sites`: site or treatment → the name by which the edge counts it."""

    def __init__(self, rpc: Rpc, ref: str, sites: Mapping[str, str], *, table: str | None,
                 profile: str | None) -> None:
        self._rpc, self._ref, self._sites = rpc, ref, sites
        self._table, self._profile = table, profile

    def measure(self) -> Mapping[str, float]:
        """`answered.SITE`, `lost` (no site was alive) and `rerouted` (tried a second site) since
        the edge started; what was never counted is left out."""
        if self._table is None:
            return {}
        wanted = {f"{self._ref}:{label}": f"answered.{site}"
                  for site, label in self._sites.items()}
        wanted |= {f"{self._ref}:{name}": name for name in _OF_ALL}
        dump = self._rpc.call("htable.dump", self._table, end=self._rpc.end())
        return {wanted[name]: float(value) for name, value in self._entries(dump)
                if name in wanted}

    def live(self) -> Mapping[str, int] | None:
        if self._profile is None:
            return None
        found: dict[str, int] = {}
        end = self._rpc.end()
        for site, label in self._sites.items():
            size = self._rpc.call("dlg.profile_get_size", self._profile, f"{self._ref}:{label}",
                                  end=end)
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < _MOST:
                raise self._nonsense("no number of calls", "dlg.profile_get_size")
            found[site] = size
        return found

    def _entries(self, dump: object) -> Iterator[tuple[str, int]]:
        for bucket in self._list(dump):
            for entry in self._list(at(bucket, "/slot")):
                name, value = at(entry, "/name"), at(entry, "/value")
                if isinstance(name, str) and isinstance(value, int) \
                        and not isinstance(value, bool) and 0 <= value < _MOST:
                    yield name, value

    def _list(self, value: object) -> Sequence[object]:
        if not isinstance(value, list):
            raise self._nonsense("no list of counters", "htable.dump")
        return value

    def _nonsense(self, what: str, where: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._rpc.name, where=where)
