"""A lever that a person moves, beside what every route owes: tasks, their text, and their end."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.model.capabilities import combined
from ccfailover.model.policy import LeverSpec, ProviderSpec, Several
from ccfailover.model.shares import Shares
from ccfailover.providers import OurDesk, Route
from ccfailover.providers.combined import CombinedRoute
from ccfailover.providers.manual import ManualProvider
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.simulation.platform import Fault, SimulatedPlatform
from ccfailover.simulation.providers import SimulatedProvider
from ccfailover.store import Store, open_store
from ccfailover.store.by_hand import DONE, Change, Standing, change, read, tasks

ACME, HQ = Shares({"acme": 100}), Shares({"hq": 100})
LEVER = LeverSpec("resporg", "800")


class Clock(SystemRuntime):
    ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


class Room:
    """A store, and who was told of what; nobody answers by themselves."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store: Store = open_store(str(folder / "store.db"), self.clock)
        self.told: list[str] = []

    def route(self, **params: Any) -> Route:
        given = {"destinations": {"hq": "CIC 0288", "acme": "CIC 0222"}, "begins": {"hq": 100},
                 **params}
        provider = ManualProvider(ProviderSpec("resporg", "manual", given), resolve=str,
                                  runtime=self.clock)
        provider.desk = OurDesk(self.store, "dana@here[1]", self.told.append)
        return provider.route(LEVER)

    def say(self, shares: Shares) -> None:
        def confirm(now: Standing) -> Change:
            return Standing(shares=dict(shares)), DONE, {}

        change(self.store, LEVER.lever, confirm, actor="ann")


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_it_reads_the_last_word_and_says_what_is_asked(room: Room) -> None:
    """An open task shows as pending; the answer, and nothing else, changes what is read."""
    route = room.route()
    assert route.read().stands_at(HQ) and route.read().pending is None
    route.shift(ACME, expected=route.read(), key="r1/s1")
    state = route.read()
    assert (state.shares, state.pending) == (HQ, ACME)
    assert not state.stands_at(HQ) and not state.stands_at(ACME)
    room.say(ACME)
    assert route.read().stands_at(ACME) and route.read().pending is None


def test_the_same_shift_asks_once_and_tells_every_time(room: Room) -> None:
    """A process that died between the task and the message is made good by the next attempt."""
    route, before = room.route(), room.route().read()
    for _ in range(3):
        route.shift(ACME, expected=before, key="r1/s1")
    assert room.told == [LEVER.lever] * 3
    assert [record.kind for record in room.store.read("automation")
            if record.kind.startswith("by_hand")] == ["by_hand.asked"]


def test_an_expired_task_is_asked_anew(room: Room) -> None:
    route = room.route(within="1h")
    route.shift(ACME, expected=None, key="r1/s1")
    (first,) = tasks(room.store)
    room.clock.ahead = 3601 * SECOND
    route.shift(ACME, expected=None, key="r1/s1")
    (second,) = tasks(room.store)
    assert second.number == first.number + 1
    assert second.expires_at >= room.clock.now() + 3599 * SECOND


def test_taking_back_an_open_task_is_a_task(room: Room) -> None:
    """The old shares are asked for in so many words, since somebody may have begun."""
    route = room.route()
    route.shift(ACME, expected=route.read(), key="r1/s1")
    route.shift(HQ, expected=route.read(), key="r1/s1~undo")
    (task,) = tasks(room.store)
    assert (task.to, task.key) == ({"hq": 100}, "r1/s1~undo")
    assert route.read().pending == HQ and not route.read().stands_at(HQ)
    room.say(HQ)
    assert route.read().stands_at(HQ)


@pytest.mark.parametrize(("text", "told"), [
    ("Set {ref} to {shares}; it was {before}.",
     "Set 800 to CIC 0222 (acme) 100 %; it was CIC 0288 (hq) 100 %."),
    ("{lever} {unknown} {}", "resporg:800 {unknown} {}"), ("  \n x \n", "x")])
def test_the_instruction_is_filled_in(room: Room, text: str, told: str) -> None:
    room.route(instruction=text).shift(ACME, expected=None, key="k")
    assert tasks(room.store)[0].instruction == told


def test_what_fills_a_mark_is_no_mark(room: Room) -> None:
    """A name in the policy that looks like one stays as it is."""
    places = {"hq": "{ref}", "acme": "{before}"}
    room.route(destinations=places, instruction="{shares}").shift(ACME, expected=None, key="k")
    assert tasks(room.store)[0].instruction == "{before} (acme) 100 %"


def test_nobody_has_ever_said(room: Room) -> None:
    """Without `begins` it is not known, and that is no 0 and no 100."""
    route = room.route(begins={})
    with pytest.raises(Rejected, match="nobody has said yet") as caught:
        route.read()
    assert "ccfailover done resporg:800 --shares" in str(caught.value.hint)
    room.say(ACME)
    assert route.read().stands_at(ACME)


def test_a_last_word_that_the_policy_does_not_know_is_not_known(room: Room) -> None:
    """The policy's destinations may have changed since."""
    room.say(Shares({"mars": 40, "hq": 60}))
    with pytest.raises(Rejected, match="makes no sense: 40 % goes to mars"):
        room.route().read()


def test_a_beginning_that_cannot_be_is_refused(room: Room) -> None:
    with pytest.raises(UsageError, match="`begins` cannot be: shares sum to 60"):
        room.route(begins={"hq": 60})


def test_without_a_store_nothing_is_known() -> None:
    """A kind that was given no desk (a tool that only looks at kinds) says so."""
    provider = ManualProvider(ProviderSpec("resporg", "manual", {}), resolve=str,
                              runtime=SystemRuntime())
    for act in (provider.route(LEVER).read,
                lambda: provider.route(LEVER).shift(HQ, expected=None, key="k")):
        with pytest.raises(Unavailable, match="no store"):
            act()


def test_many_change_at_once_and_none_is_lost(room: Room) -> None:
    """Eight levers, eight threads: one fact holds them all, and every change is in the journal."""
    def work(number: int) -> None:
        def count(now: Standing) -> Change:
            return replace(now, evidence=f"{now.evidence}x"), DONE, {}

        for _ in range(3):
            change(room.store, f"resporg:{number}", count, actor="ann")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number in range(8):
        found = read(room.store, f"resporg:{number}")
        assert (found.evidence, found.number) == ("xxx", 3)
    kinds = [record.kind for record in room.store.read("automation")]
    assert kinds.count("by_hand.done") == kinds.count("fact.set") == 24


def test_the_step_waits_as_long_as_the_task() -> None:
    """`within` is the deadline of the step, by the lever's own block where it has one."""
    able = ManualProvider.capabilities
    assert able({}).by_hand == 14_400
    assert able({"within": "1h"}, {"ref": "800", "within": "5m"}).by_hand == 300
    assert able({"role": "telecom"}).rights == ("the role telecom",)


def both(room: Room, edge: SimulatedProvider, combine: str) -> CombinedRoute:
    """A switch and a person together, the switch first."""
    parts = (LeverSpec("edge", "loans"), LEVER)
    several = Several(combine, parts, rest=HQ, through="hq", split="edge:loans")
    can = {part.lever: kind.capabilities({"destinations": ["hq", "acme"]} if kind is
                                         SimulatedProvider else
                                         {"destinations": {"hq": "x", "acme": "y"}})
           for part, kind in zip(parts, (SimulatedProvider, ManualProvider), strict=True)}
    whole = combined(LeverSpec("", "", several=several), lambda part: can[part.lever])
    assert whole.by_hand == 14_400
    return CombinedRoute(several, [edge.route(parts[0]), room.route()],
                         lambda part: can[part.lever])


@pytest.fixture
def edge(room: Room) -> SimulatedProvider:
    platform = SimulatedPlatform(room.clock, "edge")
    platform.add_route("loans", {"hq": 100})
    return SimulatedProvider(ProviderSpec("edge", "simulated", {"destinations": ["hq", "acme"]}),
                             resolve=str, runtime=room.clock, platform=platform)


def test_a_person_takes_over_from_a_switch_that_is_gone(room: Room,
                                                        edge: SimulatedProvider) -> None:
    """As a fall-back: asked when the switch fails, asked back as soon as it takes writes again."""
    route = both(room, edge, "replace")
    edge.platform.fail("read", Fault.BEFORE, times=3)
    before = route.read()
    route.shift(ACME, expected=before, key="k")
    state = route.read()
    assert (state.shares, state.pending, state.stands_at(ACME)) == (HQ, ACME, False)
    room.say(ACME)
    assert route.read().stands_at(ACME) and route.read().by == LEVER.lever
    route.shift(ACME, expected=route.read(), key="k2")
    assert tasks(room.store)[0].to == {"hq": 100}


def test_a_product_waits_for_the_person_in_it(room: Room, edge: SimulatedProvider) -> None:
    """Both are in the path: what was asked of the person is still to come, back to hq, too."""
    route = both(room, edge, "multiply")
    route.shift(ACME, expected=route.read(), key="k")
    assert route.read().shares == ACME and not route.read().stands_at(ACME)
    route.shift(HQ, expected=route.read(), key="k~undo")
    assert route.read().shares == HQ and not route.read().stands_at(HQ)
    room.say(HQ)
    assert route.read().stands_at(HQ)
