"""Several levers of one queue that act as one: they replace each other, or calls pass them all.

Replace: the first one carries. A fall-back stands at rest, takes over where the one before it
cannot be reached, and is brought back to rest as soon as the first takes a write again. A fall-back
that is not at rest carries, whatever the first one reads.

Multiply: a call meets the first lever; what it sends to `through` comes to the next one. When all
goes to one place every lever that knows the place sends there. Otherwise one lever splits, and the
others send everything through.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Generic, TypeVar

from ccfailover.errors import ProviderError, Rejected
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, Several
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState, RouteView

V = TypeVar("V", bound=RouteView)
Able = Callable[[LeverSpec], Capabilities]


class _Combined(RouteView, Generic[V]):
    """`several` as the policy has it, `parts` the levers themselves in the same order."""

    def __init__(self, several: Several, parts: Sequence[V], able: Able) -> None:
        self._several = several
        self._parts = parts
        self._names = [part.lever for part in several.parts]
        self._able = [able(part) for part in several.parts]

    def read(self) -> RouteState:
        """Raises what a part raised when nothing can be said without that part."""
        states: list[RouteState | None] = []
        errors: dict[int, ProviderError] = {}
        for index, part in enumerate(self._parts):
            try:
                states.append(part.read())
            except ProviderError as error:
                states.append(None)
                errors[index] = error
        how = self._carried if self._several.combine == "replace" else self._product
        state = replace(how(states, errors), raw=json.dumps(
            [part and [part.shares.to_json(), part.raw] for part in states]))
        if all(part is None or part.pending is None for part in states):
            return state
        # What will be read once those who were asked have done it.
        return replace(state, pending=how([_done(part) for part in states], errors).shares)

    def between(self, state: RouteState, aims: Sequence[RouteState]) -> bool:
        """The levers are set one after the other: each may stand at what another aim asks of it,
        or on the way there, and the mix be nobody's aim."""
        if state.shares in [aim.shares for aim in aims] or len(state.parts) != len(self._parts):
            return state.shares in [aim.shares for aim in aims]
        asked: list[list[RouteState]] = [[] for _ in self._parts]
        for aim in aims:
            known = self._known(aim.raw)
            for index, own in enumerate(self._asked(aim.shares)):
                asked[index] += own
                if (part := known[index]) is not None:
                    asked[index].append(part)
        return all(now is None or part.between(now, own)
                   for part, now, own in zip(self._parts, state.parts, asked, strict=True))

    def as_found(self, state: RouteState, before: RouteState) -> bool:
        now = state.parts or [None] * len(self._parts)
        return state.stands_at(before.shares) and all(
            then is None or (own is not None and part.as_found(own, then))
            for part, own, then in zip(self._parts, now, self._known(before.raw), strict=True))

    def complete(self, state: RouteState, to: Shares, was: str | None) -> bool:
        now = state.parts or [None] * len(self._parts)
        return all(
            own is None or not own.stands_at(aim.shares)
            or part.complete(own, aim.shares, then.raw if then else None)
            for part, own, then, aims in zip(self._parts, now, self._known(was), self._asked(to),
                                             strict=True)
            for aim in aims)

    def _asked(self, to: Shares) -> list[list[RouteState]]:
        """What each lever may be set to for this aim."""
        if self._several.combine == "multiply":
            return [[RouteState(aim)] for aim in self._wanted(to)]
        rest = self._several.rest
        return [[RouteState(to)], *([RouteState(to), RouteState(rest)] for _ in self._parts[1:])]

    def _known(self, raw: str | None) -> list[RouteState | None]:
        """Each lever's own state out of the raw of all; None for one that tells nothing."""
        rows = json.loads(raw) if raw else []
        if not isinstance(rows, list) or len(rows) != len(self._parts):
            return [None] * len(self._parts)
        return [row if row is None else RouteState(Shares(row[0]), raw=row[1]) for row in rows]

    def measure(self) -> Mapping[str, float]:
        """The counts of the last lever that keeps any: it is the nearest to those who answer."""
        for part in reversed(self._parts):
            try:
                if counts := part.measure():
                    return counts
            except ProviderError:
                continue  # the next one may know; where none does, nothing is told
        return {}

    def live(self) -> Mapping[str, int] | None:
        """The larger count of each place: a contact that passes two levers is one contact. Of
        levers that replace each other the sum, for a contact came by one of them; None while one
        carries that counts nothing."""
        if self._several.combine == "replace":
            return self._added()
        found: dict[str, int] = {}
        told = False
        for part in self._parts:
            counts = part.live()
            told = told or counts is not None
            for name, count in (counts or {}).items():
                found[name] = max(found.get(name, 0), count)
        return found if told else None

    def _added(self) -> Mapping[str, int] | None:
        told: list[Mapping[str, int]] = []
        for index, part in enumerate(self._parts):
            counts = part.live()
            if counts is not None:
                told.append(counts)
            elif not index or part.read().shares != self._several.rest:
                return None
        # A name that one of them leaves out is not known.
        return {name: sum(counts[name] for counts in told) for name in told[0]
                if all(name in counts for counts in told)}

    def _carried(self, states: Sequence[RouteState | None],
                 errors: Mapping[int, ProviderError]) -> RouteState:
        amiss = [f"{self._names[index]} cannot be read: {error}"
                 for index, error in errors.items()]
        read = [(index, state) for index, state in enumerate(states) if state is not None]
        if not read:
            raise errors[0]
        away = [(index, state) for index, state in read
                if index and state.shares != self._several.rest]
        by, carries = away[0] if away else read[0]
        if by:
            first = states[0]
            reads = f" ({self._names[0]} reads {first.shares})" if first is not None else ""
            amiss.append(f"{self._names[by]} carries in place of {self._names[0]}{reads}")
        amiss += [f"{self._names[index]} is still to be set to {state.pending}"
                  for index, state in read if state is not carries and state.pending is not None]
        return RouteState(carries.shares, by=self._names[by], amiss=tuple(amiss),
                          parts=tuple(states), boot=_boot(states), refused=_refused(states),
                          told=carries.told)

    def _product(self, states: Sequence[RouteState | None],
                 errors: Mapping[int, ProviderError]) -> RouteState:
        through, flow = self._several.through, Fraction(1)
        parts: dict[str, Fraction] = {}
        last = len(states) - 1
        for index, state in enumerate(states):
            if not flow:
                break
            if state is None:
                raise errors[index]
            for name, share in state.shares.items():
                if index == last or name != through:
                    parts[name] = parts.get(name, Fraction(0)) + flow * share
            flow *= Fraction(state.shares.of(through) if index < last else 0, 100)
        read = ", ".join(f"{name} at {state.shares}" for name, state in
                         zip(self._names, states, strict=True) if state is not None)
        if any(part.denominator != 1 for part in parts.values()):
            raise Rejected(f"makes no sense: {read} give no whole percentages", where=self.name)
        shares = Shares({name: int(part) for name, part in parts.items()})
        wanted = self._wanted(shares)
        amiss = []
        for name, state, aim, index in zip(self._names, states, wanted, range(last + 1),
                                           strict=True):
            if state is None:
                amiss.append(f"{name}, which no call reaches now, cannot be read: {errors[index]}")
            elif state.shares != aim and len(shares) == 1:
                amiss.append(f"{name} reads {state.shares}, not {aim}: no call reaches that now")
        return RouteState(shares, amiss=tuple(amiss), parts=tuple(states), boot=_boot(states),
                          refused=_refused(states))

    def _wanted(self, to: Shares) -> list[Shares]:
        """What each lever of a product is set to, so that together they give `to`."""
        passed = Shares({self._several.through: 100})
        alone = next(iter(to)) if len(to) == 1 else None
        aims = []
        for name, can in zip(self._names, self._able, strict=True):
            knows = can.destinations is None or alone in can.destinations
            sets = name == self._several.split or (alone is not None and knows)
            aims.append(to if sets else passed)
        return aims

    @property
    def name(self) -> str:
        return "+".join(self._names)


def _done(state: RouteState | None) -> RouteState | None:
    return state if state is None or state.pending is None else replace(state, shares=state.pending)


def _boot(states: Sequence[RouteState | None]) -> str | None:
    """Another one as soon as one of the levers has restarted; None while one cannot be read, which
    is no restart."""
    if any(state is None for state in states):
        return None
    boots = [state.boot or "" if state else "" for state in states]
    return "|".join(boots) if any(boots) else None


def _refused(states: Sequence[RouteState | None]) -> str:
    return "; ".join(state.refused for state in states if state is not None and state.refused)


class CombinedView(_Combined[RouteView]):
    """To look only: nothing to write with is in reach."""


class CombinedRoute(_Combined[Route], Route):
    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        """Raises what the lever raised without which `to` would not be so."""
        self._bring(to, [None] * len(self._parts), expected, key)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        self._bring(before.shares, self._known(before.raw), expected, key)

    def _bring(self, to: Shares, found: Sequence[RouteState | None],
               expected: RouteState | None, key: str) -> None:
        """`found`: what each lever is to be once more, where that is known."""
        known = expected.parts if expected is not None else ()
        before: list[RouteState | None] = [None] * len(self._parts)
        if known:
            was = self._known(expected.was if expected else None)
            before = [now and replace(now, was=then.raw if then else None)
                      for now, then in zip(known, was, strict=True)]
        if self._several.combine == "multiply":
            self._multiply(to, before, found, key)
        elif None not in before and None not in found:
            self._all_back(before, found, key)
        else:
            self._replace(to, before, found, key, unreadable=bool(known) and known[0] is None)

    def _all_back(self, before: Sequence[RouteState | None],
                  found: Sequence[RouteState | None], key: str) -> None:
        """Every lever as it was; the one first that carried then, so that another never has to."""
        rest = self._several.rest
        away = [index for index, state in enumerate(found)
                if index and state is not None and state.shares != rest]
        for index in sorted(range(len(found)), key=lambda index: index not in (away or [0])):
            part, now, then = self._parts[index], before[index], found[index]
            if now is not None and then is not None and not part.as_found(now, then):
                part.restore(then, expected=now, key=key)

    def _replace(self, to: Shares, before: Sequence[RouteState | None],
                 found: Sequence[RouteState | None], key: str, *, unreadable: bool) -> None:
        first, refused = self._parts[0], None
        if not unreadable:
            try:
                first.restore(_as(found[0], to), expected=before[0], key=key)
            except ProviderError as error:
                if isinstance(error, Rejected) and self._moved(before[0], to):
                    raise
                refused = error
            else:
                self._rest(found, key)
                return
        for part, state, then in zip(self._parts[1:], before[1:], found[1:], strict=True):
            try:
                part.restore(_as(then, to), expected=state, key=key)
            except ProviderError as error:
                if isinstance(error, Rejected) and "changed since it was read" in error.what:
                    raise
                refused = refused or error
            else:
                return
        if refused is None or unreadable:
            # Nobody else can: let it say why it cannot.
            first.restore(_as(found[0], to), expected=None, key=key)
            self._rest(found, key)
        else:
            raise refused

    def _moved(self, before: RouteState | None, to: Shares) -> bool:
        """Whether the first lever was refused since somebody else moved it, as far as it says."""
        try:
            now = self._parts[0].read()
        except ProviderError:
            return False
        return before is not None and (now.shares, now.version) != (before.shares, before.version) \
            and now.shares != to

    def _rest(self, found: Sequence[RouteState | None], key: str) -> None:
        """The first lever carries: its fall-backs go out of the way. One that cannot be reached
        is told of when the levers are read."""
        for part, then in zip(self._parts[1:], found[1:], strict=True):
            try:
                now = part.read()
            except ProviderError:
                continue
            rest = _as(then, self._several.rest)
            if not part.as_found(now, rest):
                part.restore(rest, expected=now, key=key)

    def _multiply(self, to: Shares, before: Sequence[RouteState | None],
                  found: Sequence[RouteState | None], key: str) -> None:
        cut_off = False  # no call passes what was set already: what comes then is told, not waited
        for part, state, then, wanted in zip(self._parts, before, found, self._wanted(to),
                                             strict=True):
            aim = then or RouteState(wanted)
            try:
                if state is None or not part.as_found(state, aim):
                    part.restore(aim, expected=state, key=key)
            except ProviderError:
                if not cut_off:
                    raise
            cut_off = cut_off or not aim.shares.of(self._several.through)


def _as(found: RouteState | None, to: Shares) -> RouteState:
    """What was found there, where that had these shares."""
    return found if found is not None and found.shares == to else RouteState(to)
