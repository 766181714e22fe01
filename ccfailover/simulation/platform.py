"""A platform that exists only in memory: routes, gates and backlogs, in the Runtime's time.

Tests and simulated drills hold the `SimulatedPlatform`; `simulation.providers` is the adapter
that reaches it as any other. Faults are told beforehand: `platform.fail("shift", Fault.AFTER)`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from threading import RLock
from typing import Final, TypeVar

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.shares import Shares
from ccfailover.runtime import SECOND, Runtime
from ccfailover.simulation.voice import Voice

T = TypeVar("T")
DEDUP_WINDOW: Final = 300.0


class Fault(Enum):
    """What the next call of an operation meets.

    BEFORE: unreachable, nothing happened. AFTER: it happened, the reply was lost. LOST: the
    reply was lost and nothing happened. THROTTLED: come back later. REJECTED: a plain no.
    IGNORED: "done", and nothing happened. PARTIAL: every second item of a batch fails.
    """

    BEFORE = "before"
    AFTER = "after"
    LOST = "lost"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    IGNORED = "ignored"
    PARTIAL = "partial"


@dataclass
class Message:
    """One message of a simulated queue; `visible_at` in µs."""

    message_id: str
    body: bytes
    visible_at: int
    sent_at: int
    item_id: str = ""
    submitted: str | None = None
    hops: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    receives: int = 0

    @property
    def handle(self) -> str:
        return f"{self.message_id}#{self.receives}"


@dataclass
class SimulatedQueue:
    """`messages` in order of arrival; `dead` are those received too often; `seen` maps a key to
    when it came and the message that it made."""

    fifo: bool = False
    max_receives: int | None = None
    messages: list[Message] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)
    seen: dict[str, tuple[int, str]] = field(default_factory=dict)


@dataclass
class _Lever:
    shares: Shares
    version: int = 1


class SimulatedPlatform:
    """Safe for several threads. `calls` lists every operation that reached it, as `put jobs`."""

    def __init__(self, runtime: Runtime, name: str = "simulated") -> None:
        self.name = name
        self.runtime = runtime
        self.calls: list[str] = []
        self._lock = RLock()
        self._routes: dict[str, _Lever] = {}
        self._lies: dict[str, Shares] = {}
        self._gates: dict[str, bool] = {}
        self._queues: dict[str, SimulatedQueue] = {}
        self._counts: dict[str, dict[str, float]] = {}
        self._faults: dict[str, deque[Fault]] = {}
        self._made = 0
        self.voice = Voice()
        self.boot = ""

    # --- what a test sets up and looks at

    def add_route(self, ref: str, shares: Mapping[str, int]) -> None:
        """Make a route, or change it behind everybody's back."""
        with self._lock:
            old = self._routes.get(ref)
            self._routes[ref] = _Lever(Shares(shares), old.version + 1 if old else 1)

    def restart(self, boot: str, forgotten: Mapping[str, Mapping[str, int]]) -> None:
        """From now on it is another boot; these routes are as they were made."""
        with self._lock:
            self.boot = boot
            for ref, shares in forgotten.items():
                self._routes[ref] = _Lever(Shares(shares))

    def add_gate(self, ref: str, *, is_open: bool) -> None:
        with self._lock:
            self._gates[ref] = is_open

    def add_queue(self, ref: str, *, max_receives: int | None = None) -> SimulatedQueue:
        """A queue; its name ends in `.fifo` when it swallows a key's second put."""
        with self._lock:
            made = SimulatedQueue(fifo=ref.endswith(".fifo"), max_receives=max_receives)
            return self._queues.setdefault(ref, made)

    def count(self, ref: str, counts: Mapping[str, float]) -> None:
        """What `Route.measure` answers."""
        with self._lock:
            self._counts[ref] = dict(counts)

    def send(self, ref: str, body: bytes, attributes: Mapping[str, str] | None = None) -> str:
        """A message from the site's own system; gives its id."""
        with self._lock:
            return self._enqueue(self._queues[ref], body, attributes=attributes or {})

    def shares(self, ref: str) -> Shares:
        """The truth, whatever `lie` makes reads say."""
        with self._lock:
            return self._routes[ref].shares

    def is_open(self, ref: str) -> bool:
        with self._lock:
            return self._gates[ref]

    def messages(self, ref: str) -> list[Message]:
        with self._lock:
            return list(self._queues[ref].messages)

    def fail(self, operation: str, fault: Fault, times: int = 1) -> None:
        """The next `times` calls of `operation` (read, shift, is_open, set_open, measure, claim,
        extend, settle, put, said, say, live, or `*` for any) meet `fault`."""
        with self._lock:
            self._faults.setdefault(operation, deque()).extend([fault] * times)

    def lie(self, ref: str, shares: Mapping[str, int] | None) -> None:
        """Reads of a route say this from now on; None: the truth again."""
        with self._lock:
            if shares is None:
                self._lies.pop(ref, None)
            else:
                self._lies[ref] = Shares(shares)

    # --- what the adapter asks

    def act(self, operation: str, ref: str, effect: Callable[[], T], *, instead: T | None = None,
            writes: bool = False) -> T:
        """`effect()` under the next fault. `instead` is what an IGNORED write answers."""
        where = f"{ref} {operation}"
        with self._lock:
            self.calls.append(f"{operation} {ref}")
            fault = self._next(operation)
            if fault is Fault.BEFORE or (fault is Fault.LOST and not writes):
                raise Unavailable("unreachable", in_doubt=False, provider=self.name, where=where)
            if fault is Fault.LOST:
                raise Unavailable("no reply in time", in_doubt=True, provider=self.name,
                                  where=where)
            if fault is Fault.THROTTLED:
                raise Unavailable("throttled", in_doubt=False, provider=self.name, where=where,
                                  retry_after=2.0)
            if fault is Fault.REJECTED:
                raise Rejected("refused", provider=self.name, where=where)
            if fault is Fault.IGNORED and instead is not None:
                return instead
            result = effect()
            if fault is Fault.AFTER:
                raise Unavailable("no reply in time", in_doubt=writes, provider=self.name,
                                  where=where)
            return result

    def route_state(self, ref: str) -> tuple[Shares, str]:
        lever = self._known(self._routes, ref, "route")
        return self._lies.get(ref, lever.shares), self._version(lever)

    def _version(self, lever: _Lever) -> str:
        return f"{self.boot}:{lever.version}"

    def counts(self, ref: str) -> dict[str, float]:
        return dict(self._counts.get(ref, {}))

    def set_shares(self, ref: str, to: Shares, version: str | None) -> None:
        lever = self._known(self._routes, ref, "route")
        if version is not None and version != self._version(lever) and lever.shares != to:
            raise Rejected("changed since it was read", provider=self.name, where=ref,
                           not_done="the shares were not changed")
        self._routes[ref] = _Lever(to, lever.version + 1)

    def gate_state(self, ref: str) -> bool:
        return self._known(self._gates, ref, "gate")

    def set_gate(self, ref: str, is_open: bool) -> None:
        self._known(self._gates, ref, "gate")
        self._gates[ref] = is_open

    def queue(self, ref: str) -> SimulatedQueue:
        return self._known(self._queues, ref, "queue")

    def receive(self, ref: str, limit: int, seconds: float) -> list[Message]:
        """Visible messages in order, hidden for `seconds` from now; a group with a message in
        somebody's hands is passed over on a FIFO queue."""
        queue, now = self.queue(ref), self.runtime.now()
        taken: list[Message] = []
        busy = {m.attributes.get(":group", m.item_id) for m in queue.messages
                if m.visible_at > now} if queue.fifo else set()
        for message in list(queue.messages):
            if len(taken) == limit:
                break
            if message.visible_at > now:
                continue
            if queue.fifo and message.attributes.get(":group", message.item_id) in busy:
                continue
            if queue.max_receives is not None and message.receives >= queue.max_receives:
                queue.messages.remove(message)
                queue.dead.append(message)
                continue
            message.receives += 1
            message.visible_at = now + int(seconds * SECOND)
            taken.append(message)
        return taken

    def hide(self, ref: str, handle: str, seconds: float) -> bool:
        now = self.runtime.now()
        for message in self.queue(ref).messages:
            if message.handle == handle and message.visible_at > now:
                message.visible_at = now + int(seconds * SECOND)
                return True
        return False

    def delete(self, ref: str, handle: str) -> bool:
        queue = self.queue(ref)
        for message in queue.messages:
            if message.handle == handle:
                queue.messages.remove(message)
                return True
        return False

    def deliver(self, ref: str, items: Sequence[WorkItem],
                keys: Mapping[str, str]) -> list[PutResult]:
        """Every item in one go, under a fault of the whole batch or of a part of it."""
        with self._lock:
            self.calls.append(f"put {ref}")
            fault, queue = self._next("put"), self.queue(ref)
            whole = {Fault.BEFORE: (False, "unreachable"), Fault.THROTTLED: (False, "throttled"),
                     Fault.REJECTED: (False, "refused"), Fault.LOST: (True, "no reply in time")}
            if fault in whole:
                doubt, detail = whole[fault]
                return [PutResult(item.item_id, ok=False, in_doubt=doubt, detail=detail)
                        for item in items]
            results = []
            for index, item in enumerate(items):
                if fault is Fault.PARTIAL and index % 2:
                    results.append(PutResult(item.item_id, ok=False, detail="throttled"))
                elif not item.item_id or item.item_id not in keys:
                    results.append(PutResult(item.item_id, ok=False, permanent=True,
                                             detail="it has no id or no delivery key"))
                elif fault is Fault.IGNORED:
                    results.append(PutResult(item.item_id, ok=True, target_ref="nowhere"))
                else:
                    made = self._accept(queue, item, keys[item.item_id])
                    results.append(PutResult(item.item_id, ok=True, target_ref=made))
            if fault is Fault.AFTER:
                return [PutResult(item.item_id, ok=False, in_doubt=True,
                                  detail="no reply in time") for item in items]
            return results

    def _accept(self, queue: SimulatedQueue, item: WorkItem, key: str) -> str:
        now = self.runtime.now()
        seen = queue.seen.get(key)
        if queue.fifo and seen is not None and now - seen[0] <= DEDUP_WINDOW * SECOND:
            return seen[1]
        made = self._enqueue(queue, item.body, item_id=item.item_id, submitted=item.submitted,
                             hops=item.hops, attributes=item.attributes)
        queue.seen[key] = (now, made)
        return made

    def _enqueue(self, queue: SimulatedQueue, body: bytes, *, item_id: str = "",
                 submitted: str | None = None, hops: int = 0,
                 attributes: Mapping[str, str]) -> str:
        self._made += 1
        now = self.runtime.now()
        made = Message(f"m{self._made}", body, now, now, item_id or f"m{self._made}",
                       submitted, hops, dict(attributes))
        queue.messages.append(made)
        return made.message_id

    def _next(self, operation: str) -> Fault | None:
        for name in (operation, "*"):
            waiting = self._faults.get(name)
            if waiting:
                return waiting.popleft()
        return None

    def _known(self, levers: Mapping[str, T], ref: str, what: str) -> T:
        if ref not in levers:
            raise Rejected(f"there is no {what} {ref!r}", provider=self.name, where=ref,
                           hint="check ref in the policy")
        return levers[ref]
