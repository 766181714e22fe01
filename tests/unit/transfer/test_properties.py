"""Random batches, failures, slow targets and deaths: nothing is ever lost or silently doubled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ccfailover.model.items import ItemState
from ccfailover.transfer.reconcile import Measures, Reconciliation, reconcile
from tests.unit.transfer.world import QUEUE, Fate, World

FATES = st.lists(st.sampled_from(["transient", "permanent", "doubt", "lost"]), max_size=6)


@dataclass(frozen=True)
class Incoming:
    """One message at the source: `body` 0 and 1 are two versions of one application."""

    number: int
    kind: str
    body: int


INCOMING = st.builds(
    Incoming, st.integers(0, 5),
    st.sampled_from(["good", "good", "good", "stay", "broken", "big", "nameless"]),
    st.sampled_from([0, 0, 0, 1]))


def fill(world: World, arrivals: list[Incoming]) -> None:
    for each in arrivals:
        name, body = f"a{each.number}", f"body{each.body}".encode()
        if each.kind == "good":
            world.hq.add(name, body, submitted=f"2026-01-0{each.number + 1}")
        elif each.kind == "stay":
            world.hq.add(name, body, fields={"stay": "no licence"})
        elif each.kind == "broken":
            world.hq.add(name, b"?", problem="not JSON")
        elif each.kind == "big":
            world.hq.add(name, b"x" * 1500)
        else:
            world.hq.add("", b"?", problem="no id")


def account(world: World, present: int) -> Reconciliation:
    return reconcile(world.store, ("r1",), QUEUE, source="hq", target="acme", measures=Measures(
        present=present, source_now=world.hq.measure(), arrived=0, target_before=0,
        target_now=world.acme.measure(), arrived_at_target=0, completed=0, worked_at_source=0,
        target_ids=Counter(world.acme.ids())))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    arrivals=st.lists(INCOMING, max_size=14),
    refusals=st.dictionaries(st.integers(0, 5), FATES, max_size=4),
    delays=st.lists(st.sampled_from([0.0, 4.0, 11.0, 25.0]), max_size=6),
    deaths=st.lists(st.tuples(st.integers(0, 25), st.booleans(), st.sampled_from([0.0, 5.0, 60.0])),
                    max_size=3),
    batch=st.integers(1, 5), window=st.sampled_from([-1.0, 40.0, 300.0]),
)
def test_conservation(arrivals: list[Incoming], refusals: dict[int, list[str]],
                      delays: list[float], deaths: list[tuple[int, bool, float]], batch: int,
                      window: float) -> None:
    """Whatever happens on the way, at the end each copy is in one place, every application that
    may go is at the target or refused by it, every real duplicate is listed, and the equation
    balances against the platforms' own counts."""
    world = World(window=window, batch=batch, claim_seconds=10.0)
    try:
        fill(world, arrivals)
        present = len(world.hq.messages)
        names = {m.item.item_id for m in world.hq.messages.values()}
        world.acme.refuse = {f"a{number}": list(fates) for number, fates in refusals.items()}
        world.acme.delays = list(delays)
        died = 0
        for at, after, away in deaths:
            died += not world.survives(Fate(at, after=after))
            world.runtime.sleep(away)
        result = world.move()
        event(f"died {died} times")
        there, rows = Counter(world.acme.ids()), list(world.store.items(run="r1"))
        assert set(there) <= names
        assert result.complete or "takes no work" in result.detail
        if result.complete:
            proof = account(world, present)
            assert proof.balanced is True, (proof.detail, proof.equation)
            assert len(rows) == present
            assert not [r for r in rows if r.state in (ItemState.CLAIMED, ItemState.DELIVERED)]
        doubled = {name for name, count in there.items() if count > 1}
        assert doubled <= world.listed()
        for row in rows:
            if row.state is ItemState.SETTLED and "#" not in row.item_id:
                assert row.item_id in there
        if not died and not delays and not refusals:
            assert not world.listed() and not doubled
        clear = {each.number for each in arrivals} - {
            each.number for each in arrivals if each.kind != "good" or each.body}
        assert {f"a{number}" for number in clear if number not in refusals} <= set(there)
    finally:
        world.close()


@settings(max_examples=60, deadline=None)
@given(arrivals=st.lists(INCOMING, max_size=14), batch=st.integers(1, 5))
def test_totals_without_trouble(arrivals: list[Incoming], batch: int) -> None:
    """Undisturbed: moved + left + quarantined + collapsed = present, each looked at once."""
    world = World(batch=batch)
    try:
        fill(world, arrivals)
        present = len(world.hq.messages)
        result = world.move()
        assert (result.moved + sum(result.left.values()) + result.quarantined
                + result.duplicates_collapsed) == present
        assert result.possible_duplicates == result.remaining_claimed == result.stranded == 0
        assert max(Counter(world.acme.puts).values(), default=1) == 1
        assert all(m.receives == 1 for m in world.hq.messages.values())
        assert world.hq.measure().hidden == 0
        assert account(world, present).balanced is True
    finally:
        world.close()
