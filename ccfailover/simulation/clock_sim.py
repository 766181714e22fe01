"""Virtual time, seeded chance and tasks that take turns: one thread, replayed exactly by a seed.

A task is a generator that yields how long it rests (seconds), or the tasks that it waits for.
What a task calls may sleep, too: then the others take their turns *within* that sleep, so that
real, blocking code (a step, a mover, a retry) is interleaved without being changed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from ccfailover.runtime import SECOND

T = TypeVar("T")
R = TypeVar("R")

START: Final = 1_790_000_000 * SECOND
DEEPEST: Final = 5
"""Sleeps within sleeps; below that only the clock moves on."""
_MASK: Final = (1 << 64) - 1


class Killed(BaseException):
    """kill -9: nothing in the process sees it coming or cleans up."""


class Livelock(Exception):
    """So many turns were taken that the run will never end."""


class Chance:
    """SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every Python, for ever."""

    def __init__(self, seed: int) -> None:
        self._state = (seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & _MASK

    def bits(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def random(self) -> float:
        return (self.bits() >> 11) / (1 << 53)

    def below(self, limit: int) -> int:
        return self.bits() % limit

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def often(self, probability: float) -> bool:
        return self.random() < probability

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def weighted(self, choices: Sequence[tuple[T, float]]) -> T:
        left = self.random() * sum(weight for _, weight in choices)
        for item, weight in choices:
            left -= weight
            if left < 0:
                return item
        return choices[-1][0]


class Process:
    """What lives and dies together: its tasks, its steps, its idea of the lease."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.alive = True
        self.troubled = False
        self.frozen_at = -1.0
        """When it last woke from standing still, in virtual seconds."""
        self.thaws = 0
        """Until when (µs) all its tasks stand still."""

    def __str__(self) -> str:
        return f"p{self.number}"


Rest: TypeAlias = "float | list[Task]"
Flow: TypeAlias = Generator[Rest, None, Any]


class Task:
    def __init__(self, name: str, flow: Flow, process: Process | None) -> None:
        self.name, self.flow, self.process = name, flow, process
        self.wake = 0
        self.waits_for: list[Task] = []
        self.running = self.done = False
        self.result: Any = None
        self.error: Exception | None = None

    @property
    def due(self) -> int:
        """Not before this instant (µs)."""
        return self.wake if self.process is None else max(self.wake, self.process.thaws)

    def ready(self, now: int) -> bool:
        return (not self.done and not self.running and self.due <= now
                and all(task.done for task in self.waits_for))


class Scheduler:
    """The virtual machine: `mono` in µs since the start, the wall clock `skew` µs beside it."""

    def __init__(self, chance: Chance, *, most_turns: int = 60_000) -> None:
        self.chance = chance
        self.mono = 0
        self.skew = 0
        self.stack: list[Task] = []
        self.tasks: list[Task] = []
        self.crashes: list[tuple[Task, Exception]] = []
        self.passing: Callable[[float], None] = lambda seconds: None
        self._events: list[tuple[int, int, Callable[[], object]]] = []
        self._number = self._turns = 0
        self._most_turns = most_turns

    @property
    def task(self) -> Task | None:
        return self.stack[-1] if self.stack else None

    @property
    def seconds(self) -> float:
        return self.mono / SECOND

    def spawn(self, name: str, flow: Flow, process: Process | None = None) -> Task:
        task = Task(name, flow, process)
        task.wake = self.mono
        self.tasks.append(task)
        return task

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        self._number += 1
        at = self.mono + max(0, int(seconds * SECOND))
        heapq.heappush(self._events, (at, self._number, event))

    def kill(self, process: Process) -> None:
        """Its generators are dropped; those that are in the middle of a call die on return."""
        process.alive = False
        for task in self.tasks:
            if task.process is process and not task.running:
                task.done = True

    def run(self, until: float) -> bool:
        """Until no task is left (True), or until `until` seconds (False)."""
        end = int(until * SECOND)
        while self.mono < end:
            self.tasks = [task for task in self.tasks if not task.done]
            if not self.tasks:
                return True
            self._turn(end)
        return False

    def sleep(self, seconds: float) -> None:
        """The task that calls this rests; the others take their turns meanwhile."""
        end, task = self.mono + int(seconds * SECOND), self.task
        while self.mono < end or self._stands(task):
            if self.mono >= end and task is not None and task.process is not None:
                end = task.process.thaws
            if len(self.stack) > DEEPEST:
                self._advance(end)
            else:
                self._turn(end)
        if task is not None and task.process is not None and not task.process.alive:
            raise Killed(task.name)

    def _stands(self, task: Task | None) -> bool:
        process = task.process if task is not None else None
        return process is not None and process.alive and process.thaws > self.mono

    def _turn(self, end: int) -> None:
        self._turns += 1
        if self._turns > self._most_turns:
            raise Livelock(f"{self._turns} turns taken by {self.seconds:.0f} s")
        ready = [task for task in self.tasks if task.ready(self.mono)]
        if ready:
            self._step(self.chance.choice(ready))
            self._advance(min(end, self.mono + 1000))
            return
        wakes = [task.due for task in self.tasks
                 if not task.done and not task.running and task.due > self.mono]
        if self._events:
            wakes.append(self._events[0][0])
        self._advance(min([end, *wakes]))

    def _step(self, task: Task) -> None:
        self.stack.append(task)
        task.running = True
        try:
            rest = next(task.flow)
        except StopIteration as end:
            task.done, task.result = True, end.value
        except Killed:
            task.done = True
        except Livelock:
            raise
        except Exception as error:  # noqa: BLE001  the judge decides whether it may happen
            task.done, task.error = True, error
            self.crashes.append((task, error))
        else:
            if isinstance(rest, list):
                task.waits_for, task.wake = rest, self.mono
            else:
                task.waits_for, task.wake = [], self.mono + int(rest * SECOND)
        finally:
            task.running = False
            self.stack.pop()
        if task.process is not None and not task.process.alive:
            task.done = True

    def _advance(self, to: int) -> None:
        while self._events and self._events[0][0] <= to:
            at, _, event = heapq.heappop(self._events)
            self._pass(at)
            event()
        self._pass(to)

    def _pass(self, to: int) -> None:
        if to > self.mono:
            self.passing((to - self.mono) / SECOND)
            self.mono = to


class VirtualRuntime:
    """A Runtime whose clock, chance and threads are the scheduler's."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now(self) -> int:
        return START + self._scheduler.mono + self._scheduler.skew

    def monotonic(self) -> float:
        return self._scheduler.seconds

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(max(0.0, seconds))

    def random(self) -> float:
        return self._scheduler.chance.random()

    def new_id(self) -> str:
        return f"{self._scheduler.chance.below(1 << 16):04x}"

    def each(self, fn: Callable[[T], R], items: Sequence[T], limit: int) -> list[R]:
        """One after the other, in seeded order."""
        del limit
        left, results = list(range(len(items))), {}
        while left:
            index = left.pop(self._scheduler.chance.below(len(left)))
            results[index] = fn(items[index])
        return [results[index] for index in range(len(items))]

    def each_by(self, fn: Callable[[T], R], items: Sequence[T], limit: int,
                deadline: float) -> list[R | None]:
        found: list[R | None] = []
        for item in items:
            found.append(fn(item) if self.monotonic() < deadline else None)
        return found
