"""A small world for moves: virtual time, backlogs with visibility time-outs, deaths to order.

`Fate` counts every external effect and every durable write of a process, and kills the process
(a BaseException that nothing catches) before or after any one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ccfailover.errors import Unavailable
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import ItemState, LedgerRow, Lot, PutResult, WorkItem
from ccfailover.model.policy import Queue, Site
from ccfailover.model.shares import Shares
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.store import Store, open_store
from ccfailover.transfer.mover import Mover, MoveResult

T = TypeVar("T")

START = 1_790_000_000 * SECOND
QUEUE = "applications"


class VirtualRuntime(SystemRuntime):
    """Time passes only by `sleep`; chance is always one half."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return START + int(self.seconds * SECOND)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += max(0.0, seconds)

    def random(self) -> float:
        return 0.5


class Killed(BaseException):
    """kill -9: nothing in the process sees it coming or cleans up."""


class Fate:
    """Dies at the `at`th call (from 0), before it takes effect or after."""

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.at = at
        self.after = after
        self.calls: list[str] = []

    def strike(self, name: str, effect: Callable[[], T]) -> T:
        number = len(self.calls)
        self.calls.append(name)
        if number == self.at and not self.after:
            raise Killed(name)
        result = effect()
        if number == self.at and self.after:
            raise Killed(name)
        return result


@dataclass
class Message:
    item: WorkItem
    visible_at: float = 0.0
    receives: int = 0
    handle: str = ""


@dataclass
class Memory(Backlog):
    """A backlog like SQS: claims end, old handles answer False, repeated keys may be swallowed.

    `lying`: a settle by a handle whose claim has ended is answered with yes, and deletes nothing.
    `keeps`: ids whose copies it will not delete.
    `blind`: that many claims miss what is there, and the count lags as long.

    `refuse` gives the fate of a put by item id: a list of results to hand out first, one a put
    (`transient`, `permanent`, `doubt` = delivered but not said so, `lost` = doubt, not delivered).
    """

    runtime: VirtualRuntime
    name: str
    claim_seconds: float = 30.0
    window: float | None = -1.0
    refuse: dict[str, list[str]] = field(default_factory=dict)
    dead: bool = False
    dead_settle: bool = False
    most: int | None = None
    messages: dict[str, Message] = field(default_factory=dict)
    keys: dict[str, float] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    travelled: list[WorkItem] = field(default_factory=list)
    keeps: set[str] = field(default_factory=set)
    deaf: bool = False
    lying: bool = False
    blind: int = 0
    slow_claims: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    claims: list[list[str]] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def capabilities(self) -> Capabilities:
        idempotent = self.window is None or self.window >= 0
        return Capabilities(backlogs=True, idempotent_put=idempotent,
                            put_window=self.window if idempotent else None, max_item_bytes=2000)

    def add(self, item_id: str, body: bytes = b"{}", **more: object) -> str:
        message_id = f"{self.name}-m{next(self.numbers)}"
        fields = dict(more.pop("fields", {}))  # type: ignore[call-overload]
        if more.get("submitted"):
            fields["submitted"] = more["submitted"]
        self.messages[message_id] = Message(WorkItem(
            item_id=item_id, message_id=message_id, body=body, handle="",
            fields=fields, **more))  # type: ignore[arg-type]
        return message_id

    def ids(self) -> list[str]:
        """The ids of the copies here, with repetitions, hidden ones included."""
        return sorted(message.item.item_id for message in self.messages.values())

    def _alive(self) -> None:
        if self.dead:
            raise Unavailable(f"{self.name} does not answer", in_doubt=True)

    def claim(self, limit: int) -> Sequence[WorkItem]:
        self._alive()
        if self.blind:
            self.blind -= 1
            return []
        out = []
        for message in self.messages.values():
            if message.visible_at <= self.runtime.seconds and len(out) < limit:
                message.receives += 1
                message.handle = f"h{next(self.numbers)}"
                message.visible_at = self.runtime.seconds + self.claim_seconds
                out.append(replace(message.item, handle=message.handle,
                                   receives=message.receives))
        if self.slow_claims:
            self.runtime.sleep(self.slow_claims.pop(0))
        if out:
            self.claims.append([item.item_id for item in out])
        return out

    def _find(self, handle: str) -> str | None:
        return next((message_id for message_id, message in self.messages.items()
                     if message.handle == handle
                     and message.visible_at > self.runtime.seconds), None)

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        self._alive()
        out = {}
        for handle in handles:
            found = None if self.deaf else self._find(handle)
            if found is not None:
                self.messages[found].visible_at = self.runtime.seconds + seconds
            out[handle] = found is not None
        return out

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        self._alive()
        if self.dead_settle:
            self.dead = True
            self._alive()
        out = {}
        for handle in handles:
            found = self._find(handle)
            if found is not None and self.messages[found].item.item_id in self.keeps:
                found = None
            if found is not None:
                del self.messages[found]
            out[handle] = found is not None or self.lying
        return out

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        self._alive()
        if self.delays:
            self.runtime.sleep(self.delays.pop(0))
        return [self._put(item, keys[item.item_id]) for item in items]

    def _put(self, item: WorkItem, key: str) -> PutResult:
        fates = self.refuse.get(item.item_id)
        fate = fates.pop(0) if fates else "ok"
        if fate in ("transient", "permanent"):
            return PutResult(item.item_id, False, permanent=fate == "permanent", detail=fate)
        if fate == "lost":
            return PutResult(item.item_id, False, in_doubt=True, detail="timed out")
        since = self.keys.get(key)
        fresh = since is None or self.window is not None and (
            self.runtime.seconds - since > self.window)
        if fresh:
            self.keys[key] = self.runtime.seconds
            self.puts.append(item.item_id)
            self.travelled.append(item)
            self.add(item.item_id, item.body, fields=item.fields, submitted=item.submitted,
                     hops=item.hops)
        if fate == "doubt":
            return PutResult(item.item_id, False, in_doubt=True, detail="timed out")
        return PutResult(item.item_id, True, target_ref=f"{self.name}/{key}")

    def measure(self) -> BacklogMeasure:
        self._alive()
        if self.blind:
            return BacklogMeasure(0, 0, None)
        hidden = sum(m.visible_at > self.runtime.seconds for m in self.messages.values())
        return BacklogMeasure(len(self.messages) - hidden, hidden, None)

    def max_receives(self) -> int | None:
        return self.most


class Mortal(Backlog):
    """A backlog as one process sees it, until fate strikes between request and reply."""

    def __init__(self, inner: Backlog, fate: Fate, name: str) -> None:
        self._inner = inner
        self._fate = fate
        self._name = name
        self.claim_seconds = inner.claim_seconds

    def _do(self, name: str, effect: Callable[[], object]) -> object:
        return self._fate.strike(f"{self._name}.{name}", effect)

    def claim(self, limit: int) -> Sequence[WorkItem]:
        return self._do("claim", lambda: self._inner.claim(limit))  # type: ignore[return-value]

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        return self._do(  # type: ignore[return-value]
            "extend", lambda: self._inner.extend(handles, seconds))

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        return self._do(  # type: ignore[return-value]
            "settle", lambda: self._inner.settle(handles))

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        return self._do(  # type: ignore[return-value]
            "put", lambda: self._inner.put(items, keys=keys))

    def measure(self) -> BacklogMeasure:
        return self._inner.measure()

    def max_receives(self) -> int | None:
        return self._inner.max_receives()


class MortalStore:
    """The store as one process sees it, until fate strikes before or after a write."""

    def __init__(self, inner: Store, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate
        self.items, self.items_of = inner.items, inner.items_of
        self.item_tally, self.item_reasons = inner.item_tally, inner.item_reasons

    def record_items(self, rows: Sequence[LedgerRow], *, lease: object,
                     lot: Lot | None = None) -> str | None:
        del lease
        states = "+".join(sorted({row.state.value for row in (*rows, *(lot.rows if lot else ()))}))
        return self._fate.strike(f"record {states}",
                                 lambda: self._inner.record_items(rows, lease=None, lot=lot))


class ByField:
    """Eligible unless the item's fields say `stay`, with the reason."""

    def judge(self, item: WorkItem) -> str | None:
        stay = item.fields.get("stay")
        return None if stay is None else str(stay)


def site(name: str, **more: object) -> Site:
    return Site(name=name, in_house=name == "hq", timezone="America/Chicago",
                hours=None, holidays=None, location=None, country=None, depends_on=(),
                probes=(), staff={}, **more)  # type: ignore[arg-type]


def queue(**more: object) -> Queue:
    values: dict[str, object] = dict(
        name=QUEUE, channel="application", home="hq", backups=("acme",), outsource="allowed",
        in_disaster="allow", priority=1, home_down="hold", normal=Shares({"hq": 100}),
        max_item_bytes=1000)
    return Queue(**{**values, **more})  # type: ignore[arg-type]


class World:
    """hq and acme, one store, and as many processes as a test lets die."""

    def __init__(self, *, window: float | None = -1.0, batch: int = 3,
                 claim_seconds: float = 30.0) -> None:
        self.runtime = VirtualRuntime()
        self.hq = Memory(self.runtime, "hq", claim_seconds=claim_seconds)
        self.acme = Memory(self.runtime, "acme", claim_seconds=claim_seconds, window=window)
        self.store = open_store(":memory:", self.runtime)
        self.batch = batch

    def mover(self, fate: Fate | None = None, *, run: str = "r1", step: str = "2-transfer",
              home: bool = False, **more: object) -> Mover:
        source, target = (self.acme, self.hq) if home else (self.hq, self.acme)
        fate = fate or Fate()
        values: dict[str, object] = dict(
            store=MortalStore(self.store, fate), lease=None, run=run, step=step, queue=queue(),
            source_site=source.name, target_site=site(target.name), eligibility=ByField(),
            runtime=self.runtime, target_capabilities=target.capabilities, batch=self.batch,
            worked=lambda: False)
        return Mover(Mortal(source, fate, "source"), Mortal(target, fate, "target"),
                     **{**values, **more})  # type: ignore[arg-type]

    def move(self, fate: Fate | None = None, **more: object) -> MoveResult:
        return self.mover(fate, **more).run(self.runtime.monotonic() + 3600)  # type: ignore[arg-type]

    def survives(self, fate: Fate, **more: object) -> bool:
        """True when the move ended; False when its process was killed."""
        try:
            self.move(fate, **more)
        except Killed:
            return False
        return True

    def states(self, run: str = "r1") -> dict[str, ItemState]:
        return {row.item_id: row.state for row in self.store.items(run=run)}

    def row(self, item_id: str, run: str = "r1") -> LedgerRow:
        return next(row for row in self.store.items(run=run) if row.item_id == item_id)

    def listed(self) -> set[str]:
        return {row.item_id for row in self.store.items() if row.possible_duplicate}

    def close(self) -> None:
        self.store.close()
