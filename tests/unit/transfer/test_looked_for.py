"""Certain items are looked for in a queue that others keep coming into, and somebody works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ccfailover.model.items import ItemState, WorkItem
from tests.unit.transfer.world import Memory, World

Make = Callable[..., World]
WANTED = tuple(f"a{number}" for number in range(7))


class These:
    def judge(self, item: WorkItem) -> str | None:
        return None if item.item_id in WANTED else "was not moved by this run"


class Inflow(Memory):
    """Before every claim some more have come in, so that it never comes back empty."""

    def claim(self, limit: int) -> Sequence[WorkItem]:
        self.runtime.sleep(0.1)
        for _ in range(2):
            self.add(f"new{next(self.numbers)}")
        return super().claim(limit)


@pytest.fixture
def world(make_world: Make) -> World:
    made = make_world(batch=10)
    made.hq.__class__ = Inflow
    return made


def look(world: World):
    return world.mover(eligibility=These(), only=WANTED).run(world.runtime.monotonic() + 3600)


def test_it_ends_when_each_was_moved(world: World) -> None:
    """Though the queue is never empty; what came in meanwhile stays, and is shown again."""
    for item in WANTED:
        world.hq.add(item)
    result = look(world)
    assert result.finished
    assert result.moved == len(WANTED)
    assert world.runtime.seconds < 5
    assert not set(world.hq.ids()) & set(WANTED)
    assert all(message.visible_at <= world.runtime.seconds for message in
               world.hq.messages.values())


def test_it_ends_when_the_rest_does_not_come(world: World) -> None:
    """One is in somebody's hands: it is waited for as long as a dead process's claim lasts, and
    no longer."""
    world.hq.add("a0")
    (held,) = Memory.claim(world.hq, 1)
    world.hq.extend([held.handle], 10_000)
    for item in WANTED[1:]:
        world.hq.add(item)
    result = look(world)
    assert result.finished
    assert result.moved == len(WANTED) - 1
    assert "none that was looked for" in result.detail
    assert 45 <= world.runtime.seconds < 60  # claims last 30 s there


def test_one_that_comes_late_is_still_moved(world: World) -> None:
    """Held by a process that died: it comes back when its claim ends, and goes."""
    for item in WANTED:
        world.hq.add(item)
    Memory.claim(world.hq, 1)
    result = look(world)
    assert result.moved == len(WANTED)
    assert world.states()["a0"] is ItemState.SETTLED
