"""Items that go on together: written once for all of them, and read as if each had been written."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ccfailover.errors import Fenced
from ccfailover.model.items import ItemState, LedgerRow, Lot
from ccfailover.store import archive, open_store

CLAIMED, DELIVERED, SETTLED, LEFT, STRANDED, RETURNED = (
    ItemState.CLAIMED, ItemState.DELIVERED, ItemState.SETTLED, ItemState.LEFT,
    ItemState.STRANDED, ItemState.RETURNED)
NEXT = {CLAIMED: DELIVERED, DELIVERED: SETTLED}


def claimed(run: str, number: int, at: int, **changes: object) -> LedgerRow:
    made = LedgerRow(run, "step", f"u{number}", "apps", "hq", "acme", CLAIMED, at,
                     message_id=f"m{number}", handle=f"h{number}", hop=1, digest="d" * 32)
    return replace(made, **changes)


def of(run: str, row: LedgerRow) -> LedgerRow:
    """The same row in another run, whose name may be in what the target calls it."""
    ref = row.target_ref and row.target_ref.replace(f":{row.run}:", f":{run}:")
    return replace(row, run=run, target_ref=ref)


def facts(store, run):
    """All that can be asked about a run, its name left out."""
    rows = [of("", row) for row in store.items(run=run)]
    return (rows,
            {row.item_id: [of("", each) for each in store.item_history(row.item_id)
                           if each.run == run] for row in rows},
            store.item_counts(run=run),
            store.item_counts(run=run, states=(CLAIMED, DELIVERED, STRANDED)),
            [[row.item_id for row in store.items(run=run, states=(state,))]
             for state in ItemState],
            sorted(store.item_tally(run=run, step="step", queue="apps", mark="#copy:"),
                   key=lambda each: (each.state.value, each.possible_duplicate)),
            store.item_reasons(run=run, step="step", queue="apps", states=(LEFT,), most=9),
            sorted((of("", row) for row in store.items_of("apps", [f"u{number}" for number
                    in range(20)]) if row.run == run), key=lambda row: row.item_id))


@pytest.mark.parametrize("seed", range(12))
def test_nobody_can_tell_a_lot_from_rows(store, clock, seed):
    """Two runs to which the same happens, one in lots and one row by row, in any order: some items
    left behind, some written by somebody else meanwhile, some claimed again."""
    chance = random.Random(seed)
    lots: list[tuple[int, dict[str, LedgerRow]]] = []
    state: dict[str, LedgerRow] = {}

    def write(rows, lot=None):
        number = store.record_items([of("lots", row) for row in rows], lease=None, lot=lot and
                                    Lot([of("lots", row) for row in lot.rows], lot.name))
        store.record_items([*rows, *(lot.rows if lot else ())], lease=None)
        state.update((row.item_id, row) for row in (*rows, *(lot.rows if lot else ())))
        return number

    for turn in range(14):
        clock.pass_time(1)
        free = [number for number in range(14)
                if f"u{number}" not in state or state[f"u{number}"].state is LEFT]
        kind = chance.choice(("begin", "begin", "go on", "go on", "go on", "alone"))
        if kind == "begin" and len(free) > 1:
            some = chance.sample(free, chance.randint(2, len(free)))
            rows = [claimed("rows", number, clock.now() + number) for number in some]
            beside = [claimed("rows", 14 + turn, clock.now(), state=LEFT, reason="too late")]
            number = write(beside[:chance.randint(0, 1)], Lot(rows))
            lots.append((number, {row.item_id: row for row in rows}))
        elif kind == "go on" and lots:
            number, inside = lots.pop(chance.randrange(len(lots)))
            some = chance.sample(sorted(inside), chance.randint(1, len(inside)))
            mine = [name for name in some if state[name].state is inside[name].state]
            after = NEXT.get(next(iter(inside.values())).state)
            if after is None or not mine:
                continue
            refs = chance.choice(("none", "own", "key"))
            rows = [replace(state[name], state=after, at=clock.now(), target_ref=(
                {"none": None, "own": f"ref-{name}", "key": f"{name}:rows:1"}[refs]
                if after is DELIVERED else state[name].target_ref))
                for name in mine]
            rows = [row for row in rows if row.plain]
            others = [replace(state[name], state=STRANDED, at=clock.now(), reason="it died")
                      for name in sorted(set(inside) - set(some))
                      if state[name].state is inside[name].state and chance.random() < 0.5]
            if rows:
                again = write(others, Lot(rows, number))
                if again is not None:
                    lots.append((again, {row.item_id: row for row in rows}))
        elif state:
            name = chance.choice(sorted(state))
            write([replace(state[name], state=chance.choice((LEFT, RETURNED, DELIVERED)),
                                   at=clock.now(), reason="somebody else",
                                   possible_duplicate=chance.random() < 0.3
                                   or state[name].possible_duplicate)])
        assert facts(store, "lots") == facts(store, "rows")
    assert sum(store.item_counts(run="lots").values()) > 2


def test_whoever_does_not_go_on_stays(store, clock):
    """Its trail, too, and with the reference that only it has."""
    rows = [claimed("r", number, 5) for number in range(4)]
    number = store.record_items([], lease=None, lot=Lot(rows))
    delivered = [replace(row, state=DELIVERED, at=7, target_ref=f"t-{row.item_id}") for row in rows]
    assert store.record_items([], lease=None, lot=Lot(delivered, number)) == number
    settled = [replace(row, state=SETTLED, at=9) for row in delivered[1:]]
    store.record_items([], lease=None, lot=Lot(settled, number))
    assert [(row.item_id, row.state, row.at, row.target_ref) for row in store.items()] == [
        ("u0", DELIVERED, 7, "t-u0"), ("u1", SETTLED, 9, "t-u1"), ("u2", SETTLED, 9, "t-u2"),
        ("u3", SETTLED, 9, "t-u3")]
    assert [(row.state, row.at, row.target_ref) for row in store.item_history("u2")] == [
        (CLAIMED, 5, None), (DELIVERED, 7, "t-u2"), (SETTLED, 9, "t-u2")]
    assert [(row.state, row.at, row.target_ref) for row in store.item_history("u0")] == [
        (CLAIMED, 5, None), (DELIVERED, 7, "t-u0")]


def test_what_left_a_lot_does_not_come_with_it(store):
    """Somebody else wrote of one of them: the lot's next state is written row by row then."""
    rows = [claimed("r", number, 5) for number in range(3)]
    number = store.record_items([], lease=None, lot=Lot(rows))
    store.record_items([replace(rows[1], state=RETURNED, at=6, reason="taken back")], lease=None)
    assert store.record_items([], lease=None, lot=Lot(
        [replace(row, state=DELIVERED, at=7) for row in rows], number)) is None
    assert [(row.item_id, row.state) for row in store.items()] == [
        ("u0", DELIVERED), ("u1", DELIVERED), ("u2", DELIVERED)]
    assert [row.state for row in store.item_history("u1")] == [CLAIMED, RETURNED, DELIVERED]


def test_two_deliveries_keep_the_references_they_had(store):
    """One that was delivered with its lot, claimed once more and delivered again: both are told."""
    rows = [claimed("r", number, 5) for number in range(3)]
    number = store.record_items([], lease=None, lot=Lot(rows))
    store.record_items([], lease=None, lot=Lot(
        [replace(row, state=DELIVERED, at=6, target_ref=f"t-{row.item_id}") for row in rows],
        number))
    store.record_items([replace(rows[1], at=7)], lease=None)
    store.record_items([replace(rows[1], state=DELIVERED, at=8, target_ref="second")],
                       lease=None)
    assert [(row.state, row.at, row.target_ref) for row in store.item_history("u1")] == [
        (CLAIMED, 5, None), (DELIVERED, 6, "t-u1"), (CLAIMED, 7, None), (DELIVERED, 8, "second")]


def test_a_number_that_was_lost_and_given_again_is_another_lot(store):
    """A standby took over without the last transactions: what was in the lost lot is written row by
    row, and the new one of that number stays as it was."""
    mine = [claimed("r", number, 5) for number in range(3)]
    lost = store.record_items([], lease=None, lot=Lot(mine))
    number = lost.split()[0]
    with store._db.transaction("lose what was written last") as tx:
        tx.execute("DELETE FROM item WHERE lot IS NOT NULL")
        tx.execute("DELETE FROM lot")
    other = store.record_items([], lease=None, lot=Lot(
        [claimed("r", number, 6) for number in range(10, 13)]))
    with store._db.transaction("as if the number had been lost, too") as tx:
        tx.execute("UPDATE item SET lot = :lot WHERE lot IS NOT NULL", {"lot": int(number)})
        tx.execute("UPDATE lot SET id = :lot", {"lot": int(number)})
    assert store.record_items([], lease=None, lot=Lot(
        [replace(row, state=DELIVERED, at=7) for row in mine], lost)) is None
    assert {row.item_id: row.state for row in store.items()} == {
        **dict.fromkeys(("u10", "u11", "u12"), CLAIMED), **dict.fromkeys(("u0", "u1", "u2"),
                                                                        DELIVERED)}
    assert other.split()[1:] != lost.split()[1:]


def test_a_lot_is_fenced_as_rows_are(store, clock, plan_for, person):
    """Nothing of it is written under a lease that is over, neither its begin nor its next state."""
    rows = [claimed("r", number, 5) for number in range(3)]
    run, lease = store.create_run(plan_for("queue:apps"), actor=person("mary"), ttl=5)
    number = store.record_items([], lease=lease, lot=Lot(rows))
    clock.pass_time(60)
    assert store.acquire(run, actor=person("eve"), ttl=5)
    for lot in (Lot([claimed("r", 9, 6), claimed("r", 8, 6)]),
                Lot([replace(row, state=DELIVERED, at=6) for row in rows], number)):
        with pytest.raises(Fenced):
            store.record_items([], lease=lease, lot=lot)
    assert [(row.item_id, row.state) for row in store.items()] == [
        ("u0", CLAIMED), ("u1", CLAIMED), ("u2", CLAIMED)]


def test_pruning_takes_the_lot_with_the_last_of_it(store):
    """And not before: the others' state stands there."""
    rows = [claimed("r", number, 5) for number in range(2)]
    number = store.record_items([], lease=None, lot=Lot(rows))
    store.record_items([], lease=None, lot=Lot([replace(row, state=SETTLED, at=6) for row in rows],
                                               number))
    archive.remove(store, ["u0"], lambda holding: None)
    assert [row.state for row in store.items()] == [SETTLED]
    archive.remove(store, ["u1"], lambda holding: None)
    assert store._db.query("SELECT count(*) FROM lot")[0][0] == 0


def test_open_items_are_found_without_reading_the_others(tmp_path, clock):
    """`status` asks for them, however long the ledger has become."""
    store = open_store(str(tmp_path / "store.db"), clock)
    asked = []
    query = store._db.query
    store._db.query = lambda sql, params=None: asked.append((sql, params)) or query(sql, params)
    store.item_counts(queue="apps", states=(CLAIMED, DELIVERED, STRANDED))
    [(sql, params)] = asked
    plan = [row[3] for row in query("EXPLAIN QUERY PLAN " + sql, params)]
    assert any("item_open" in line for line in plan) and any("item_lot" in line for line in plan)
    assert any("lot_open" in line for line in plan), plan
    assert not any("SCAN" in line and ("SCAN i" in line or "item_lot" in line)
                   for line in plan), plan
    store.close()
