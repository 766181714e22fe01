"""The equation holds when the world is right, fails when it is not, and says what is unknown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from ccfailover.transfer.reconcile import Measures, Reconciliation, reconcile
from tests.unit.transfer.world import QUEUE, Fate, World

Make = Callable[..., World]


def measured(world: World, present: int, **more: object) -> Measures:
    """What the platforms themselves count now."""
    hq = None if world.hq.dead else world.hq.measure()
    values: dict[str, object] = dict(
        present=present, source_now=hq, arrived=0, target_before=0,
        target_now=world.acme.measure(), arrived_at_target=0, completed=0, worked_at_source=0)
    return Measures(**{**values, **more})  # type: ignore[arg-type]


def proof(world: World, measures: Measures, *runs: str) -> Reconciliation:
    return reconcile(world.store, runs or ("r1",), QUEUE, source="hq", target="acme",
                     measures=measures)


def fill(world: World) -> int:
    for number in range(6):
        world.hq.add(f"a{number}")
    world.hq.add("a1")
    world.hq.add("no", fields={"stay": "no licence"})
    world.hq.add("", b"?", problem="not JSON")
    return len(world.hq.messages)


def values(result: Reconciliation) -> dict[str, int | None]:
    return {name: term.value for name, term in result.terms.items() if term.value != 0}


def test_balanced(make_world: Make) -> None:
    """Every copy has its place; the numbers come from ledger and platforms."""
    world = make_world()
    present = fill(world)
    world.move()
    result = proof(world, measured(world, present))
    assert result.balanced is True and result.assumptions == ()
    assert values(result) == {"present": 9, "left": 1, "at_target": 6, "quarantined": 1,
                              "collapsed": 1}
    assert result.equation == (
        "present 9 + arrived 0 = left 1 + unreachable 0 + claimed 0 + at target 6 + completed 0"
        " + returned 0 + stranded 0 + quarantined 1 + collapsed 1")
    assert result.left_by_reason == {"no licence": 1}
    assert json.loads(json.dumps(result.to_json()))["balanced"] is True


def test_an_item_lost_at_the_target_is_found_out(make_world: Make) -> None:
    """By count: one short. By id: which one, and what to do."""
    world = make_world()
    present = fill(world)
    world.move()
    lost = next(iter(world.acme.messages))
    name = world.acme.messages.pop(lost).item.item_id
    result = proof(world, measured(world, present))
    assert result.balanced is False and "1 fewer" in result.detail
    by_id = proof(world, measured(world, present, target_ids=Counter(world.acme.ids())))
    assert by_id.balanced is False
    assert [d.item_id for d in by_id.differences if "does not have it" in d.what] == [name]
    assert all(difference.action for difference in by_id.differences)


def test_an_item_lost_at_the_source_is_found_out(make_world: Make) -> None:
    """What was left and is gone is missing, unless home counted it as worked off."""
    world = make_world()
    present = fill(world)
    world.move()
    gone = next(k for k, m in world.hq.messages.items() if m.item.item_id == "no")
    del world.hq.messages[gone]
    assert proof(world, measured(world, present)).balanced is False
    result = proof(world, measured(world, present, worked_at_source=1))
    assert result.balanced is True
    assert (result.terms["left"].value, result.terms["completed"].value) == (0, 1)


def test_an_unlisted_duplicate_is_found_out(make_world: Make) -> None:
    """A copy at the target that nobody listed breaks the proof; a listed one is named."""
    world = make_world()
    present = fill(world)
    world.move()
    world.acme.add("a2")
    result = proof(world, measured(world, present, target_ids=Counter(world.acme.ids())))
    assert result.balanced is False and "a2" in {d.item_id for d in result.differences}
    assert proof(world, measured(world, present)).balanced is False
    rows = [replace(row, possible_duplicate=True) for row in world.store.items(run="r1")
            if row.item_id == "a2"]
    world.store.record_items(rows, lease=None)
    result = proof(world, measured(world, present, target_ids=Counter(world.acme.ids())))
    assert result.balanced is True and result.possible_duplicates == ("a2",)
    assert any("2 times (listed)" in difference.what for difference in result.differences)


@pytest.mark.parametrize("ids", [True, False])
def test_completed(make_world: Make, ids: bool) -> None:
    """What the target has done is its own count, by id where it tells ids."""
    world = make_world()
    present = fill(world)
    world.move()
    done = world.acme.claim(2)
    world.acme.settle([item.handle for item in done])
    names = frozenset(item.item_id for item in done)
    more = {"completed_ids": names} if ids else {}
    result = proof(world, measured(world, present, completed=2, **more))
    assert result.balanced is True
    assert (result.terms["at_target"].value, result.terms["completed"].value) == (4, 2)


def test_arrivals_by_difference_are_an_assumption(make_world: Make) -> None:
    """Nobody counted the arrivals: the difference is taken for them, and that is said."""
    world = make_world()
    present = fill(world)
    world.hq.add("late")
    world.move()
    result = proof(world, measured(world, present, arrived=None))
    assert (result.balanced, result.terms["arrived"].value) == (True, 1)
    assert result.terms["arrived"].origin == "difference"
    assert any("nobody counted what arrived" in each for each in result.assumptions)
    assert proof(world, measured(world, present, arrived=0)).balanced is False
    assert proof(world, measured(world, present, arrived=1)).balanced is True


def test_nothing_measured_at_the_target_is_said(make_world: Make) -> None:
    """Without the target's count the proof rests on our own ledger, and says so."""
    world = make_world()
    present = fill(world)
    world.move()
    result = proof(world, measured(world, present, target_now=None, completed=None))
    assert result.balanced is True
    assert any("taken from the ledger" in each for each in result.assumptions)
    assert result.terms["completed"].value is None and "completed ?" in result.equation


def test_a_dead_source_cannot_be_told(make_world: Make) -> None:
    """Home died: each known item has its place, the rest is unreachable, the verdict unknown."""
    world = make_world()
    for number in range(8):
        world.hq.add(f"a{number}")
    world.hq.dead_settle = True
    world.move()
    result = proof(world, measured(world, 8))
    assert result.balanced is None and "cannot be told" in result.detail
    assert (result.terms["stranded"].value, result.terms["unreachable"].value) == (3, 5)
    assert {d.item_id for d in result.differences} == {"a0", "a1", "a2"}
    assert "≟" in result.equation


def test_no_snapshot_cannot_be_told(make_world: Make) -> None:
    """Without a count at the start nothing can be proved."""
    world = make_world()
    fill(world)
    world.move()
    assert proof(world, replace(measured(world, 0), present=None)).balanced is None


def test_returned(make_world: Make) -> None:
    """After the failback the first run's account still closes, and the return has its own."""
    world = make_world()
    present = fill(world)
    world.move()
    begun = world.acme.claim(1)
    world.acme.settle([begun[0].handle])
    world.move(run="r2", home=True)
    out = proof(world, measured(world, present, source_now=None, completed=1,
                                completed_ids=frozenset({begun[0].item_id})))
    assert (out.terms["returned"].value, out.terms["completed"].value) == (5, 1)
    back = reconcile(
        world.store, ("r2",), QUEUE, source="acme", target="hq",
        measures=Measures(present=5, arrived=0, source_now=world.acme.measure(),
                          target_before=2, target_now=world.hq.measure(), completed=0,
                          arrived_at_target=0))
    assert back.balanced is True and back.terms["at_target"].value == 5


def test_two_runs_one_account(make_world: Make) -> None:
    """A run that superseded another counts each copy once."""
    world = make_world()
    present = fill(world)
    assert not world.survives(Fate(4))
    world.runtime.sleep(60)
    world.move(run="r2")
    result = proof(world, measured(world, present), "r1", "r2")
    assert result.terms["present"].value == 9
    assert sum(t.value or 0 for n, t in result.terms.items() if n not in ("present", "arrived")
               ) == 9, result.equation


def test_a_copy_that_two_runs_met_counts_once(make_world: Make) -> None:
    """Stranded by one run and deleted by the next: at the target, once, not collapsed as well."""
    world = make_world()
    for number in range(4):
        world.hq.add(f"a{number}")
    world.hq.dead_settle = True
    world.move()
    world.hq.dead = world.hq.dead_settle = False
    world.runtime.sleep(60)
    world.move(run="r2")
    result = proof(world, measured(world, 4), "r1", "r2")
    assert result.balanced is True
    assert values(result) == {"present": 4, "at_target": 4}
