"""A store of an older version is brought up to date with everything that it knew."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store
from ccfailover.store.migrations import statements
from ccfailover.store.postgres import PostgresDatabase
from ccfailover.store.sqlite import APPLICATION_ID

DIGEST = "0123456789abcdef" * 2
ROWS = [
    # run, step, item, state, at, reason, duplicate, target_ref
    ("r1", "s", "u1", "settled", 30, f"[body {DIGEST}]", 1, "t1"),
    ("r1", "s", "u2", "left", 20, f"not eligible under the policy [body {DIGEST}]", 0, None),
    ("r2", "s", "u1", "claimed", 40, "no digest", 0, None),
]
HISTORY = [
    ("r1", "s", "u1", "claimed", 10, f"[body {DIGEST}]", 0, None),
    ("r1", "s", "u2", "left", 20, f"not eligible under the policy [body {DIGEST}]", 0, None),
    ("r1", "s", "u1", "delivered", 20, f"[body {DIGEST}]", 1, "t1"),
    ("r1", "s", "u1", "settled", 30, f"[body {DIGEST}]", 1, "t1"),
    ("r2", "s", "u1", "claimed", 40, "no digest", 0, None),
]


def filled() -> list[str]:
    made = []
    for table, rows in (("item", ROWS), ("item_history", HISTORY)):
        for run, step, item, state, at, reason, twice, ref in rows:
            made.append(
                f"INSERT INTO {table} (run, step, item_id, queue, source, target, state, at, "
                "reason, message_id, handle, submitted, hop, possible_duplicate, target_ref) "
                f"VALUES ('{run}', '{step}', '{item}', 'apps', 'hq', 'acme', '{state}', {at}, "
                f"'{reason}', 'm-{item}', 'h', '2018-01-02', 1, {twice}, "
                f"{'NULL' if ref is None else repr(ref)})")
    return made


@pytest.fixture(params=["sqlite", "postgres"])
def upgraded(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "sqlite":
        path = tmp_path / "store.db"
        raw = sqlite3.connect(path, isolation_level=None)
        for sql in (*statements(1, "sqlite"), *filled()):
            raw.execute(sql)
        raw.execute(f"PRAGMA application_id={APPLICATION_ID}")
        raw.execute("PRAGMA user_version=1")
        raw.close()
        return open_store(str(path), SystemRuntime())
    server = request.getfixturevalue("postgres")
    dsn = server.new_database()

    class First(PostgresDatabase):
        latest = 1

    old = First(dsn, SystemRuntime())
    with old.transaction("fill") as tx:
        for sql in filled():
            tx.execute(sql)
    old.close()
    return open_store(dsn, SystemRuntime(), upgrade=True)


def test_the_ledger_of_schema_1_is_kept_whole(upgraded):
    """Rows, order, history, doubts; the digest leaves the reason; and writing goes on."""
    rows = list(upgraded.items())
    assert [(row.run, row.item_id, row.state.value, row.at) for row in rows] == [
        ("r1", "u1", "settled", 30), ("r1", "u2", "left", 20), ("r2", "u1", "claimed", 40)]
    assert [row.reason for row in rows] == ["", "not eligible under the policy", "no digest"]
    assert [row.digest for row in rows] == [DIGEST, DIGEST, ""]
    assert (rows[0].target_ref, rows[0].possible_duplicate) == ("t1", True)
    told = [(row.run, row.state.value, row.at, row.possible_duplicate, row.message_id, row.hop)
            for row in upgraded.item_history("u1")]
    assert told == [("r1", "claimed", 10, False, "m-u1", 1),
                    ("r1", "delivered", 20, True, "m-u1", 1),
                    ("r1", "settled", 30, True, "m-u1", 1),
                    ("r2", "claimed", 40, False, "m-u1", 1)]
    upgraded.record_items([replace(rows[2], state=ItemState.DELIVERED, at=50),
                           LedgerRow("r2", "s", "u9", "apps", "hq", "acme", ItemState.LEFT, 51)],
                          lease=None)
    assert [row.at for row in upgraded.item_history("u1")] == [10, 20, 30, 40, 50]
    assert [row.item_id for row in upgraded.items()] == ["u1", "u2", "u1", "u9"]
    upgraded.close()


def test_a_trail_survives_whatever_a_platform_says(upgraded):
    """Separators and line ends in a reason or an id cannot forge a state."""
    bad = "a\x1fsettled\x1f1\n settled\x1f9\x1f0\x1f\x1f"
    upgraded.record_items([LedgerRow("r3", "s", "u3", "apps", "hq", "acme", ItemState.CLAIMED, 60,
                                     reason=bad, message_id=bad, target_ref=bad)], lease=None)
    upgraded.record_items([LedgerRow("r3", "s", "u3", "apps", "hq", "acme", ItemState.DELIVERED,
                                     61, reason=bad, message_id=bad, target_ref=bad)], lease=None)
    assert [row.state for row in upgraded.item_history("u3")] == [
        ItemState.CLAIMED, ItemState.DELIVERED]
    assert next(upgraded.items(run="r3")).reason == bad
    upgraded.close()
