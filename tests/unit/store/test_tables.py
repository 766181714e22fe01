"""Observations, ledger and outbox: what is kept is what was given, whoever was faster."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ccfailover.errors import Fenced, StoreError
from ccfailover.model.health import Outcome, ProbeHistory, Reading, TriggerState
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.shares import Shares
from ccfailover.runtime import SECOND


def history(at: int, outcome: Outcome = Outcome.GOOD, key: str = "site.hq.0.http",
            **values: float) -> ProbeHistory:
    reading = Reading(key, at, outcome, "200 in 12 ms", 0.012, values, Shares({"hq": 100}))
    return ProbeHistory(key, Outcome.GOOD, 1, outcome, at, reading, at, None)


def test_a_history_comes_back_as_it_was(store, clock):
    """Every field, with and without shares and values."""
    one = history(clock.now(), depth=12.0, oldest_s=3.5)
    bare = replace(one, key="k2", first_bad=5, last_good=None,
                   last=replace(one.last, key="k2", shares=None, values={}))
    store.save_histories([one, bare])
    assert store.histories() == {"site.hq.0.http": one, "k2": bare}
    assert store.readings("site.hq.0.http", 0) == [one.last]


def test_an_overlapping_check_never_overwrites_a_newer_history(store, clock):
    """The slow check's older reading is logged, but what the probe remembers stays newer."""
    newer, older = history(clock.now()), history(clock.now() - 1, Outcome.BAD)
    store.save_histories([newer])
    store.save_histories([older])
    assert store.histories()["site.hq.0.http"] == newer
    assert store.readings("site.hq.0.http", 0) == [older.last, newer.last]


def test_readings_are_cut_by_time_and_old_ones_are_dropped(store, clock):
    """Both ends are included; beyond `keep_readings` nothing stays."""
    start = clock.now()
    for second in range(5):
        store.save_histories([history(start + second * SECOND)])
    found = store.readings("site.hq.0.http", start + SECOND, start + 3 * SECOND)
    assert [(r.at - start) // SECOND for r in found] == [1, 2, 3]
    assert store.readings("other", 0) == []
    clock.pass_time(60)
    store.save_histories([history(clock.now())], keep_readings=58)
    assert [(r.at - start) // SECOND for r in store.readings("site.hq.0.http", 0)] == [2, 3, 4, 60]


def test_a_value_that_is_no_number_was_not_seen(store, clock):
    """NaN and infinity are missing values, never 0."""
    store.save_histories([history(clock.now(), depth=math.nan, oldest_s=math.inf, up=1.0)])
    assert store.histories()["site.hq.0.http"].last.values == {"up": 1.0}


def test_of_two_checks_one_saves_the_trigger(store, clock):
    """Compare-and-set: the one that saw the older state is told so and changes nothing."""
    first = TriggerState("hq_down", since=clock.now())
    fired = replace(first, fired_at=clock.now(), run="r1-a000")
    assert store.save_trigger_state(first, expected=None)
    assert not store.save_trigger_state(fired, expected=None)
    assert store.save_trigger_state(fired, expected=first)
    assert not store.save_trigger_state(replace(first, cleared_at=1), expected=first)
    assert store.trigger_states() == {"hq_down": fired}
    assert not store.save_trigger_state(TriggerState("new"), expected=TriggerState("new"))


def row(item: str, state: ItemState = ItemState.CLAIMED, **changes) -> LedgerRow:
    return LedgerRow(**{
        "run": "r1-a000", "step": "apps/3", "item_id": item, "queue": "apps", "source": "hq",
        "target": "acme", "state": state, "at": 5, "reason": "", "message_id": "m-" + item,
        "handle": "h-" + item, "submitted": "2026-01-02T03:04:05Z", "hop": 1,
        "possible_duplicate": False, "target_ref": None, **changes})


def test_the_ledger_holds_the_present_and_every_state_before(store):
    """One row per item and move, one line of history per write, without the handle."""
    store.record_items([row("u1"), row("u2")], lease=None)
    delivered = row("u1", ItemState.DELIVERED, at=6, target_ref="t1", handle="")
    store.record_items([delivered], lease=None)
    assert list(store.items()) == [delivered, row("u2")]
    assert store.find_item("u1") == [delivered]
    assert [(r.state, r.at, r.handle) for r in store.item_history("u1")] == [
        (ItemState.CLAIMED, 5, ""), (ItemState.DELIVERED, 6, "")]
    assert store.find_item("u9") == store.item_history("u9") == []


def test_a_possible_duplicate_stays_one(store):
    """Once it may be there twice, no later write may forget that, in the history either."""
    store.record_items([row("u1", possible_duplicate=True)], lease=None)
    store.record_items([row("u1", ItemState.SETTLED)], lease=None)
    assert [found.possible_duplicate for found in store.items()] == [True]
    assert [found.possible_duplicate for found in store.item_history("u1")] == [True, True]


def test_rows_are_chosen_and_counted_by_run_step_queue_and_state(store):
    """Every filter alone and together; a state without rows counts 0."""
    store.record_items([
        row("u1"), row("u2", ItemState.SETTLED), row("u3", queue="mail"),
        row("u4", run="r2-b"), row("u1", step="apps/9", state=ItemState.LEFT),
    ], lease=None)

    def ids(**filters):
        return [found.item_id for found in store.items(**filters)]

    assert ids(queue="mail") == ["u3"]
    assert ids(run="r2-b") == ["u4"]
    assert ids(run="r1-a000", step="apps/3", states=[ItemState.CLAIMED]) == ["u1", "u3"]
    assert ids(states={ItemState.SETTLED, ItemState.LEFT}) == ["u2", "u1"]
    assert ids(states=[]) == []
    counts = store.item_counts(run="r1-a000", queue="apps")
    assert set(counts) == set(ItemState)
    assert {state: n for state, n in counts.items() if n} == {
        ItemState.CLAIMED: 1, ItemState.SETTLED: 1, ItemState.LEFT: 1}
    assert sum(store.item_counts().values()) == 5
    assert sum(store.item_counts(step="apps/9").values()) == 1


def test_the_latest_move_of_an_item_comes_first(store):
    """Out with one run, back with another: the move that was touched last leads."""
    store.record_items([row("u1"), row("u1", run="r2-b")], lease=None)
    store.record_items([row("u1", ItemState.RETURNED)], lease=None)
    assert [found.run for found in store.find_item("u1")] == ["r1-a000", "r2-b"]


def test_a_long_ledger_is_read_whole_while_it_grows(store):
    """Pages neither repeat nor skip a row, also when rows are written between two of them."""
    store.record_items([row(f"u{number}") for number in range(1203)], lease=None)
    seen = []
    for found in store.items():
        if not seen:
            store.record_items([row("u7", ItemState.SETTLED), row("late")], lease=None)
        seen.append(found.item_id)
    assert seen == [*(f"u{number}" for number in range(1203)), "late"]


def test_a_stale_lease_records_no_item(store, plan_for, person, clock):
    """The ledger is fenced like the journal, and all rows of a batch share one fate."""
    run, lease = store.create_run(plan_for("queue:apps"), actor=person("mary"), ttl=30)
    store.record_items([row("u1", run=run)], lease=lease)
    clock.pass_time(31)
    with pytest.raises(Fenced, match="may not act") as caught:
        store.record_items([row("u1", ItemState.SETTLED, run=run), row("u2")], lease=lease)
    assert caught.value.not_done == "2 items were not recorded"
    assert [found.state for found in store.items()] == [ItemState.CLAIMED]
    with pytest.raises(StoreError):
        store.record_items([row("u3"), row("u4", queue=None)], lease=None)
    assert store.find_item("u3") == []


def test_a_message_is_enqueued_once_and_sent_once(store, clock):
    """The key decides; what was sent is not offered again, nor can it be enqueued anew."""
    assert store.enqueue("r1/paused", "run.paused", "Run paused", "Body")
    assert not store.enqueue("r1/paused", "run.paused", "Run paused again", "Body")
    (message,) = store.pending()
    assert (message.key, message.event, message.title, message.body, message.attempts) == (
        "r1/paused", "run.paused", "Run paused", "Body", 0)
    assert message.at == message.not_before == clock.now()
    store.mark_sent(message.id)
    assert store.pending() == []
    assert store.outbox_has("r1/paused")
    assert not store.outbox_has("r2/paused")
    assert not store.enqueue("r1/paused", "run.paused", "Run paused", "Body")
    store.mark_failed(message.id, "too late", retry_in=0)
    assert store.pending() == []


def test_a_failed_message_waits_for_its_next_attempt(store, clock):
    """Its error and number of attempts are kept; the order stays that of enqueueing."""
    for name in ("a", "b", "c"):
        store.enqueue(name, "e", "t", "b")
    first = store.pending(limit=1)[0]
    store.mark_failed(first.id, "refused " + "x" * 10_000, retry_in=60)
    assert [message.key for message in store.pending()] == ["b", "c"]
    clock.pass_time(60)
    again = store.pending()[0]
    assert (again.key, again.attempts) == ("a", 1)
    assert again.last_error.startswith("refused")
    assert len(again.last_error) == 500
    assert again.not_before == clock.now()


@pytest.mark.parametrize("table", ["history", "trigger_state", "fact", "reading"])
def test_text_that_was_damaged_is_a_store_error(store, clock, table):
    """What cannot be understood is never taken for "nothing there"."""
    store.save_histories([history(clock.now())])
    store.save_trigger_state(TriggerState("t"), expected=None)
    store.set_fact("f", 1, actor="a")
    column = "value" if table == "fact" else "text"
    for bad in ("{", "[]", '{"a":1}', "[" * 100_000):
        with store._db.transaction("damage") as tx:
            tx.execute(f"UPDATE {table} SET {column} = :bad", {"bad": bad})
        reads = {"history": store.histories, "trigger_state": store.trigger_states,
                 "fact": lambda: store.fact("f"),
                 "reading": lambda: store.readings("site.hq.0.http", 0)}
        if table == "fact" and bad in ("[]", '{"a":1}'):
            continue
        with pytest.raises(StoreError, match="makes no sense") as caught:
            reads[table]()
        assert caught.value.hint


def test_a_fact_is_swapped_only_from_what_it_was_thought_to_be(store):
    """Of two that saw the same, one writes; its events stand beside the change, or not at all."""
    def swap(value, expected, kind):
        return store.swap_fact("drift", value, expected=expected,
                               events=[(kind, {"queue": "a"}), (kind, {"queue": "b"})],
                               actor="mary")

    assert swap({"a": 1}, None, "first")
    assert not swap({"a": 2}, None, "late")
    assert store.fact("drift") == {"a": 1}
    assert swap(None, {"a": 1}, "second")
    assert swap({"b": 1}, None, "third")
    assert [r.kind for r in store.read("automation")] == [
        "first", "first", "second", "second", "third", "third"]
    assert store.verify() == []
