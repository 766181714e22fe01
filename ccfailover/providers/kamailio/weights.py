"""Shares as relative weights of one dispatcher set, in the list file, which is then reloaded.

The edge goes by `rweight` (algorithm 11), exactly so within each hundred calls. A weight of 0 does
not exist there, so that whoever gets nothing is disabled. A reload forgets who is down: calls would
go to a dead site until two probes failed again. So each destination is first written as the edge
has it now, that is loaded, and then the file is written without these marks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.documents import MISSING, at, quoted
from ccfailover.providers.kamailio.counting import Counting
from ccfailover.providers.kamailio.listfile import (
    DISABLED,
    INACTIVE,
    PROBING,
    TRYING,
    UNCHANGED,
    Entry,
    Line,
    ListFile,
    Listing,
)
from ccfailover.providers.kamailio.rpc import Rpc
from ccfailover.providers.kamailio.split import started

_APART: Final = ("the list file has other shares than the edge, which will go by the file once it "
                "starts anew: shift again, or reload it")
_STATES: Final = {"A": 0, "I": INACTIVE, "T": TRYING, "D": DISABLED}


@dataclass(frozen=True)
class Destination:
    """One address as the edge has it: `flags` of its state now, `weight` its rweight."""

    set_id: int
    uri: str
    flags: int
    weight: int

    @property
    def carries(self) -> int:
        return 0 if self.flags & DISABLED else self.weight


class WeightsRoute(Route):
    """`destinations`: site or treatment → URI; the lever's ref is the set's number."""

    def __init__(self, rpc: Rpc, lever: LeverSpec, file: ListFile,
                 destinations: Mapping[str, str], counting: Counting, *, seconds: float) -> None:
        self._rpc, self._ref, self._file, self._seconds = rpc, lever.ref, file, seconds
        self._uris = dict(destinations)
        self._names = {uri: name for name, uri in destinations.items()}
        self._counting = counting

    def read(self) -> RouteState:
        end = self._rpc.end()
        since = started(self._rpc, end)
        return self._state(self._edge(end), self._file.read(), since)

    def measure(self) -> Mapping[str, float]:
        return self._counting.measure()

    def live(self) -> Mapping[str, int] | None:
        return self._counting.live()

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        unknown = sorted(set(to) - set(self._uris))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        self._set(RouteState(to), (), expected)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        lines = self._file.lines(before.raw) if before.raw else ()
        named = {line.entry.uri for line in lines if line.entry is not None}
        if named != set(self._uris.values()):  # the policy names others by now
            lines = ()
        self._set(before, lines, expected)

    def _set(self, wanted: RouteState, lines: Sequence[Line],
             expected: RouteState | None) -> None:
        to, end = wanted.shares, self._rpc.end()
        with self._file.locked(self._seconds):
            edge, listing = self._edge(end), self._file.read()
            self._check(edge, listing)
            loaded, clean = self._composed(to, lines, edge, listing)
            if expected is not None:
                # Nothing is compared by the edge itself: this narrows the gap, no more.
                now = self._state(edge, listing, started(self._rpc, end))
                ready = listing.content == clean  # left by an earlier attempt of ours
                if now.shares == to and ready and now.raw is not None:
                    return
                known = expected.version in (None, now.version) or ready
                if now.shares != to and (now.shares != expected.shares or not known):
                    raise self._refused("changed since it was read")
            self._file.write(loaded)
            try:
                self._rpc.call("dispatcher.reload", end=end, writes=True, not_done=UNCHANGED)
            except ProviderError as error:
                # The edge goes by the file at its next start: by the new one only if it may have
                # loaded it, and never by the marks.
                if isinstance(error, Unavailable) and error.in_doubt:
                    self._leave(clean, "the edge may have the new shares")
                else:
                    self._leave(listing.content, "the edge did not load the list")
                raise
            self._leave(clean, "the edge has the new shares")

    def _leave(self, content: bytes, but: str) -> None:
        try:
            self._file.write(content)
        except ProviderError as error:
            raise Unavailable(f"{but}, and the file could not be put right: {error.what}",
                              in_doubt=True, provider=self._rpc.name, where=error.where,
                              hint="read the shares back, then look into the file") from None

    def _composed(self, to: Shares, lines: Sequence[Line], edge: Sequence[Destination],
                  listing: Listing) -> tuple[bytes, bytes]:
        """The list to load, and the list to leave there. `lines`: ours as they once stood there."""
        then = {line.entry.uri: line.entry for line in lines if line.entry is not None}
        now = {(each.set_id, each.uri): each.flags for each in edge}
        number = self._number()

        def clean(entry: Entry) -> Entry:
            name = self._names.get(entry.uri) if entry.set_id == number else None
            if name is None:
                return entry
            if entry.uri in then:
                return then[entry.uri]
            flags = entry.flags & PROBING
            if to.of(name):
                return replace(entry, flags=flags, attrs=entry.weighing(to.of(name)))
            return replace(entry, flags=flags | DISABLED)

        def loaded(entry: Entry) -> Entry:
            fresh, state = clean(entry), now[entry.set_id, entry.uri]
            if entry.set_id == number and entry.uri in self._names:
                state = state & ~DISABLED | fresh.flags & DISABLED
            return replace(fresh, flags=state)

        return listing.rewritten(loaded, lines), listing.rewritten(clean, lines)

    def _check(self, edge: Sequence[Destination], listing: Listing) -> None:
        """A reload loads the whole file: what else is in it must be what the edge has."""
        entries = list(listing.entries())
        there = sorted((entry.set_id, entry.uri) for entry in entries)
        if len(set(there)) != len(there):
            raise self._refused("the list file has one destination twice in a set")
        if there != sorted((each.set_id, each.uri) for each in edge):
            raise self._refused(
                "the list file and the edge have other destinations: a reload would change more "
                "than the shares", hint="load the file (dispatcher.reload) or undo what was "
                                        "changed in it")
        absent = sorted(name for name, uri in self._uris.items()
                        if (self._number(), uri) not in set(there))
        if absent:
            raise self._refused(f"set {self._ref} has no address of {', '.join(absent)}")

    def _state(self, edge: Sequence[Destination], listing: Listing, since: str) -> RouteState:
        ours = [each for each in edge if each.set_id == self._number()]
        if not ours:
            raise self._nonsense("the edge has no such set")
        weights: dict[str, int] = {}
        for each in ours:
            name = self._names.get(each.uri)
            if name is None and each.carries:
                raise self._nonsense(f"{quoted(each.uri)} takes calls, and destinations does "
                                     "not name it")
            if name is not None:
                if name in weights:
                    raise self._nonsense(f"{quoted(each.uri)} is there twice")
                weights[name] = each.carries
        total = sum(weights.values())
        if not total or any(weight * 100 % total for weight in weights.values()):
            raise self._nonsense("its relative weights are no whole percentages: "
                                 + ", ".join(f"{n} {w}" for n, w in sorted(weights.items())))
        seen = sorted((each.uri, each.carries) for each in ours)
        there = {line.raw.rstrip("\n"): line.entry for line in listing.lines if line.entry
                 and line.entry.set_id == self._number() and line.entry.uri in self._names}
        same = weights == {self._names[each.uri]: each.carries for each in there.values()}
        # No boot: the file outlives a restart, and the weights in it.
        mark = hashlib.sha256(repr((seen, listing.stamp)).encode()).hexdigest()[:12]
        return RouteState(Shares({n: w * 100 // total for n, w in weights.items()}),
                          f"{since}@{mark}", amiss=() if same else (_APART,),
                          raw="\n".join(there) if same else None)

    def _edge(self, end: float) -> list[Destination]:
        found = self._rpc.call("dispatcher.list", end=end, not_done=UNCHANGED)
        return [each for record in self._listed(found, "/RECORDS")
                for each in self._targets(record)]

    def _targets(self, record: object) -> Iterator[Destination]:
        number = at(record, "/SET/ID")
        if isinstance(number, bool) or not isinstance(number, int):
            raise self._nonsense("a set without a number")
        for target in self._listed(record, "/SET/TARGETS"):
            uri, flags = at(target, "/DEST/URI"), at(target, "/DEST/FLAGS")
            weight = at(target, "/DEST/ATTRS/RWEIGHT")
            if weight is MISSING:
                weight = 0  # a destination without attributes
            if not isinstance(uri, str) or not isinstance(flags, str) or len(flags) != 2 \
                    or flags[0] not in _STATES or flags[1] not in "PX" \
                    or isinstance(weight, bool) or not isinstance(weight, int) \
                    or not 0 <= weight <= 100:
                raise self._nonsense("a destination without URI, state or weight")
            state = _STATES[flags[0]] | (PROBING if flags[1] == "P" else 0)
            yield Destination(number, uri, state, weight)

    def _listed(self, document: object, pointer: str) -> Sequence[object]:
        found = at(document, pointer)
        if not isinstance(found, list):
            raise self._nonsense("no list of sets and destinations")
        return found

    def _number(self) -> int:
        if not (self._ref.isascii() and self._ref.isdigit() and len(self._ref) <= 9):
            raise self._refused("the ref of a lever with weights is the number of its set",
                                hint="write route: {provider: …, ref: \"1\"} in the policy")
        return int(self._ref)

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the list makes no sense: {what}", provider=self._rpc.name,
                        where=f"dispatcher.list {quoted(self._ref)}", not_done=UNCHANGED)

    def _refused(self, what: str, hint: str | None = None) -> Rejected:
        return Rejected(what, provider=self._rpc.name, where=quoted(self._ref),
                        not_done=UNCHANGED, hint=hint)
