"""Is the target ready? Asked before the first item of a move is claimed.

That it may have the work at all (outsourcing, data class, licence, credit criteria) is the hard
guards' word, which the engine asks right before. Here: will its queue take work, and has it said
how much it works off. The proof of the first is the platform's own word on our rights, or, where
the policy lets us, a canary: an item of no application that goes in and is taken back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from ccfailover.errors import Refused, Rejected, Unavailable
from ccfailover.model.books import CANARY, Canary, CanaryState
from ccfailover.model.items import WorkItem
from ccfailover.model.journal import Lease
from ccfailover.model.policy import Queue, Site
from ccfailover.providers import Backlog
from ccfailover.runtime import SECOND, Runtime
from ccfailover.transfer.claims import EMPTY_CLAIMS

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds for which a target that does not answer is asked again, and a canary is looked for."""

LOOKS = 3
"""Claims at most that find other items: what a canary stands behind is others' work, and each look
raises its receive count."""


class Canaries(Protocol):
    """The part of the store that canaries need. `ccfailover.store.Store` is one."""

    def note_canary(self, canary: Canary, *, lease: Lease | None) -> None: ...
    def canaries(self, *, queue: str = "", site: str = "") -> list[Canary]: ...


@dataclass(frozen=True)
class Ready:
    """What was found, for the journal; `left_over`: canaries that may still be there."""

    said: tuple[str, ...]
    left_over: tuple[str, ...] = ()


class Readiness:
    """Asks one target of one move. `check_fence` is called before every write."""

    def __init__(self, target: Backlog, *, store: Canaries, lease: Lease | None, run: str,
                 step: str, queue: Queue, site: Site, runtime: Runtime,
                 check_fence: Callable[[], None] = lambda: None,
                 stop: Callable[[], bool] = lambda: False) -> None:
        self._target, self._store, self._lease = target, store, lease
        self._run, self._step = run, step
        self._queue, self._site = queue, site
        self._runtime, self._check_fence, self._stop = runtime, check_fence, stop
        self._mine: set[str] = set()

    def prove(self, *, canary: bool) -> Ready:
        """Raises Refused (guards `intake_rate`, `target_writable`, `canary`): no item may be
        claimed. Raises Fenced and StoreError."""
        said = [self._rate()]
        if self._open():
            self._take_back()  # an attempt before this one was killed in between
        depth = self._ask(self._target.measure).depth
        if not canary or depth:
            said.append(f"{self._site.name}: {self._ask(self._target.check_writable)}")
            if canary:
                said.append(f"no canary: {depth} wait at {self._site.name}, and to find it "
                            "theirs would have to be claimed")
        else:
            said.append(self._canary())
        return Ready(tuple(said), tuple(each.name for each in self._open()))

    def _rate(self) -> str:
        staff = self._site.staff.get(self._queue.name)
        per_hour = staff.per_hour if staff else None
        if per_hour is not None and per_hour <= 0 or staff is not None and staff.agents == 0:
            raise Refused(
                f"{self._site.name} works off nothing of {self._queue.name}: its staff there is 0",
                guard="intake_rate", where=self._step, not_done="no item was claimed",
                hint=f"correct sites.{self._site.name}.staff.{self._queue.name}, or plan anew "
                "with another receiver")
        if per_hour is not None:
            return f"{self._site.name} works off {per_hour:g} an hour"
        return f"{self._site.name} does not say how much of {self._queue.name} it works off an hour"

    # --- the canary --------------------------------------------------------------------------

    def _canary(self) -> str:
        """There and back: put, shown to us, deleted by us."""
        name = f"{CANARY}-{self._run}-{self._runtime.new_id()}"
        self._mine.add(name)
        self._note(name, CanaryState.SENT)  # before it is sent: a crash leaves none unknown
        self._check_fence()
        began = self._runtime.monotonic()
        detail = self._put(name)
        if name not in self._take_back(name):
            raise Refused(
                f"{detail} {self._site.name}, and was not seen again within "
                f"{self._runtime.monotonic() - began:.0f} s: somebody may have taken it for an "
                "application", guard="canary", where=self._step, not_done="no item was claimed",
                hint=f"have {self._site.name} leave ids that begin with {CANARY} alone, or take "
                "`canary` off that backlog; then: ccfailover resume")
        return f"{self._site.name} took a canary and showed it to us"

    def _put(self, name: str) -> str:
        now = datetime.fromtimestamp(self._runtime.now() / SECOND, UTC).isoformat()
        item = WorkItem(item_id=name, message_id="", body=self._body(name), fields={}, handle="",
                        submitted=now)
        try:
            (result,) = self._target.put([item], keys={name: f"{name}:{self._run}:1"})
        except Unavailable as error:
            if not error.in_doubt:
                self._note(name, CanaryState.BACK)
                raise self._refused(str(error)) from None
            return "a canary may have reached"
        except Rejected as error:
            self._note(name, CanaryState.BACK)
            raise self._refused(str(error)) from None
        if not result.ok and not result.in_doubt:
            self._note(name, CanaryState.BACK)
            raise self._refused(result.detail)
        return "a canary went to" if result.ok else "a canary may have reached"

    def _body(self, name: str) -> bytes:
        """An item as the queue's others are, as far as its id goes, and no application."""
        where = self._queue.item.get("id", "id")
        keys = [part.replace("~1", "/").replace("~0", "~") for part in where[1:].split("/")
                ] if where.startswith("/") else [where]
        body: dict[str, object] = {keys[-1]: name}
        for key in reversed(keys[:-1]):
            body = {key: body}
        return json.dumps({**body, "ccf_canary": True}).encode()

    def _take_back(self, new: str | None = None) -> set[str]:
        """Look for our open canaries and delete them, until none is left or patience ends; the
        names of those that were shown. `new` has just been put and must show. Everything else is
        shown again."""
        wanted = {each.name for each in self._open()}
        shown: set[str] = set()
        others: list[str] = []
        looks, empties, deadline = 0, 0, self._runtime.monotonic() + self._hidden_for() + PATIENCE
        try:
            while wanted and looks < LOOKS:
                self._check_fence()
                batch = self._ask(lambda: self._target.claim(self._target.batch))
                shown |= {item.item_id for item in batch} & wanted
                others += [item.handle for item in batch if item.item_id not in wanted]
                looks += any(item.item_id not in wanted for item in batch)
                wanted -= {item.item_id for item in batch
                           if item.item_id in wanted and self._delete(item)}
                empties = 0 if batch else empties + 1
                if empties >= EMPTY_CLAIMS and new in {None, *shown} and self._all_gone():
                    break
                if self._stop() or self._runtime.monotonic() >= deadline:
                    break
                if wanted and not batch:
                    self._runtime.sleep(0.2)
        finally:
            if others:
                self._give_back(others)
        return shown

    def _hidden_for(self) -> float:
        """How long a claim of somebody who was killed may still hide one of them, seconds."""
        now = self._runtime.now()
        return max([0.0, *(self._target.claim_seconds - max(0, now - each.at) / SECOND
                    for each in self._open() if each.name not in self._mine)])

    def _all_gone(self) -> bool:
        """Whether nothing is there at all; then none of our canaries is, whatever we heard of
        their deletion."""
        if self._ask(self._target.measure).depth:
            return False
        for each in self._open():
            self._note(each.name, CanaryState.BACK)
        return True

    def _delete(self, item: WorkItem) -> bool:
        if not self._ask(lambda: self._target.settle([item.handle])).get(item.handle):
            return False
        self._note(item.item_id, CanaryState.BACK)
        return True

    def _give_back(self, handles: list[str]) -> None:
        try:
            self._target.extend(handles, 0)
        except (Unavailable, Rejected):
            return  # their claims end by themselves

    def _open(self) -> list[Canary]:
        return self._store.canaries(queue=self._queue.name, site=self._site.name)

    def _note(self, name: str, state: CanaryState) -> None:
        self._store.note_canary(
            Canary(name, self._run, self._step, self._queue.name, self._site.name, state,
                   self._runtime.now()), lease=self._lease)

    # --- asking --------------------------------------------------------------------------------

    def _ask(self, call: Callable[[], T]) -> T:
        """Again and again while the target does not answer; not for ever."""
        deadline = self._runtime.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except Rejected as error:
                raise self._refused(str(error)) from None
            except Unavailable as error:
                if self._runtime.monotonic() >= deadline:
                    raise self._refused(str(error)) from None
                self._runtime.sleep(0.5 + self._runtime.random() / 2)

    def _refused(self, detail: str) -> Refused:
        return Refused(f"{self._site.name} takes no work: {' '.join(detail.split())[:300]}",
                       guard="target_writable", where=self._step,
                       not_done="no item was claimed",
                       hint="once it does: ccfailover resume; or plan anew with another receiver")
