"""Before the first item: the target takes work, and a canary is never taken for any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from ccfailover.errors import Refused, Rejected
from ccfailover.model.books import is_canary
from ccfailover.model.items import ItemState, PutResult, WorkItem
from ccfailover.model.policy import Site, Staff
from ccfailover.transfer.ready import Readiness, Ready
from tests.unit.transfer.world import QUEUE, Fate, Killed, Memory, Mortal, World, queue, site

Make = Callable[..., World]


class Greedy(Memory):
    """Somebody works there who takes everything at once."""

    def claim(self, limit: int) -> Sequence[WorkItem]:
        self.messages.clear()
        return []


class Mumbling(Memory):
    """Deletes, and does not say so."""

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        super().settle(handles)
        return dict.fromkeys(handles, False)


class Closed(Memory):
    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        raise Rejected("no right to write", where=self.name)

    def check_writable(self) -> str:
        raise Rejected("no right to write", where=self.name)


def ready(world: World, *, canary: bool = True, fate: Fate | None = None,
          at: Site | None = None) -> Ready:
    target = Mortal(world.acme, fate, "target") if fate else world.acme
    return Readiness(target, store=world.store, lease=None, run="r1", step="2-transfer",
                     queue=queue(item={"id": "/loan/uli"}), site=at or site("acme"),
                     runtime=world.runtime).prove(canary=canary)


def open_canaries(world: World) -> list[str]:
    return [each.name for each in world.store.canaries(queue=QUEUE, site="acme")]


def test_there_and_back(make_world: Make) -> None:
    """It went in, it was shown, nothing is left; the ledger has no row of it."""
    world = make_world()
    found = ready(world)
    assert found.said[-1] == "acme took a canary and showed it to us"
    assert found.left_over == () and open_canaries(world) == []
    assert len(world.acme.puts) == 1 and is_canary(world.acme.puts[0])
    assert world.acme.travelled[0].body.startswith(b'{"loan": {"uli": "ccf-canary-r1-')
    assert world.acme.messages == {} and list(world.store.items()) == []


def test_without_a_canary_nothing_is_put(make_world: Make) -> None:
    """Only the platform's own word is asked for."""
    world = make_world()
    assert ready(world, canary=False).said[-1] == "acme: readable"
    assert world.acme.puts == [] and world.acme.claims == []


def test_where_others_wait_none_of_theirs_is_claimed(make_world: Make) -> None:
    """A canary behind them would raise their receive counts: it is not sent, and that is said."""
    world = make_world()
    world.acme.add("theirs")
    assert "no canary: 1 wait at acme" in ready(world).said[-1]
    assert world.acme.claims == [] and world.acme.puts == []


def test_one_that_is_not_seen_again_stops_the_move(make_world: Make) -> None:
    """Somebody there takes canaries for applications, or cannot be read: a person must look."""
    world = make_world()
    world.acme = Greedy(world.runtime, "acme")
    with pytest.raises(Refused) as caught:
        ready(world)
    assert caught.value.guard == "canary" and "not seen again" in str(caught.value)
    assert caught.value.not_done == "no item was claimed" and len(open_canaries(world)) == 1
    world.acme = Memory(world.runtime, "acme")
    assert ready(world).left_over == (), "the next one finds that it is gone"


@pytest.mark.parametrize("canary", [True, False])
def test_a_queue_that_takes_nothing_is_refused(make_world: Make, canary: bool) -> None:
    """With the platform's reason; no canary is left in the books for one that never went."""
    world = make_world()
    world.acme = Closed(world.runtime, "acme")
    with pytest.raises(Refused) as caught:
        ready(world, canary=canary)
    assert caught.value.guard == "target_writable" and "no right to write" in str(caught.value)
    assert open_canaries(world) == []


def test_one_that_does_not_answer_is_asked_again_and_then_refused(make_world: Make) -> None:
    world = make_world()
    world.acme.dead = True
    began = world.runtime.monotonic()
    with pytest.raises(Refused) as caught:
        ready(world)
    assert caught.value.guard == "target_writable"
    assert 10 < world.runtime.monotonic() - began < 60 and open_canaries(world) == []


def test_a_rate_of_nothing_is_refused(make_world: Make) -> None:
    """A site that says it works off none gets none; one that says nothing is told of."""
    world = make_world()
    for staff in (Staff(per_hour=0), Staff(agents=0)):
        at = Site(**{**site("acme").__dict__, "staff": {QUEUE: staff}})
        with pytest.raises(Refused) as caught:
            ready(world, at=at)
        assert caught.value.guard == "intake_rate" and world.acme.puts == []
    assert "does not say" in ready(world).said[0]
    at = Site(**{**site("acme").__dict__, "staff": {QUEUE: Staff(per_hour=80)}})
    assert ready(world, at=at).said[0] == "acme works off 80 an hour"


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_the_next_one_cleans_up(make_world: Make, after: bool) -> None:
    """Whatever the moment: written down before it is sent, and gone after the next attempt."""
    for at in range(20):
        world = make_world()
        fate = Fate(at, after=after)
        try:
            ready(world, fate=fate)
        except Killed:
            left = world.acme.ids()
            assert all(is_canary(name) for name in left) and set(left) <= set(open_canaries(world))
            found = ready(world)
            assert found.left_over == () and world.acme.messages == {}, f"{at} {after}"
            continue
        assert at >= 3, "put, claim and settle were each struck"
        return
    pytest.fail("it never ended")


def test_a_settle_that_is_not_heard_leaves_none_behind(make_world: Make) -> None:
    """The copy is gone, or comes back and is deleted then; the books close either way."""
    world = make_world()
    world.acme = Mumbling(world.runtime, "acme")
    assert ready(world).left_over == () and world.acme.messages == {}
    assert open_canaries(world) == []


def test_a_canary_at_a_source_is_quarantined_and_never_moved(make_world: Make) -> None:
    """One that was left at acme and met on the way home is named as what it is."""
    world = make_world()
    world.acme.add("a1")
    world.acme.add("ccf-canary-r1-77")
    result = world.move(home=True)
    assert result.moved == 1 and result.quarantined == 1 and world.hq.ids() == ["a1"]
    (row,) = [row for row in world.store.items() if is_canary(row.item_id)]
    assert row.state is ItemState.QUARANTINED and "no application" in row.reason
