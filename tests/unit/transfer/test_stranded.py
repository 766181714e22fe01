"""A home that comes back is cleared of what its outsourcer has, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ccfailover.errors import Refused
from ccfailover.model.items import ItemState
from ccfailover.transfer.stranded import ClearResult, clear_stranded, stranded_rows
from tests.unit.transfer.world import QUEUE, Fate, Killed, Mortal, MortalStore, World, queue

Make = Callable[..., World]


def strand(make_world: Make) -> World:
    """Three delivered and stranded, three never reached; then home is back."""
    world = make_world()
    for number in range(6):
        world.hq.add(f"a{number}")
    world.hq.dead_settle = True
    assert world.move().stranded == 3
    world.hq.dead = world.hq.dead_settle = False
    world.runtime.sleep(300)
    return world


def clear(world: World, fate: Fate | None = None, **more: object) -> ClearResult:
    fate = fate or Fate()
    values: dict[str, object] = dict(
        site="hq", run="r2", lease=None, runtime=world.runtime, batch=2,
        deadline=world.runtime.monotonic() + 3600)
    return clear_stranded(MortalStore(world.store, fate), Mortal(world.hq, fate, "home"), queue(),
                          **{**values, **more})  # type: ignore[arg-type]


def test_a_copy_that_its_source_will_not_delete_is_stranded(make_world: Make) -> None:
    """It is hidden in our own hands, so that nothing else is counted there; given back, it shows
    again. That is no deletion."""
    world = make_world(batch=10)
    for number in range(3):
        world.hq.add(f"a{number}")
    world.hq.keeps = {"a1"}
    result = world.move()
    assert (result.moved, result.stranded) == (3, 1)
    assert world.states() == {"a0": ItemState.SETTLED, "a1": ItemState.STRANDED,
                              "a2": ItemState.SETTLED}
    assert world.hq.ids() == ["a1"]


def test_only_what_was_delivered_is_deleted(make_world: Make) -> None:
    """The stranded copies go; home's own items stay, looked at once and shown again."""
    world = strand(make_world)
    assert len(stranded_rows(world.store, QUEUE, "hq")) == 3
    result = clear(world)
    assert result.deleted == ("a0", "a1", "a2") and result.complete
    assert world.hq.ids() == ["a3", "a4", "a5"] and world.hq.measure().hidden == 0
    assert set(world.states().values()) == {ItemState.SETTLED}
    assert stranded_rows(world.store, QUEUE, "hq") == []


def test_nothing_is_claimed_when_nothing_is_stranded(make_world: Make) -> None:
    """Without such copies in the ledger no item of home's is touched."""
    world = make_world()
    world.hq.add("a1")
    assert clear(world).complete
    assert world.hq.claims == []


def test_the_same_application_with_another_message_is_not_ours(make_world: Make) -> None:
    """New work at home on a stranded application is given back, not deleted."""
    world = strand(make_world)
    world.hq.add("a0", b"new work")
    result = clear(world)
    assert result.complete
    assert [m.item.body for m in world.hq.messages.values() if m.item.item_id == "a0"] == [
        b"new work"]


def test_a_copy_that_is_gone_is_proven_so(make_world: Make) -> None:
    """When the source holds no copy any more, an empty source proves it and the row is settled.
    Who took it cannot be told: its site was back, so that its own people may have worked it."""
    world = strand(make_world)
    for message in [k for k, m in world.hq.messages.items() if m.item.item_id == "a1"]:
        del world.hq.messages[message]
    result = clear(world)
    assert (result.deleted, result.gone, result.complete) == (("a0", "a2"), ("a1",), True)
    assert world.listed() == {"a1"}
    assert "may have been worked there" in world.row("a1").reason


def test_what_a_consumer_holds_is_still_waiting(make_world: Make) -> None:
    """A stranded copy in somebody's hands is not taken for gone: the consumers must wait."""
    world = strand(make_world)
    held = world.hq.claim(1)[0].handle
    world.hq.extend([held], 10_000)
    result = clear(world)
    assert (result.waiting, result.complete) == (("a0",), False)
    assert "do not start its consumers" in result.detail
    assert world.row("a0").state is ItemState.STRANDED


def test_a_dead_home_is_not_cleared(make_world: Make) -> None:
    """A home that does not answer stays uncleared, within the bound."""
    world = strand(make_world)
    world.hq.dead = True
    began = world.runtime.monotonic()
    result = clear(world)
    assert (len(result.waiting), result.source_dead, result.complete) == (3, True, False)
    assert world.runtime.monotonic() - began < 20


def test_one_look_a_claim_is_refused(make_world: Make) -> None:
    """Where one claim would put home's own items aside, nothing is claimed."""
    world = strand(make_world)
    world.hq.most = 1
    before = len(world.hq.claims)
    with pytest.raises(Refused):
        clear(world)
    assert len(world.hq.claims) == before


def test_killed_anywhere(make_world: Make) -> None:
    """A death at any point of the clearing, and another clearing: the same end."""
    world, fate = strand(make_world), Fate()
    clear(world, fate)
    for at in range(len(fate.calls)):
        for after in (False, True):
            world = strand(make_world)
            with pytest.raises(Killed):
                clear(world, Fate(at, after=after))
            assert clear(world).complete
            assert world.hq.ids() == ["a3", "a4", "a5"], (at, after)
            assert set(world.states().values()) == {ItemState.SETTLED}
            world.close()


def test_after_clearing_the_return_goes_through(make_world: Make) -> None:
    """Strand, clear, return: each application is home exactly once."""
    world = strand(make_world)
    clear(world)
    assert world.move(run="r3", home=True).moved == 3
    assert world.hq.ids() == [f"a{number}" for number in range(6)] and world.acme.ids() == []


def test_a_slow_home_that_says_yes_is_not_believed(make_world: Make) -> None:
    """A delete by a claim that has ended may have deleted nothing: the copy is looked for again."""
    world = strand(make_world)
    world.hq.lying = True
    world.hq.slow_claims = [40.0]
    result = clear(world, batch=10)
    assert result.complete and world.hq.ids() == ["a3", "a4", "a5"]
