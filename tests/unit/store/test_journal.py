"""The journal: numbering, chains, and what an append refuses."""

from __future__ import annotations

import hashlib
import json
import math

import pytest

from ccfailover.errors import CcfError, StoreError, UsageError
from ccfailover.model.plan import canonical
from ccfailover.store import GENESIS, open_store


def test_an_append_is_read_back_as_it_was_returned(store, clock):
    """What append returns is what read gives, with number, time and actor."""
    first = store.append("automation", "decision.made", {"shares": {"hq": 100}, "t": (1, 2)},
                         actor="mary@ops[1]")
    clock.pass_time(1)
    second = store.append("automation", "ack", {"who": "jörg ☎"}, actor="mary@ops[1]")
    assert store.read("automation") == [first, second]
    assert [first.seq, second.seq] == [1, 2]
    assert second.at - first.at == 1_000_000
    assert first.data == {"shares": {"hq": 100}, "t": [1, 2]}
    assert store.read("automation", after=1) == [second]
    assert store.read("run:r9-none") == []


def test_the_hash_is_of_the_canonical_text_and_links_to_the_one_before(store):
    """Anybody can recompute the chain from the records alone."""
    for number in range(3):
        store.append("automation", "note", {"number": number}, actor="a")
    prev = GENESIS
    for record in store.read("automation"):
        body = {name: getattr(record, name) for name in
                ("stream", "seq", "at", "fence", "actor", "kind", "data", "prev")}
        assert record.prev == prev
        assert record.hash == hashlib.sha256(canonical(body).encode()).hexdigest()
        prev = record.hash
    assert store.head("automation") == (3, prev)


def test_an_empty_stream_has_the_genesis_head(store):
    """Nothing written: number 0 and the fixed first hash."""
    assert store.head("automation") == (0, GENESIS)
    assert store.streams() == []
    assert store.verify() == []


def test_only_automation_and_open_runs_can_be_appended_to(store, plan_for, person):
    """The chain of runs is written by the store alone, and no run exists outside it."""
    for stream in ("runs", "run:r1-none", "whatever", "", "r1-none"):
        with pytest.raises(CcfError):
            store.append(stream, "note", {}, actor="a")
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    store.append(f"run:{run}", "run.stop_requested", {}, actor="joe")
    with pytest.raises(CcfError):
        store.append(run, "note", {}, actor="a")
    store.end_run(lease, "run.succeeded", {}, actor="mary")
    with pytest.raises(UsageError, match=r"has ended \(succeeded\)"):
        store.append(f"run:{run}", "note", {}, actor="joe")
    assert store.verify() == []


def test_a_lease_writes_only_to_its_own_run(store, plan_for, person):
    """An event about one run never lands in another's journal."""
    one, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    two, _ = store.create_run(plan_for("queue:b"), actor=person("joe"), ttl=30)
    with pytest.raises(CcfError):
        store.append(f"run:{two}", "step.started", {}, actor="mary", lease=lease)
    assert store.append("automation", "steal", {}, actor="mary", lease=lease).fence == lease.fence
    assert store.append(f"run:{one}", "x", {}, actor="mary", lease=lease).fence == lease.fence


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, object(), b"x"])
def test_what_json_cannot_carry_is_refused_and_nothing_is_written(store, value):
    """A value that could not be hashed and read back alike never enters."""
    with pytest.raises(CcfError) as caught:
        store.append("automation", "note", {"value": value}, actor="a")
    assert not isinstance(caught.value, StoreError)
    assert store.head("automation") == (0, GENESIS)


def test_endless_and_enormous_data_are_refused(store):
    """A value that contains itself, or nine megabytes, end in an error, not in the file."""
    knot: dict = {}
    knot["again"] = knot
    for data in (knot, {"text": "x" * 9_000_000}):
        with pytest.raises(CcfError):
            store.append("automation", "note", data, actor="a")
    assert store.streams() == []


def test_half_a_character_from_outside_does_not_stop_a_run(store):
    """A lone surrogate, as undecodable output gives, becomes a question mark."""
    record = store.append("automation", "note", {"out\udcff": "ab\ud800"}, actor="a\udc80")
    assert (record.data, record.actor) == ({"out?": "ab?"}, "a?")
    assert store.read("automation") == [record]
    assert store.verify() == []


def test_history_cannot_be_rewritten_through_the_tables(store):
    """Even our own SQL cannot change or delete an event."""
    store.append("automation", "note", {}, actor="a")
    for sql in ("UPDATE journal SET text = 'x'", "DELETE FROM journal"):
        with pytest.raises(StoreError, match="append-only"), store._db.transaction("cheat") as tx:
            tx.execute(sql)
    assert store.verify() == []


def test_a_failed_block_leaves_nothing(store):
    """An exception inside a transaction undoes all of it, and the next one works."""
    with pytest.raises(RuntimeError), store._db.transaction("try") as tx:
        tx.execute("INSERT INTO fact (name, value) VALUES ('a', '1')")
        raise RuntimeError
    assert store.fact("a") is None
    store.set_fact("a", 2, actor="a")
    assert store.fact("a") == 2


def test_a_transaction_within_a_transaction_is_a_bug(store):
    """Nobody can believe a write durable that an outer block may still undo."""
    with pytest.raises(CcfError), store._db.transaction("outer"):
        store.set_fact("a", 1, actor="a")
    assert store.fact("a") is None


def test_many_threads_append_through_one_store(store, clock):
    """Branches of a run share one store: no number is lost, given twice or out of chain."""
    def work(branch: int) -> None:
        for number in range(15):
            store.append("automation", "note", {"branch": branch, "number": number}, actor="a")
            store.head("automation")

    clock.each(work, range(8), 8)
    records = store.read("automation")
    assert [record.seq for record in records] == list(range(1, 121))
    for branch in range(8):
        numbers = [r.data["number"] for r in records if r.data["branch"] == branch]
        assert numbers == list(range(15))
    assert store.verify() == []


def test_facts_are_kept_and_journaled(store):
    """A fact is what was last set, and who set it stays on record."""
    assert store.fact("automation_off") is None
    store.set_fact("automation_off", {"until": 5}, actor="mary")
    store.set_fact("automation_off", None, actor="joe")
    assert store.fact("automation_off") is None
    assert [(r.kind, r.actor, r.data) for r in store.read("automation")] == [
        ("fact.set", "mary", {"name": "automation_off", "value": {"until": 5}}),
        ("fact.set", "joe", {"name": "automation_off", "value": None}),
    ]


def test_the_journal_outlives_the_process_that_wrote_it(new_location, clock, plan_for, person):
    """Closed and opened again, everything is there."""
    path = new_location()
    first = open_store(path, clock)
    run, _ = first.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    first.append("automation", "note", {"a": 1}, actor="a")
    seal, lines = first.seal(), list(first.export())
    first.close()
    first.close()
    again = open_store(path, clock, create=False)
    assert again.find_run(None) == run
    assert again.seal() == seal == json.loads(lines[0])["hash"]
    assert list(again.export()) == lines
    assert again.verify() == []
    again.close()
    with pytest.raises(StoreError):
        again.streams()
