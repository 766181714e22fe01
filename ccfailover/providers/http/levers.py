"""Routes and gates of a switch with a REST interface."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ccfailover.errors import Rejected
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Gate, Route, RouteState
from ccfailover.providers.curl import Changed, Reply
from ccfailover.providers.documents import MISSING, at, quoted
from ccfailover.providers.http.session import Session
from ccfailover.providers.http.settings import GateSettings, ListShares, RouteSettings

_UNCHANGED = "the shares were not changed"


class HttpRoute(Route):
    def __init__(self, session: Session, lever: LeverSpec, settings: RouteSettings) -> None:
        self._session = session
        self._ref = lever.ref
        self._settings = settings
        self._sites = {platform: site for site, platform in settings.destinations.items()}

    def read(self) -> RouteState:
        document, reply = self._session.read(self._settings.read, self._ref)
        parts: dict[str, int] = {}
        for platform, raw in self._entries(document):
            percent = _whole(raw)
            if percent is None:
                raise self._nonsense(f"the share of {quoted(platform)} is not a whole percentage")
            site = self._sites.get(platform) if self._sites else platform
            if site is None and percent:
                raise self._nonsense(
                    f"{percent} % goes to {quoted(platform)}, which destinations does not name")
            if site is not None:
                if site in parts:
                    raise self._nonsense(f"{quoted(platform)} is listed twice")
                parts[site] = percent
        try:
            return RouteState(Shares(parts), self._version(document, reply))
        except ValueError as error:
            raise self._nonsense(str(error)) from None

    def measure(self) -> Mapping[str, float]:
        """What the switch counts; a value that is missing, null or no number is left out."""
        if self._settings.measure is None:
            return {}
        document, _ = self._session.read(self._settings.measure, self._ref)
        found: dict[str, float] = {}
        for name, pointer in self._settings.values.items():
            value = at(document, pointer)
            if isinstance(value, int | float) and not isinstance(value, bool):
                number = float(value) if abs(value) < 1e300 else math.inf
                if math.isfinite(number):
                    found[name] = number
        return found

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        settings = self._settings
        shares = self._expressed(to)
        if settings.shift is None:
            raise self._refused("the policy describes no shift for this route")
        headers: dict[str, str] = {}
        guarded = bool(settings.if_match and expected and expected.version is not None)
        if expected is not None and expected.version is not None and settings.if_match:
            headers["If-Match"] = (
                expected.version if settings.version == "etag" else f'"{expected.version}"')
        elif expected is not None:
            # No compare-and-set here: a read just before narrows the gap, it cannot close it.
            now = self.read().shares
            if now not in (expected.shares, to):
                raise self._refused("changed since it was read")
        try:
            self._session.write(
                settings.shift, self._ref, key=key, default=shares, headers=headers,
                not_done=_UNCHANGED,
                values={"shares": shares, "ref": self._ref, "key": key,
                        "version": expected.version if expected else None},
            )
        except Changed:
            # An earlier attempt of ours that seemed to fail may be what changed it.
            if not guarded or self.read().shares != to:
                raise

    def _expressed(self, to: Shares) -> dict[str, int]:
        """Every destination with its percentage, 0 too: a switch that merges must hear of it."""
        step = self._settings.step
        for name, percent in to.items():
            if percent % step:
                raise self._refused(f"{name} {percent} % is no multiple of the step {step} %")
        if not self._settings.destinations:
            return dict(to)
        unknown = sorted(set(to) - set(self._settings.destinations))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        return {platform: to.of(site)
                for site, platform in self._settings.destinations.items()}

    def _entries(self, document: object) -> Iterator[tuple[str, object]]:
        where = self._settings.shares
        if isinstance(where, str):
            found = at(document, where)
            if not isinstance(found, dict):
                raise self._nonsense(f"no object of shares at {where or 'the top'}")
            yield from found.items()
            return
        found = at(document, where.pointer)
        if not isinstance(found, list):
            raise self._nonsense(f"no list of shares at {where.pointer or 'the top'}")
        for entry in found:
            yield self._listed(entry, where)

    def _listed(self, entry: object, where: ListShares) -> tuple[str, object]:
        if isinstance(entry, dict):
            name = entry.get(where.name)
            if isinstance(name, str) and where.percent in entry:
                return name, entry[where.percent]
        raise self._nonsense(f"an entry of {where.pointer} lacks {where.name} or {where.percent}")

    def _version(self, document: object, reply: Reply) -> str | None:
        where = self._settings.version
        if where is None:
            return None
        if where == "etag":
            return reply.headers.get("etag") or None
        value = at(document, where)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)[:200]
        raise self._nonsense(f"no version at {where}")

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._session.name,
                        where=self._session.place(self._settings.read, self._ref))

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._session.name, where=self._ref, not_done=_UNCHANGED)


class HttpGate(Gate):
    def __init__(self, session: Session, lever: LeverSpec, settings: GateSettings) -> None:
        self._session = session
        self._ref = lever.ref
        self._settings = settings

    def is_open(self) -> bool:
        document, _ = self._session.read(self._settings.read, self._ref)
        value = at(document, self._settings.pointer)
        if self._settings.equals is not None and value is not MISSING:
            equals = self._settings.equals
            return value == equals and isinstance(value, bool) == isinstance(equals, bool)
        if isinstance(value, bool):
            return value
        raise Rejected(
            f"the reply makes no sense: neither true nor false at {self._settings.pointer}",
            provider=self._session.name,
            where=self._session.place(self._settings.read, self._ref),
        )

    def set_open(self, is_open: bool, *, key: str) -> None:
        self._session.write(
            self._settings.write, self._ref, key=key, default={"open": is_open}, headers={},
            values={"open": is_open, "ref": self._ref, "key": key},
            not_done="the gate was not changed",
        )


def _whole(value: object) -> int | None:
    """A percentage given as 50, 50.0 or "50"; None when it is anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer() and 0 <= value <= 100:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 3:
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= 100 else None
