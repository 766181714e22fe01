"""Completions, canaries, and what joins them with the ledger, on every kind of store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import Fenced
from ccfailover.model.books import Canary, CanaryState, Completion, Outcome
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.journal import Actor
from ccfailover.model.plan import Plan
from ccfailover.runtime import SECOND
from ccfailover.store import Store, archive, open_store
from ccfailover.store.migrations import LATEST, statements
from tests.unit.store.conftest import Clock

START = 1_790_000_000 * SECOND
DAY = 86_400 * SECOND


def row(item: str, state: ItemState = ItemState.SETTLED, **more: Any) -> LedgerRow:
    values: dict[str, Any] = dict(run="r1", step="2-transfer", queue="applications", source="hq",
                                  target="acme", at=START, message_id=f"m-{item}", hop=1)
    return LedgerRow(item_id=item, state=state, **(values | more))


def word(item: str, outcome: Outcome = Outcome.COMPLETED, at: int = START + DAY,
         **more: Any) -> Completion:
    return Completion(**({"site": "acme", "item_id": item, "outcome": outcome, "at": at,
                          "reference": "A-1"} | more))


def test_the_same_word_twice_is_one(store: Store) -> None:
    """By (site, id, outcome, time); another reference is no other word. Whole or not at all."""
    assert store.record_completions([word("a"), word("b"), word("a")]) == 2
    assert store.record_completions([word("a", reference="other"), word("c")]) == 1
    assert store.record_completions([word("a", at=START + 2 * DAY),
                                     word("a", Outcome.RETURNED), word("a", site="hq")]) == 3
    assert [each.item_id for each in store.completions()] == ["a", "b", "c", "a", "a", "a"]
    assert [each.outcome for each in store.completions(item_id="a")] == [
        Outcome.COMPLETED, Outcome.RETURNED, Outcome.COMPLETED, Outcome.COMPLETED]
    assert store.tells("acme") and store.tells("hq") and not store.tells("globex")
    assert store.done_twice("acme") == [("a", "hq")]


def test_what_was_sent_with_what_was_said(store: Store) -> None:
    """In pages, copies left out; the first instant comes from history, not from the last state."""
    store.record_items([row(f"i{n:04}", ItemState.CLAIMED) for n in range(1100)], lease=None)
    store.record_items([row(f"i{n:04}", at=START + DAY) for n in range(1100)], lease=None)
    store.record_items([row("i0000#copy:m9"), row("x", target="globex")], lease=None)
    store.record_completions([word(f"i{n:04}") for n in range(0, 1100, 2)])
    found = list(store.sent("applications", "acme"))
    assert len(found) == 1100 and len({each.row.item_id for each in found}) == 1100
    assert {each.first_at for each in found} == {START}
    assert [len(each.told) for each in found[:4]] == [1, 0, 1, 0]
    assert store.in_work("applications", "acme", 10.0) == 550


def test_a_word_before_the_delivery_is_of_an_earlier_one(store: Store) -> None:
    """What was returned last month, and sent again today, is in work; an hour is let pass for
    clocks that differ."""
    store.record_items([row("a"), row("b")], lease=None)
    store.record_completions([word("a", Outcome.RETURNED, at=START - DAY),
                              word("b", at=START - 1800 * SECOND)])
    assert store.in_work("applications", "acme", 10.0) == 1


def test_never_sent(store: Store) -> None:
    """What a site says of items that were left at home, quarantined, or never seen."""
    store.record_items([row("left", ItemState.LEFT), row("sent"), row("back", ItemState.RETURNED),
                        row("doubt", ItemState.LEFT, possible_duplicate=True)], lease=None)
    store.record_completions([word(name) for name in ("left", "sent", "back", "doubt", "alien")])
    assert [each.item_id for each in store.never_sent("acme")] == ["left", "alien"]


def test_canaries_are_open_until_they_are_back(
        store: Store, plan_for: Callable[..., Plan], person: Callable[..., Actor]) -> None:
    """Under the run's fence: whoever was overtaken notes nothing."""
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    canary = Canary("ccf-canary-1", run, "2-transfer", "applications", "acme", CanaryState.SENT,
                    START)
    store.note_canary(canary, lease=lease)
    assert store.canaries(queue="applications", site="acme") == [canary]
    assert store.canaries(queue="applications", site="hq") == []
    back = replace(canary, state=CanaryState.BACK, at=START + 1)
    store.note_canary(back, lease=lease)
    assert store.canaries(queue="applications", site="acme") == []
    assert store.canaries(name="ccf-canary-1") == [back]
    with pytest.raises(Fenced):
        store.note_canary(canary, lease=replace(lease, fence=lease.fence - 1))
    assert store.canaries(name="ccf-canary-1") == [back]


def test_history_is_read_up_to_where_it_was(store: Store) -> None:
    """By run, queue and time, in pages; what is written meanwhile is left out."""
    store.record_items([row(f"i{n}", ItemState.CLAIMED) for n in range(700)], lease=None)
    last = archive.last_entry(store)
    store.record_items([row("late", at=START + DAY, run="r2", queue="other")], lease=None)
    assert len(list(archive.history(store, last=last))) == 700
    now = archive.last_entry(store)
    for only, count in (({"run": "r2"}, 1), ({"queue": "applications"}, 700),
                        ({"since": START + 1}, 1), ({"run": "r1", "since": START + 1}, 0)):
        assert len(list(archive.history(store, last=now, **only))) == count  # type: ignore[arg-type]
    assert archive.runs_of(store, last=now) == ["r1", "r2"]


def test_removal_takes_an_application_whole(store: Store) -> None:
    """With its copies and its history, and nothing of a neighbour whose id begins the same."""
    store.record_items([row("a"), row("a#copy:m2"), row("a!"), row("ab"), row("a#c")], lease=None)
    store.record_completions([word("a"), word("ab")])
    assert archive.names_of(store, "a") == ["a", "a#copy:m2"]
    names = [name for page in archive.applications(store) for name in page]
    assert names == ["a", "a!", "a#c", "ab"]
    done = archive.remove(
        store, names, lambda holding: None if holding.application == "a" else "stays")
    assert (done.applications, done.rows, done.runs) == (1, 2, {"r1"})
    assert set(done.kept) == {"a!", "a#c", "ab"}
    assert store.find_item("a") == [] and store.item_history("a#copy:m2") == []
    assert [each.item_id for each in store.completions()] == ["ab"]
    assert {each.item_id for each in store.items()} == {"a!", "ab", "a#c"}


def test_an_older_file_is_brought_up_to_date(tmp_path: Path, clock: Clock) -> None:
    """Schema 1 with items in it becomes schema 2, and its items are found as before."""
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as raw:
        for statement in statements(1, "sqlite"):
            raw.execute(statement)
        raw.execute("INSERT INTO item (run, step, item_id, queue, source, target, state, at, "
                    "reason, message_id, handle, hop, possible_duplicate) VALUES ('r1', 's', 'a', "
                    "'applications', 'hq', 'acme', 'settled', 1, '', '', '', 1, 0)")
        raw.execute(f"PRAGMA application_id={0x43434653}")
        raw.execute("PRAGMA user_version=1")
    raw.close()
    path.chmod(0o600)
    store = open_store(str(path), clock)
    assert store.schema == (1, LATEST) and store.in_work("applications", "acme", 10.0) == 1
    store.close()


def test_what_takes_too_long_to_count_is_not_waited_for(store: Store) -> None:
    """A long ledger is not counted at a glance, and says so; the next question is answered."""
    for at in range(30):
        store.record_items([row(f"U{at}-{number}") for number in range(1000)], lease=None)
    assert store.in_work("applications", "acme", 0.0) is None
    assert store.in_work("applications", "acme", 30.0) == 30_000
