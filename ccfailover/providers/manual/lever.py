"""A route whose platform is a person: it reads their last word, and a shift asks them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from ccfailover.errors import Rejected, StoreError, Unavailable
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import OurDesk, Route, RouteState
from ccfailover.runtime import SECOND, Runtime
from ccfailover.store.by_hand import ASKED, Change, Standing, Task, change, read

_UNCHANGED: Final = "nobody was asked to change anything"
_MOST_TOLD: Final = 300
_MARK: Final = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True)
class Terms:
    """`destinations`: site or treatment → the person's word for it. `within` and `remind` are
    seconds; `begins`: how it stands as long as nobody has ever said."""

    destinations: Mapping[str, str]
    step: int
    instruction: str
    role: str
    within: float
    remind: float
    begins: Shares | None


class ManualRoute(Route):
    def __init__(self, name: str, lever: LeverSpec, runtime: Runtime, desk: OurDesk | None,
                 terms: Terms) -> None:
        self._name, self._lever, self._runtime = name, lever.lever, runtime
        self._ref, self._desk, self._terms = lever.ref, desk, terms

    def read(self) -> RouteState:
        desk = self._at_desk()
        try:
            standing = read(desk.store, self._lever)
        except StoreError as error:
            raise self._unwritten(error, in_doubt=False) from error
        return self._state(standing)

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        desk = self._at_desk()
        self._expressed(to)
        before = self.read()
        if before.stands_at(to):
            return

        def ask(now: Standing) -> Change | None:
            state = self._state(now)
            if state.pending == to and now.task is not None \
                    and now.task.expires_at > self._runtime.now():
                return None  # asked already: an earlier attempt, or whoever was carried off
            if state.stands_at(to):
                return None
            if (expected is not None and state.pending != to
                    and expected.version not in (None, state.version)):
                raise Rejected("changed since it was read", provider=self._name,
                               where=self._lever, not_done=_UNCHANGED,
                               hint="look who said so: ccfailover journal export")
            task = self._task(to, now, key, desk)
            return (replace(now, task=task, refused=""), ASKED,
                    {"to": dict(task.to), "before": task.before, "role": task.role, "key": key,
                     "instruction": task.instruction, "expires_at": task.expires_at})

        try:
            change(desk.store, self._lever, ask, actor=desk.actor)
            desk.tell(self._lever)
        except StoreError as error:
            raise self._unwritten(error, in_doubt=True) from error

    def _task(self, to: Shares, now: Standing, key: str, desk: OurDesk) -> Task:
        at = self._runtime.now()
        until = at + int(self._terms.within * SECOND)
        before = self._terms.begins if now.shares is None else Shares(now.shares)
        marks = {
            "shares": self._in_words(to), "ref": self._ref, "lever": self._lever,
            "before": self._in_words(before) if before else "not known",
            "until": f"{datetime.fromtimestamp(until // SECOND, UTC):%Y-%m-%d %H:%MZ}",
        }
        # Every mark at once, so that what one brings in is not taken for another.
        told = _MARK.sub(lambda found: marks.get(found[1], found[0]), self._terms.instruction)
        return Task(
            lever=self._lever, number=0, to=dict(to),
            before=dict(before) if before is not None else None, instruction=told.strip(),
            role=self._terms.role, key=key, asked_by=desk.actor, asked_at=at, expires_at=until,
            remind=self._terms.remind)

    def _in_words(self, shares: Shares) -> str:
        """`CIC 0222 (acme) 60 % · CIC 0288 (hq) 40 %`."""
        order = sorted(shares.items(), key=lambda part: (-part[1], part[0]))
        words = self._terms.destinations
        return " · ".join(f"{words[name]} ({name}) {part} %" if words.get(name, name) != name
                          else f"{name} {part} %" for name, part in order)

    def _state(self, now: Standing) -> RouteState:
        shares = self._terms.begins if now.shares is None else Shares(now.shares)
        if shares is None:
            raise Rejected("nobody has said yet how it stands", provider=self._name,
                           where=self._lever,
                           hint=f"ccfailover done {self._lever} --shares hq=100 --evidence …")
        unknown = sorted(set(shares) - set(self._terms.destinations))
        if unknown and self._terms.destinations:
            raise Rejected(f"the last word makes no sense: {shares.of(unknown[0])} % goes to "
                           f"{unknown[0]}, which destinations does not name",
                           provider=self._name, where=self._lever)
        return RouteState(shares, str(now.number),
                          pending=Shares(now.task.to) if now.task else None, refused=now.refused,
                          told=f"as {now.by} says: {now.evidence}"[:_MOST_TOLD] if now.by else "")

    def _expressed(self, to: Shares) -> None:
        unknown = sorted(set(to) - set(self._terms.destinations))
        if unknown and self._terms.destinations:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        step = self._terms.step
        for name, percent in to.items():
            if percent % step:
                raise self._refused(f"{name} {percent} % is no multiple of the step {step} %")

    def _at_desk(self) -> OurDesk:
        if self._desk is None:
            raise Unavailable("there is no store to keep what people say", in_doubt=False,
                              provider=self._name, where=self._lever, not_done=_UNCHANGED)
        return self._desk

    def _unwritten(self, error: StoreError, *, in_doubt: bool) -> Unavailable:
        return Unavailable(f"the store: {error.what}", in_doubt=in_doubt, provider=self._name,
                           where=self._lever)

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._name, where=self._lever, not_done=_UNCHANGED)
