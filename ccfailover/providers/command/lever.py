"""A route that a program sets and reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ccfailover.errors import Rejected
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.command.program import Program
from ccfailover.providers.documents import quoted

_UNCHANGED: Final = "the shares were not changed"
_MOST: Final = 1000
_LONGEST: Final = 200


@dataclass(frozen=True)
class Settings:
    """`destinations`: site or treatment → the program's name for it; empty: the same names."""

    destinations: Mapping[str, str]
    step: int
    compare_and_set: bool
    measure: bool
    live: bool


class CommandRoute(Route):
    def __init__(self, program: Program, lever: LeverSpec, settings: Settings) -> None:
        self._program, self._ref, self._settings = program, lever.ref, settings
        self._sites = {theirs: ours for ours, theirs in settings.destinations.items()}

    def read(self) -> RouteState:
        document = self._document("read")
        parts: dict[str, int] = {}
        for theirs, percent in self._entries(document, "shares").items():
            if isinstance(percent, bool) or not isinstance(percent, int):
                raise self._nonsense(f"the share of {quoted(theirs)} is no whole percentage")
            ours = self._sites.get(theirs) if self._sites else theirs
            if ours is None and percent:
                raise self._nonsense(
                    f"{percent} % goes to {quoted(theirs)}, which destinations does not name")
            if ours is not None:
                parts[ours] = percent
        version = document.get("version")
        if isinstance(version, bool) or not isinstance(version, str | int | None):
            raise self._nonsense("the version is neither a text nor a number")
        if version is not None and len(str(version)) > _LONGEST:  # cut, it would match no more
            raise self._nonsense(f"the version is longer than {_LONGEST} characters")
        try:
            return RouteState(Shares(parts), None if version is None else str(version))
        except ValueError as error:
            raise self._nonsense(str(error)) from None

    def measure(self) -> Mapping[str, float]:
        """What it counts; a value that is null or no number is left out."""
        if not self._settings.measure:
            return {}
        found = {}
        for name, value in self._entries(self._document("measure"), "values").items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                number = float(value) if abs(value) < 1e300 else math.inf
                if math.isfinite(number):
                    found[name] = number
        return found

    def live(self) -> Mapping[str, int] | None:
        if not self._settings.live:
            return None
        found = {}
        for theirs, count in self._entries(self._document("live"), "live").items():
            ours = self._sites.get(theirs) if self._sites else theirs
            if ours is not None and isinstance(count, int) and not isinstance(count, bool):
                if not 0 <= count < 10**9:
                    raise self._nonsense(f"{quoted(theirs)} has no number of contacts")
                found[ours] = count
        return found

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        shares = self._expressed(to)
        guarded = self._settings.compare_and_set and expected is not None
        if expected is not None and not guarded:
            # No compare-and-set here: a read just before narrows the gap, it cannot close it.
            now = self.read()
            moved = now.shares != expected.shares or now.version != expected.version
            if moved and now.shares != to:
                raise self._refused("changed since it was read")
        believed = None if expected is None or not guarded else {
            "shares": self._named(expected.shares), "version": expected.version}
        try:
            self._program.tell("shift", self._ref, {
                "shares": shares, "key": key, "expected": believed}, not_done=_UNCHANGED)
        except Rejected:
            # An earlier attempt of ours that seemed to fail may be what changed it.
            if not guarded or self.read().shares != to:
                raise

    def _expressed(self, to: Shares) -> dict[str, int]:
        """Every destination with its percentage, 0 too."""
        step = self._settings.step
        unknown = sorted(set(to) - set(self._settings.destinations))
        if unknown and self._settings.destinations:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        for name, percent in to.items():
            if percent % step:
                raise self._refused(f"{name} {percent} % is no multiple of the step {step} %")
        return self._named(to)

    def _named(self, shares: Shares) -> dict[str, int]:
        if not self._settings.destinations:
            return dict(shares)
        return {theirs: shares.of(ours) for ours, theirs in self._settings.destinations.items()}

    def _document(self, verb: str) -> Mapping[str, object]:
        document = self._program.ask(verb, self._ref)
        if not isinstance(document, dict):
            raise self._nonsense("no JSON object")
        return document

    def _entries(self, document: Mapping[str, object], name: str) -> dict[str, object]:
        found = document.get(name)
        if not isinstance(found, dict) or len(found) > _MOST:
            raise self._nonsense(f"no object `{name}`")
        return found

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the answer makes no sense: {what}", provider=self._program.name,
                        where=self._ref)

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._program.name, where=self._ref, not_done=_UNCHANGED)
