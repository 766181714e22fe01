"""kill -9 before and after every durable write and every external effect, once and twice.

The undisturbed move is counted first; then one is killed at its first call, the next at its
second, and so on: a loop, not a sample. A fresh Mover takes over each time, with what the store
and the platforms then hold and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ccfailover.model.items import ItemState
from tests.unit.transfer.world import Fate, World

Make = Callable[..., World]

ELIGIBLE = ["a0", "a1", "a2", "a3"]


def fill(world: World) -> None:
    for name in ELIGIBLE:
        world.hq.add(name)
    world.hq.add("a1")
    world.hq.add("no", fields={"stay": "no licence"})
    world.hq.add("", b"garbage", problem="not JSON")


def check(world: World, story: object, *, idempotent: bool) -> None:
    """Nothing lost, nothing silently doubled, everything in the ledger."""
    there, here = Counter(world.acme.ids()), Counter(world.hq.ids())
    assert set(there) == set(ELIGIBLE), story
    assert here == Counter({"no": 1, "": 1}), story
    doubled = {name for name, count in there.items() if count > 1}
    assert doubled <= world.listed(), story
    if idempotent:
        assert not doubled and not world.listed(), story
    states = Counter(world.states().values())
    assert states == {ItemState.SETTLED: 5, ItemState.LEFT: 1, ItemState.QUARANTINED: 1}, story
    assert world.hq.measure().hidden == 0, story


def calls_of(make_world: Make, window: float) -> int:
    world, fate = make_world(window=window), Fate()
    fill(world)
    world.move(fate)
    return len(fate.calls)


def deaths(calls: int) -> Iterator[tuple[int, bool]]:
    return ((at, after) for at in range(calls) for after in (False, True))


@pytest.mark.parametrize("window", [-1.0, 300.0])
@pytest.mark.parametrize("away", [0.0, 45.0])
def test_killed_once_anywhere(make_world: Make, window: float, away: float) -> None:
    """One death at any point, resumed at once or after every claim has ended: the end state is
    that of the undisturbed move; an idempotent target has no duplicate, another's are listed."""
    calls = calls_of(make_world, window)
    assert calls > 15
    for at, after in deaths(calls):
        world = make_world(window=window)
        fill(world)
        fate = Fate(at, after=after)
        assert not world.survives(fate)
        world.runtime.sleep(away)
        world.move()
        check(world, (fate.calls[-1], at, after), idempotent=window > 0)
        world.close()


@pytest.mark.parametrize("window", [-1.0, 300.0])
def test_killed_twice_anywhere(make_world: Make, window: float) -> None:
    """A second death anywhere in the resumed move changes nothing of that."""
    for at, after in deaths(calls_of(make_world, window)):
        second = 0
        while True:
            world = make_world(window=window)
            fill(world)
            world.survives(Fate(at, after=after))
            fate = Fate(second // 2, after=bool(second % 2))
            ended = world.survives(fate)
            if not ended:
                world.move()
            check(world, (at, after, second, fate.calls[-1]), idempotent=window > 0)
            world.close()
            if ended:
                break
            second += 1


@pytest.mark.parametrize("window", [-1.0, 300.0])
def test_killed_on_the_way_home(make_world: Make, window: float) -> None:
    """The return is as safe as the way out: each item is home once or listed, and the first
    run's rows say returned."""

    def out() -> World:
        world = make_world(window=window)
        world.hq.window = window
        for name in ELIGIBLE:
            world.hq.add(name)
        world.move()
        return world

    world, fate = out(), Fate()
    world.move(fate, run="r2", home=True)
    for at, after in deaths(len(fate.calls)):
        world = out()
        assert not world.survives(Fate(at, after=after), run="r2", home=True)
        world.move(run="r2", home=True)
        home = Counter(world.hq.ids())
        assert set(home) == set(ELIGIBLE) and world.acme.ids() == []
        assert {name for name, count in home.items() if count > 1} <= world.listed()
        if window > 0:
            assert not world.listed() and max(home.values()) == 1
        assert set(world.states().values()) == {ItemState.RETURNED}, (at, after)
        world.close()


@pytest.mark.parametrize("window", [-1.0, 300.0])
def test_killed_on_the_way_out_and_again_on_the_way_home(make_world: Make, window: float) -> None:
    """The first run is never resumed, but superseded by one that brings everything home and dies,
    too. Carried to its end after that, as an undo does, the first must not believe a target that
    swallows its put as a repetition: what it had been given has been taken away since."""
    world = make_world(window=window)
    for name in ELIGIBLE:
        world.hq.add(name)
    puts = Fate()
    world.move(puts)
    last = [at for at, call in enumerate(puts.calls) if call == "target.put"][-1]
    for way_home in deaths(30):
        world = make_world(window=window)
        world.hq.window = window
        for name in ELIGIBLE:
            world.hq.add(name)
        assert not world.survives(Fate(last, after=True))
        world.runtime.sleep(31)
        world.survives(Fate(way_home[0], after=way_home[1]), run="r2", home=True)
        world.runtime.sleep(31)
        world.move()
        assert set(world.hq.ids()) | set(world.acme.ids()) >= set(ELIGIBLE), way_home
        world.close()


def test_the_window_runs_from_the_first_put(make_world: Make) -> None:
    """A repetition after the target's window is a possible duplicate, also when an attempt in
    between was swallowed: the window never restarts in our books."""
    world = make_world(window=300.0)
    world.hq.add("a1")
    assert not world.survives(Fate(2, after=True))
    world.runtime.sleep(200)
    fate = Fate(2, after=True)
    assert not world.survives(fate)
    assert fate.calls[-1] == "target.put" and world.acme.ids() == ["a1"]
    world.runtime.sleep(150)
    result = world.move()
    assert world.acme.ids() == ["a1", "a1"]
    assert result.possible_duplicates == 1 and world.listed() == {"a1"}


def test_a_slow_repetition_is_judged_by_when_it_landed(make_world: Make) -> None:
    """Sent inside the target's window and landed after it: two are there, so it is listed."""
    world = make_world(window=40.0)
    world.hq.add("a1")
    world.acme.refuse["a1"] = ["doubt"]
    world.acme.delays = [0.0, 20.0]
    world.hq.claim_seconds = 300.0
    result = world.move()
    assert world.acme.ids() == ["a1"] and result.possible_duplicates == 0
    world.hq.add("a2")
    world.acme.refuse["a2"] = ["doubt", "transient"]
    world.acme.delays = [0.0, 30.0, 30.0]
    result = world.move()
    assert world.acme.ids().count("a2") == 2 and world.listed() == {"a2"}


def test_a_late_repetition_is_listed_even_if_the_first_never_landed(make_world: Make) -> None:
    """After the window nobody can tell, so it is listed."""
    world = make_world(window=300.0)
    world.hq.add("a1")
    assert not world.survives(Fate(2))
    world.runtime.sleep(301)
    assert world.move().possible_duplicates == 1
    assert world.acme.ids() == ["a1"]


def test_a_second_put_is_listed_before_it_is_sent(make_world: Make) -> None:
    """Killed between the note and the second put: the note is there already."""
    world = make_world()
    world.hq.add("a1")
    assert not world.survives(Fate(2, after=True))
    world.runtime.sleep(60)
    fate = Fate(2)
    assert not world.survives(fate)
    assert fate.calls[-1] == "target.put" and world.listed() == {"a1"}


@pytest.mark.parametrize("away", [0.0, 45.0])
def test_killed_anywhere_with_a_source_that_says_yes(make_world: Make, away: float) -> None:
    """The same, where the source answers yes to every old handle and deletes nothing."""
    for at, after in deaths(calls_of(make_world, 300.0)):
        world = make_world(window=300.0)
        world.hq.lying = True
        fill(world)
        world.survives(Fate(at, after=after))
        world.runtime.sleep(away)
        world.move()
        check(world, (at, after), idempotent=True)
        world.close()


@pytest.mark.parametrize("worked", [True, False])
def test_a_copy_that_others_may_have_worked_is_listed(make_world: Make, worked: bool) -> None:
    """Killed between put and settle; the claim lapses, the source's own consumers take the item.
    The ledger cannot see that: it lists the item, unless nobody is at work there."""
    for at, after in deaths(calls_of(make_world, 300.0)):
        world = make_world(window=300.0)
        world.hq.add("a1")
        world.survives(Fate(at, after=after))
        if world.states().get("a1") is ItemState.DELIVERED and world.hq.messages:
            world.runtime.sleep(60)
            world.hq.messages.clear()
            assert world.move(worked=lambda: worked).moved == 1
            assert (world.listed() == {"a1"}) is worked
            return
        world.close()
    raise AssertionError("no death between put and settle")


def test_in_doubt_and_never_seen_again(make_world: Make) -> None:
    """Killed before the put, and meanwhile somebody else took the item: it stays in doubt in the
    ledger, and the result says so; nothing is invented."""
    world = make_world()
    world.hq.add("a1")
    assert not world.survives(Fate(2))
    world.hq.messages.clear()
    result = world.move()
    assert (result.moved, result.remaining_claimed) == (0, 1)
    assert "1 in doubt" in result.detail
    assert world.states() == {"a1": ItemState.CLAIMED}


def test_killed_and_then_the_source_dies(make_world: Make) -> None:
    """Resume against a dead source: what was delivered is stranded, what was claimed in doubt."""
    world = make_world()
    for name in ELIGIBLE:
        world.hq.add(name)
    assert not world.survives(Fate(4))
    world.hq.dead = True
    result = world.move()
    assert result.source_dead and (result.moved, result.stranded) == (3, 3)
    assert world.runtime.seconds < 20


def test_resume_tries_again_what_the_target_refused(make_world: Make) -> None:
    """A person repairs the target and resumes: what it refused goes now, and its twin with it."""
    world = make_world()
    world.hq.add("a1")
    world.hq.add("a1")
    world.hq.add("a2")
    world.acme.refuse["a1"] = ["permanent"]
    first = world.move()
    assert (first.moved, sum(first.left.values())) == (1, 2)
    again = world.move()
    assert (again.moved, again.left, again.duplicates_collapsed) == (2, {}, 1)
    assert world.hq.ids() == [] and world.acme.ids() == ["a1", "a2"]


def test_resume_takes_over_what_is_still_hidden(make_world: Make) -> None:
    """Resumed at once, the move keeps the claims of its dead predecessor on what stays: no
    second look, no second receive."""
    world = make_world()
    world.hq.add("no", fields={"stay": "no"})
    for name in ELIGIBLE:
        world.hq.add(name)
    fate = Fate(5, after=True)
    assert not world.survives(fate)
    assert fate.calls[-1] == "record settled"
    world.move()
    assert [m.receives for m in world.hq.messages.values()] == [1]
