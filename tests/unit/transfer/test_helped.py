"""A move with helpers: what they leave to the run's own mover, and how a run looks after them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ccfailover.errors import Unavailable
from ccfailover.transfer.fanout import Open, Token, has_policy, place_of, who, worker_name
from ccfailover.transfer.helper import Helper
from ccfailover.transfer.pace import SHORT, Pace, Turn
from ccfailover.transfer.spread import GRACE, ITEMS, LEAST, SECONDS, STALLED, Spread, outwait
from tests.unit.transfer.world import (
    ByField,
    Fate,
    Killed,
    Mortal,
    MortalStore,
    VirtualRuntime,
    World,
    queue,
    site,
)

TOKEN = Token("r1", "2-transfer", "r1", 7, "applications", "hq", "acme", "ab" * 32, None, 100, 10.0)


def helper(world: World, fate: Fate | None = None, **more: object) -> Helper:
    fate = fate or Fate()
    values: dict[str, object] = dict(
        store=MortalStore(world.store, fate), lease=None, run="r1", step="2-transfer",
        queue=queue(), source_site="hq", target_site=site("acme"), eligibility=ByField(),
        runtime=world.runtime, target_capabilities=world.acme.capabilities, batch=world.batch)
    return Helper(Mortal(world.hq, fate, "source"), Mortal(world.acme, fate, "target"),
                  **{**values, **more})  # type: ignore[arg-type]


def filled(count: int = 12, stay: int = 3, **more: object) -> World:
    world = World(**more)  # type: ignore[arg-type]
    for number in range(count):
        world.hq.add(f"a{number}")
    for number in range(stay):
        world.hq.add(f"s{number}", fields={"stay": "not licensed"})
    return world


def at(world: World, seconds: float = 10.0) -> float:
    return world.runtime.monotonic() + seconds


# --- the helper ---------------------------------------------------------------------------------


def test_a_helper_does_its_part_and_leaves_the_rest() -> None:
    """No more than it was asked for; and nothing is waited for where nothing comes."""
    world = filled()
    one = helper(world)
    part = one.part(5, at(world))
    assert (part.taken, part.why) == (5, "its part is done")
    assert len(world.acme.ids()) == 5
    part = one.part(100, at(world))
    assert (part.taken, part.why) == (10, "nothing more came")
    began = world.runtime.monotonic()
    assert one.part(100, at(world)).taken == 0
    assert world.runtime.monotonic() - began < 1.0


def test_what_stays_is_looked_at_once_by_all_together() -> None:
    """A helper keeps it hidden from the next one, and the run's own mover takes that over."""
    world = filled(stay=3)
    first, second = helper(world), helper(world)
    first.part(6, at(world))
    for _ in range(8):  # eight times the life of a claim, between two parts
        world.runtime.sleep(10)
        first.keep()
    second.part(100, at(world))
    result = world.move()
    assert result.complete and result.moved == 12
    assert [message.receives for message in world.hq.messages.values()] == [1, 1, 1]
    assert sorted(world.acme.puts) == sorted(world.acme.ids())
    assert all(message.visible_at <= world.runtime.seconds
               for message in world.hq.messages.values())


def test_a_helper_touches_no_open_row_of_another() -> None:
    """It may be another worker's, at work just now: only the run's own mover takes it up."""
    world = filled(stay=0)
    with pytest.raises(Killed):
        helper(world, Fate(at=2)).part(3, at(world))  # claimed, written down, not put
    (claimed,) = {row.state.value for row in world.store.items()}
    assert claimed == "claimed"
    hidden = [message.visible_at for message in world.hq.messages.values()]
    helper(world).part(100, at(world))
    assert [message.visible_at for message in world.hq.messages.values()] == hidden[:3]
    result = world.move()
    assert result.complete and result.moved == 12
    assert sorted(world.acme.puts) == sorted(world.acme.ids())


@pytest.mark.parametrize("seed", range(20))
def test_helpers_that_die_anywhere_lose_and_double_nothing(seed: int) -> None:
    """Three of them take turns and are killed at random calls; the run's own mover ends it."""
    dice = random.Random(seed)
    world = filled(count=30, stay=4, window=None)
    for _ in range(6):
        fate = Fate(at=dice.randrange(30), after=dice.random() < 0.5)
        try:
            helper(world, fate).part(dice.randrange(1, 15), at(world))
        except Killed:
            world.runtime.sleep(dice.choice((0.0, 10.0, 31.0)))
    result = world.move()
    assert result.complete and result.remaining_claimed == 0 and result.stranded == 0
    assert world.acme.ids() == sorted(f"a{n}" for n in range(30))
    assert world.hq.ids() == ["s0", "s1", "s2", "s3"]
    states = {name: state.value for name, state in world.states().items()}
    assert states == {f"a{n}": "settled" for n in range(30)} | {f"s{n}": "left" for n in range(4)}


# --- the pace -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_movers_that_share_a_pace_keep_it_together(seed: int) -> None:
    """Three of them in one line: in no second goes more than the rate and a batch of each."""
    dice, world = random.Random(seed), World()
    rate, clocks, sent = 50.0, [VirtualRuntime() for _ in range(3)], list[tuple[float, int]]()
    paces = [Pace(rate, clock, Turn(world.store, "bpo")) for clock in clocks]
    for _ in range(120):
        one = min(range(3), key=lambda each: clocks[each].seconds)
        # The store's clock is that of whoever asks it: time has come to where this one is.
        world.runtime.seconds = max(world.runtime.seconds, clocks[one].seconds)
        clocks[one].seconds = world.runtime.seconds
        count = dice.randrange(1, paces[one].most(1000, 60.0) + 1)
        paces[one].turn(count, lambda: None)
        sent.append((clocks[one].seconds, count))
        clocks[one].seconds += dice.random() * 0.02
    for start, _ in sent:
        assert sum(n for when, n in sent if start <= when < start + 1) <= rate * (1 + 3 * SHORT)
    assert sum(n for _, n in sent) / max(when for when, _ in sent) > 0.9 * rate


def test_a_pace_of_another_provider_is_its_own() -> None:
    """And what nobody used is not saved up."""
    world = World()
    store = world.store
    assert store.reserve("a", 10, 10.0) == 0
    assert store.reserve("a", 10, 10.0) == pytest.approx(1.0)
    assert store.reserve("b", 1, 10.0) == 0
    world.runtime.sleep(60)
    assert store.reserve("a", 10, 10.0) == 0
    assert store.reserve("a", 10, 10.0) == pytest.approx(1.0)


# --- the run's side -----------------------------------------------------------------------------


class Crew:
    """A `FanOut` of workers that move so many items a second each, as far as they live."""

    def __init__(self, runtime: VirtualRuntime, workers: int, waiting: int,
                 speed: float = 500.0) -> None:
        self.runtime, self.alive, self.left, self.speed = runtime, workers, waiting, speed
        self.tokens: list[str] = []
        self.begun: dict[int, float] = {}
        self.offered: list[tuple[int, Token]] = []
        self.moved = self.swept = self.died = 0
        self.forgotten = False
        self.broken: Unavailable | None = None
        self._at = runtime.seconds

    def _work(self) -> None:
        passed, self._at = self.runtime.seconds - self._at, self.runtime.seconds
        at_work = [n for n, state in enumerate(self.tokens) if state == "at work"]
        for number in at_work[:self.alive]:
            take = min(self.left, int(self.speed * passed))
            self.left -= take
            self.moved += take
            if not self.left or self.runtime.seconds - self.begun[number] >= SECONDS:
                self.tokens[number] = "done"
        room = self.alive - sum(state == "at work" for state in self.tokens)
        for number, state in enumerate(self.tokens):
            if state == "waiting" and room > 0:
                self.tokens[number], self.begun[number] = "at work", self.runtime.seconds
                room -= 1

    def workers(self) -> int:
        return self.alive

    def offer(self, prefix: str, tokens: Sequence[Token], first: int) -> None:
        assert prefix == TOKEN.prefix and first == len(self.tokens)
        if self.broken is not None:
            raise self.broken
        self.tokens += ["waiting"] * len(tokens)
        self.offered += list(enumerate(tokens, first))

    def open(self, prefix: str) -> Open:
        self._work()
        return Open(self.tokens.count("waiting"), self.tokens.count("at work"))

    def _dead(self) -> list[int]:
        return [n for n, state in enumerate(self.tokens) if state == "at work"][self.alive:]

    def sweep(self, prefix: str) -> int:
        dead = self._dead()
        for number in dead:
            self.tokens[number] = "waiting"
        self.swept += len(dead)
        return len(dead)

    def cancel(self, prefix: str) -> int:
        dead = self._dead()
        self.tokens = ["done" if state == "waiting" or number in dead else state
                       for number, state in enumerate(self.tokens)]
        self.died += len(dead)
        return len(dead)

    def forget(self, prefix: str) -> None:
        assert set(self.tokens) <= {"done"}
        self.forgotten = True


class Watched:
    """A spread with what it was told, and when it was asked to stop."""

    def __init__(self, workers: int = 2, waiting: int = 30_000, **more: float) -> None:
        self.runtime = VirtualRuntime()
        self.crew = Crew(self.runtime, workers, waiting, **more)
        self.stop_at = float("inf")
        self.notes: list[str] = []
        self.spread = Spread(
            self.crew, TOKEN, runtime=self.runtime, depth=lambda: self.crew.left,
            done=lambda: self.crew.moved, stop=lambda: self.runtime.seconds >= self.stop_at,
            check_fence=lambda: None,
            progress=lambda done, total, note: self.notes.append(f"{done} {note}"))

    def run(self, seconds: float = 3600.0) -> bool:
        return self.spread.run(self.runtime.monotonic() + seconds)


def test_workers_carry_it_until_too_little_is_left() -> None:
    """Each finds a token whenever it has done with one; at the end nothing is open."""
    watched = Watched()
    assert watched.run()
    assert watched.crew.moved > 30_000 - LEAST
    assert watched.runtime.seconds < 30_000 / 1000 * 1.25
    assert {token.items for _, token in watched.crew.offered} == {ITEMS}
    assert watched.crew.forgotten and "2 workers, 2 at work" in " ".join(watched.notes)


@pytest.mark.parametrize(("workers", "waiting"), [(0, 30_000), (3, LEAST - 1)])
def test_without_workers_or_with_little_to_do_nothing_is_offered(
    workers: int, waiting: int
) -> None:
    """The run begins at once."""
    watched = Watched(workers, waiting)
    assert watched.run() and not watched.crew.tokens and watched.runtime.seconds == 0


def test_a_slice_ends_in_time_and_is_taken_up_again() -> None:
    """The engine looks in between; nothing is offered twice."""
    watched = Watched()
    slices = 1
    while not watched.run(5.0):
        slices += 1
    assert slices > 3
    assert [number for number, _ in watched.crew.offered] == list(range(len(watched.crew.offered)))


def test_asked_to_stop_it_waits_for_those_at_work() -> None:
    """None that waits is begun; what is at work ends by itself within its time."""
    watched = Watched()
    watched.stop_at = 3.0
    assert watched.run()
    assert 3.0 <= watched.runtime.seconds <= 3.0 + SECONDS + 1
    assert watched.crew.left > LEAST and watched.crew.forgotten


def test_what_a_dead_worker_had_is_offered_anew() -> None:
    """Another one takes it; the run does not touch its items before it surely is dead."""
    watched = Watched()
    watched.run(4.0)
    watched.crew.alive = 1
    assert watched.run()
    assert watched.crew.swept == 1 and watched.crew.moved > 30_000 - LEAST


def test_when_all_workers_die_the_run_goes_on_after_a_while() -> None:
    """At once would be too early for one that only lost its connection."""
    watched = Watched()
    watched.run(4.0)
    watched.crew.alive, died = 0, watched.runtime.seconds
    assert watched.run()
    assert watched.crew.died == 2
    assert GRACE <= watched.runtime.seconds - died < GRACE + 2


def test_workers_that_bring_nothing_forward_are_called_off() -> None:
    """They are alive and at it, and nothing happens: the run does it by itself."""
    watched = Watched(speed=0.0)
    assert watched.run()
    assert watched.runtime.seconds < STALLED + 2 * SECONDS and watched.crew.forgotten


def test_one_that_does_not_come_to_an_end_stops_the_step() -> None:
    """Nobody may work on what it holds: said, with what to do."""
    watched = Watched(waiting=10**9)
    watched.crew.begun = _Never()  # type: ignore[assignment]
    watched.stop_at = 2.0
    with pytest.raises(Unavailable) as caught:
        watched.run()
    assert "do not come to an end" in str(caught.value) and caught.value.hint


class _Never(dict[int, float]):
    """Nothing was ever begun long enough ago."""

    def __getitem__(self, key: int) -> float:
        return float("inf")


@pytest.mark.parametrize("in_doubt", [False, True])
def test_where_nothing_can_be_handed_out_the_run_goes_on_alone(in_doubt: bool) -> None:
    """This machine lacks what dispatches, say. But what may have been handed out is not left."""
    watched = Watched()
    watched.crew.broken = Unavailable("not installed", in_doubt=in_doubt)
    if in_doubt:
        with pytest.raises(Unavailable):
            watched.run()
        watched.crew.broken = None
    assert watched.run()
    assert bool(watched.crew.offered) is in_doubt


def test_before_another_attempt_the_workers_of_the_last_are_waited_for() -> None:
    """Under whatever fence they are: what they have in hand may be what is in doubt."""
    watched = Watched()
    watched.run(3.0)
    runtime = watched.runtime
    assert outwait(watched.crew, TOKEN, runtime, runtime.seconds + 60)
    assert set(watched.crew.tokens) == {"done"} and runtime.seconds < 3.0 + SECONDS + 1
    watched.crew.alive = 0
    assert outwait(watched.crew, TOKEN, runtime, runtime.seconds)


# --- tokens -------------------------------------------------------------------------------------


def test_a_token_is_read_back_as_it_was_written() -> None:
    """And anything else is refused, whoever has put it into the queue."""
    assert Token.from_json(TOKEN.to_json()) == TOKEN
    paced = replace(TOKEN, rate=2.5)
    assert Token.from_json(paced.to_json()) == paced
    good = TOKEN.to_json()
    for wrong in (None, [], "x", {}, {**good, "more": 1}, {**good, "fence": "7"},
                  {**good, "items": 0}, {**good, "items": 1.5}, {**good, "rate": -1},
                  {**good, "run": ""}, {**good, "step": "x" * 301}, {**good, "fence": True},
                  {**good, "seconds": float("inf")}, {**good, "queue": None}):
        with pytest.raises(ValueError, match="not a token"):
            Token.from_json(wrong)


def test_ids_tell_steps_and_holders_apart() -> None:
    """A later holder's tokens are no repetition of an earlier one's."""
    later = replace(TOKEN, fence=8)
    assert later.prefix != TOKEN.prefix and later.of_step == TOKEN.of_step
    assert not replace(TOKEN, step="2-transfer-x").prefix.startswith(TOKEN.of_step)


def test_workers_are_told_apart_by_their_policy() -> None:
    """A run counts those that have its own."""
    mine, other = worker_name("a" * 64, "db1:1"), worker_name("b" * 64, "db2:1")
    assert has_policy(mine, "a" * 64) and not has_policy(other, "a" * 64)
    assert place_of(mine) == "db1:1"
    assert who([mine, other], "a" * 64) == (["db1:1"], ["db2:1"])
