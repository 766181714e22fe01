"""Incidents are events in `automation`; the index over them is never the truth."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from ccfailover.model.incident import fold
from ccfailover.store import Store, incidents, open_store
from ccfailover.store.verify import verify_export
from tests.unit.store.conftest import Clock


def declare(store: Store, name: str = "INC-42", **more: Any) -> None:
    data = {"commander": "mary", "reason": "power", "at": 5} | more
    assert incidents.write(store, name, "incident.declared", data, actor="dana", expected=0)


def test_events_are_found_without_reading_the_stream(store: Store) -> None:
    """Between them lie other events; only its own come back, in order, and they verify."""
    declare(store)
    for turn in range(3):
        store.append("automation", "decision.made", {"n": turn}, actor="cron")
        assert incidents.write(store, "INC-42", "incident.note", {"text": str(turn)}, actor="joe",
                               expected=1 + turn)
    found = fold(incidents.events(store, "INC-42"))
    assert [note.text for note in found.notes] == ["0", "1", "2"] and found.events == 4
    assert found.head == store.head("automation")
    assert incidents.events(store, "INC-9") == []
    assert store.verify() == [] == verify_export(store.export())


def test_who_looked_at_an_older_state_writes_nothing(store: Store) -> None:
    """Two people declare at once, or one closes while the other hands over: one is told."""
    declare(store)
    before = store.head("automation")
    assert incidents.write(store, "INC-42", "incident.declared", {}, actor="x", expected=0) is None
    assert incidents.write(store, "INC-42", "incident.closed", {}, actor="x", expected=5) is None
    assert store.head("automation") == before
    assert incidents.names(store, only_open=True) == ["INC-42"]


def test_many_writers_lose_nothing(new_location: Any) -> None:
    """Twenty notes from four threads with connections of their own: all are there, once."""
    location = new_location()
    first = open_store(location, Clock())
    declare(first)

    def write(who: int) -> None:
        mine = open_store(location, Clock())
        for turn in range(5):
            written = None
            while written is None:
                known = len(incidents.events(mine, "INC-42"))
                written = incidents.write(mine, "INC-42", "incident.note",
                                          {"text": f"{who}.{turn}"}, actor="x", expected=known)
        mine.close()

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [note.text for note in fold(incidents.events(first, "INC-42")).notes]
    assert sorted(texts) == [f"{who}.{turn}" for who in range(4) for turn in range(5)]
    assert first.verify() == []
    first.close()


def test_the_open_ones_are_named(store: Store) -> None:
    """In the order in which they were declared; a closed one stays among all."""
    for name in ("b", "a", "c"):
        declare(store, name)
    assert incidents.write(store, "a", "incident.closed", {"reason": ""}, actor="x", expected=1)
    assert incidents.names(store, only_open=True) == ["b", "c"]
    assert incidents.names(store, only_open=False) == ["b", "a", "c"]


@pytest.mark.parametrize("sql", [
    "UPDATE fact SET value = '[]' WHERE name = 'incident/INC-42'",
    "DELETE FROM fact WHERE name LIKE 'incident%'",
    "UPDATE fact SET value = '{\"all\":[\"INC-42\"],\"open\":[]}' WHERE name = 'incidents'",
    "INSERT INTO fact VALUES ('incident/INC-1', '[1]')",
])
def test_an_index_that_says_other_than_the_journal_is_found(tmp_path: Path, sql: str) -> None:
    """Somebody with the file hides an incident, or makes one up: `journal verify` names it."""
    path = tmp_path / "store.db"
    store = open_store(str(path), Clock())
    declare(store)
    assert store.verify() == []
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute(sql)
    raw.close()
    again = open_store(str(path), Clock())
    assert any("incident" in problem for problem in again.verify())
    again.close()
