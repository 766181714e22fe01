"""What goes wrong, drawn from a seed: one fault at a time, at any durable write or outside call.

Every fault that struck is counted with the kind of effect that it struck, so that a thousand
seeds can show what they have covered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar, cast

from ccfailover.errors import Rejected, StoreError, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.journal import Lease
from ccfailover.model.shares import Shares
from ccfailover.runtime import SECOND, Runtime
from ccfailover.simulation.clock_sim import Chance, Killed, Process, Scheduler, Task
from ccfailover.simulation.platform import Fault, SimulatedPlatform
from ccfailover.store import Store, open_store
from ccfailover.store.db import Database, Transaction

T = TypeVar("T")
CALL_TIMEOUT = 10.0


class Strike(str, Enum):
    """BEFORE and AFTER say on which side of the effect it strikes."""

    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    PAUSE_BEFORE = "pause_before"
    PAUSE_AFTER = "pause_after"
    TIMEOUT = "timeout"
    LOST_REPLY = "lost_reply"
    LATE_REPLY = "late_reply"
    LATE_WRITE = "late_write"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    IGNORED = "ignored"
    PARTIAL = "partial"
    STORE_ERROR = "store_error"
    STORE_UNSURE = "store_unsure"
    LIE = "lie"
    FOREIGN = "foreign_move"
    CLOCK_FORWARD = "clock_forward"
    CLOCK_BACK = "clock_back"
    LEASE_LOSS = "lease_loss"
    STOP = "stop_request"


_ALWAYS = (Strike.CRASH_BEFORE, Strike.CRASH_AFTER, Strike.PAUSE_BEFORE, Strike.PAUSE_AFTER)
_READS = (*_ALWAYS, Strike.TIMEOUT, Strike.LATE_REPLY, Strike.THROTTLED, Strike.REJECTED)
_WRITES = (*_READS, Strike.LOST_REPLY, Strike.LATE_WRITE)
BY_CALL: Mapping[str, Sequence[Strike]] = {
    "read": _READS, "is_open": _READS, "measure": _READS,
    "shift": (*_WRITES, Strike.IGNORED), "set_open": (*_WRITES, Strike.IGNORED),
    "claim": _WRITES, "extend": _WRITES, "settle": (*_WRITES, Strike.IGNORED),
    "put": (*_WRITES, Strike.PARTIAL),
}
BY_STORE = ("append", "create_run", "acquire", "renew", "check_fence", "lapse", "end_run",
            "record_items", "enqueue")
BY_WRITE: Sequence[Strike] = (*_ALWAYS, Strike.STORE_ERROR, Strike.STORE_UNSURE)
WRITES = {"journal": "append", "start": "create_run", "take": "acquire", "renew": "renew",
          "check": "renew", "let": "lapse", "end": "end_run", "record": "record_items",
          "enqueue": "enqueue", "release": "release"}
"""The first word of what a transaction does → the store's method."""


class Judge(Protocol):
    """Who is told of every landing; see `judge_sim`."""

    def sent(self, operation: str, ref: str) -> Sender: ...
    def landed(self, sender: Sender, before: Shares | bool, after: Shares | bool, *,
               late: bool) -> None: ...
    def read(self, ref: str, told: Shares | bool, truth: Shares | bool) -> None: ...
    def put(self, sender: Sender, items: Sequence[WorkItem]) -> None: ...
    def deleting(self, ref: str, handle: str) -> None: ...


@dataclass(frozen=True)
class Sender:
    """Who sent a call to a lever, when, and for which step; `process` None: somebody else."""

    operation: str
    ref: str
    at: float
    process: Process | None
    task: Task | None = None
    step: str = ""
    undo: bool = False


STRIKES: Mapping[str, Sequence[Strike]] = {**BY_CALL, **dict.fromkeys(BY_STORE, BY_WRITE)}
"""Every kind of effect with the faults that can strike it."""

PAIRS: Sequence[tuple[str, Strike]] = tuple(
    (effect, strike) for effect, strikes in STRIKES.items() for strike in strikes)


ARMED: Mapping[str, float] = {
    "extend": 1.0, "is_open": 1.0, "set_open": 1.0, "lapse": 0.7, "enqueue": 0.3, "put": 0.95,
    "settle": 1.0, "acquire": 0.3, "end_run": 0.25, "record_items": 0.8, "claim": 0.95,
    "measure": 0.25, "shift": 0.5, "create_run": 0.2, "append": 0.1, "renew": 0.1, "read": 0.1,
    "check_fence": 0.2,
}
"""How many of the stories with aimed faults have one at an effect. Chosen so that
2,000 seeds strike every pair at least 20 times: what few stories meet is armed in most."""
RARE = ("extend", "set_open", "lapse", "enqueue", "put", "settle", "end_run")
"""What a story meets a few times at most: aimed at three times, among its first chances."""


class FaultPlan:
    """Some faults are aimed (a pair of effect and fault, at its nth chance), so that what is rare
    is struck as often as what is common; others strike anywhere, until `left` have struck.

    Which fault an effect is armed with goes round with the seed, so that all of them get their
    turn. One story in twelve has no aimed fault.
    """

    def __init__(self, scheduler: Scheduler, chance: Chance, calm_at: float, seed: int) -> None:
        self.scheduler, self.chance, self.calm_at = scheduler, chance, calm_at
        self.left = chance.choice([0, 0, 1, 1, 2, 3, 5])
        self.odds = chance.choice([0.005, 0.02, 0.05, 0.15])
        self._aimed: dict[tuple[str, int], Strike] = {}
        for effect, strikes in () if chance.often(0.125) else STRIKES.items():
            if not chance.often(ARMED[effect]):
                continue
            turn = seed + seed // len(strikes)
            nth = 1 + chance.below(chance.choice([1, 1, 1, 2] if effect in RARE else [1, 1, 3, 8]))
            self._aimed[(effect, nth)] = strikes[turn % len(strikes)]
            for more in (1, 2) if effect in RARE else ():
                again = nth + 2 * more - chance.below(2)
                self._aimed[(effect, again)] = strikes[(turn + 3 * more) % len(strikes)]
        for effect in RARE if seed % 2 == 0 else ():
            strikes = STRIKES[effect]
            self._aimed.setdefault((effect, 1 + seed // 26 % 2), strikes[seed // 2 % len(strikes)])
        if seed % 16 == 5:
            self._aimed[("extend", 1)] = Strike.CRASH_BEFORE  # they were the rarest of all pairs
        if seed % 64 == 13:
            self._aimed[("extend", 1)] = Strike.PAUSE_AFTER
        self.faultless = False
        self.frozen = 0
        """How many processes stand still."""
        self.struck: Counter[tuple[str, str]] = Counter()
        self.met: Counter[str] = Counter()
        self.note: Callable[[str], None] = lambda text: None
        self.watch: Callable[[str, bool], None] = lambda doing, written: None
        """Told of each durable write: just before it is made, and once it is on disk."""

    def none(self) -> None:
        """Nothing will go wrong."""
        self.faultless = True
        self.left = 0
        self._aimed.clear()

    @property
    def calm(self) -> bool:
        return self.scheduler.seconds >= self.calm_at

    def draw(self, effect: str, kinds: Sequence[Strike]) -> Strike | None:
        self.met[effect] += 1
        aimed = self._aimed.pop((effect, self.met[effect]), None)
        if aimed is not None and not self.calm:
            self.tell(aimed, effect)
            return aimed
        if self.left <= 0 or self.calm or not self.chance.often(self.odds):
            return None
        self.left -= 1
        strike = self.chance.choice(kinds)
        self.tell(strike, effect)
        return strike

    def tell(self, strike: Strike, effect: str) -> None:
        self.struck[(strike.value, effect)] += 1
        self.note(f"FAULT {strike.value} at {effect}")

    def die(self) -> None:
        task = self.scheduler.task
        if task is not None and task.process is not None:
            self.scheduler.kill(task.process)
            raise Killed(task.name)

    @contextmanager
    def around(self, effect: str, doing: str) -> Iterator[None]:
        """What may strike at the store, before what is done and after it."""
        strike = self.draw(effect, BY_WRITE)
        if strike is Strike.CRASH_BEFORE:
            self.die()
        if strike is Strike.PAUSE_BEFORE:
            self.freeze()
        if strike is Strike.STORE_ERROR:
            self.trouble()
            raise StoreError("the disk failed to write", not_done=f"{doing}: nothing was written")
        yield
        if strike is Strike.CRASH_AFTER:
            self.die()
        if strike is Strike.PAUSE_AFTER:
            self.freeze()
        if strike is Strike.STORE_UNSURE:
            self.trouble()
            raise StoreError("the disk failed to say whether it has written",
                             not_done=f"{doing}: it is not certain whether it was written")

    def trouble(self) -> None:
        """The store fails the process at work, which may lose its lease for that."""
        task = self.scheduler.task
        if task is not None and task.process is not None:
            task.process.troubled = True

    def freeze(self) -> None:
        """The process stands still with all its tasks, as SIGSTOP has it; half of the time for
        longer than its lease lasts."""
        task = self.scheduler.task
        process = task.process if task is not None else None
        seconds = self.chance.choice([3.0, 25.0, 45.0, 120.0])
        if process is not None:
            process.frozen_at = self.scheduler.seconds
            process.thaws = self.scheduler.mono + int(seconds * SECOND)
        self.frozen += 1
        try:
            self.scheduler.sleep(seconds)
        finally:
            self.frozen -= 1
        if process is not None:
            process.frozen_at = self.scheduler.seconds


class FaultyPlatform(SimulatedPlatform):
    """A platform behind a network. `cas`: whether its routes compare and set."""

    def __init__(self, runtime: Runtime, scheduler: Scheduler, faults: FaultPlan, judge: Judge,
                 *, cas: bool) -> None:
        super().__init__(runtime, "simulated")
        self.scheduler, self.faults, self.judge, self.cas = scheduler, faults, judge, cas
        self.reachable: Callable[[str], bool] = lambda ref: True
        self.kept_although: set[str] = set()
        """Messages that it said it had deleted."""

    def lying(self, ref: str) -> bool:
        return ref in self._lies

    def set_shares(self, ref: str, to: Shares, version: str | None) -> None:
        super().set_shares(ref, to, version if self.cas else None)

    def act(self, operation: str, ref: str, effect: Callable[[], T], *, instead: T | None = None,
            writes: bool = False) -> T:
        where = f"{ref} {operation}"
        sender = self.judge.sent(operation, ref)
        strike = self._reach(operation)
        if not self.reachable(ref) or strike is Strike.TIMEOUT:
            self.scheduler.sleep(CALL_TIMEOUT / 2)
            raise Unavailable("no reply in time", in_doubt=writes, provider=self.name,
                              where=where)
        if strike is Strike.LATE_WRITE:
            self.scheduler.after(self.faults.chance.between(1, 90),
                                 lambda: self._land_late(sender, effect))
            self.scheduler.sleep(CALL_TIMEOUT)
            raise Unavailable("no reply in time", in_doubt=True, provider=self.name, where=where)
        if strike is Strike.THROTTLED:
            raise Unavailable("throttled", in_doubt=False, provider=self.name, where=where,
                              retry_after=2.0)
        if strike is Strike.REJECTED:
            raise Rejected("refused", provider=self.name, where=where)
        if strike is Strike.IGNORED and instead is not None:
            if isinstance(instead, dict):
                self.kept_although.update(handle.partition("#")[0] for handle in instead)
            return instead
        result = self._land(sender, effect, late=False)
        self._come_back(strike)
        if strike is Strike.LOST_REPLY:
            self.scheduler.sleep(CALL_TIMEOUT)
            raise Unavailable("no reply in time", in_doubt=writes, provider=self.name,
                              where=where)
        return result

    def deliver(self, ref: str, items: Sequence[WorkItem],
                keys: Mapping[str, str]) -> list[PutResult]:
        self.judge.put(self.judge.sent("put", ref), items)
        strike = self._reach("put")

        def put() -> list[PutResult]:
            return super(FaultyPlatform, self).deliver(ref, items, keys)

        unheard = [PutResult(item.item_id, ok=False, in_doubt=True, detail="no reply in time")
                   for item in items]
        if not self.reachable(ref) or strike is Strike.TIMEOUT:
            self.scheduler.sleep(CALL_TIMEOUT / 2)
            return unheard
        if strike is Strike.LATE_WRITE:
            self.scheduler.after(self.faults.chance.between(1, 90), put)
            self.scheduler.sleep(CALL_TIMEOUT)
            return unheard
        if strike in (Strike.THROTTLED, Strike.REJECTED):
            return [result._replace(in_doubt=False, detail=strike.value,
                            permanent=strike is Strike.REJECTED) for result in unheard]
        if strike is Strike.PARTIAL:
            self.fail("put", Fault.PARTIAL)
        results = put()
        self._come_back(strike)
        if strike is Strike.LOST_REPLY:
            self.scheduler.sleep(CALL_TIMEOUT)
            return unheard
        return results

    def delete(self, ref: str, handle: str) -> bool:
        self.judge.deleting(ref, handle)
        return super().delete(ref, handle)

    def _reach(self, operation: str) -> Strike | None:
        """The way there: latency, others' turns, and what may stop it."""
        strike = self.faults.draw(operation, BY_CALL[operation])
        if strike is Strike.CRASH_BEFORE:
            self.faults.die()
        if strike is Strike.PAUSE_BEFORE:
            self.faults.freeze()
        self.scheduler.sleep(0.001 + 0.2 * self.scheduler.chance.random() ** 4)
        return strike

    def _come_back(self, strike: Strike | None) -> None:
        if strike is Strike.CRASH_AFTER:
            self.faults.die()
        if strike is Strike.PAUSE_AFTER:
            self.faults.freeze()
        if strike is Strike.LATE_REPLY:
            self.scheduler.sleep(self.faults.chance.between(1, CALL_TIMEOUT - 1))

    def _land(self, sender: Sender, effect: Callable[[], T], *, late: bool) -> T:
        ref = sender.ref
        if sender.operation in ("shift", "set_open"):
            before = self._truth(sender)
            result = effect()
            self.judge.landed(sender, before, self._truth(sender), late=late)
            return result
        result = effect()
        if sender.operation == "read" and isinstance(result, tuple):
            self.judge.read(ref, result[0], self.shares(ref))
        elif sender.operation == "is_open" and isinstance(result, bool):
            self.judge.read(ref, result, self.is_open(ref))
        return result

    def _land_late(self, sender: Sender, effect: Callable[[], object]) -> None:
        try:
            self._land(sender, effect, late=True)
        except Rejected:
            return  # compare-and-set has refused it: nobody is there to hear of it

    def _truth(self, sender: Sender) -> Shares | bool:
        return self.shares(sender.ref) if sender.operation == "shift" else self.is_open(sender.ref)


class FaultyDatabase:
    """Stands before a database: every durable write is a chance to die, to freeze, or to fail,
    before it and after."""

    def __init__(self, inner: Database, faults: FaultPlan) -> None:
        self._inner, self._faults = inner, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def transaction(self, doing: str, *on: Any, **more: Any) -> Iterator[Transaction]:
        effect = WRITES.get(doing.split(" ", 1)[0], "other")
        with self._faults.around(effect, doing):
            self._faults.watch(doing, False)
            with self._inner.transaction(doing, *on, **more) as tx:
                yield tx
            self._faults.watch(doing, True)


def faulty_store(runtime: Runtime, faults: FaultPlan, kind: type[Store] = Store) -> Store:
    """The real store, in memory, whose writes may fail. A look at the fence, which is no write
    as long as the lease is fresh, may fail, too."""
    class Faulty(kind):  # type: ignore[misc,valid-type]
        def check_fence(self, lease: Lease, needs: float) -> float:
            with faults.around("check_fence", f"check the lease of run {lease.run}"):
                left: float = super().check_fence(lease, needs)
                return left

    return Faulty(cast(Database, FaultyDatabase(open_store(":memory:", runtime)._db, faults)))
