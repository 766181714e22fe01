"""The ledger: where each work item is, and every state it went through."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ccfailover.model.journal import Lease
from ccfailover.store.db import Database, Row, one_write
from ccfailover.store.leases import require_fence

if TYPE_CHECKING:
    from ccfailover.model.items import ItemState, LedgerRow

_NAMES = ("run", "step", "item_id", "queue", "source", "target", "state", "at", "reason",
          "message_id", "handle", "submitted", "hop", "possible_duplicate", "target_ref")
_COLUMNS = ", ".join(_NAMES)
_PAGE = 500

_LEDGER = "ledger"
"""One batch at a time: two that name the same items in another order would wait for each other."""

_UPSERT = """
    INSERT INTO item (run, step, item_id, queue, source, target, state, at, reason, message_id,
        handle, submitted, hop, possible_duplicate, target_ref)
    VALUES (:run, :step, :item_id, :queue, :source, :target, :state, :at, :reason, :message_id,
        :handle, :submitted, :hop, :possible_duplicate, :target_ref)
    ON CONFLICT (run, step, item_id) DO UPDATE SET
        queue = excluded.queue, source = excluded.source, target = excluded.target,
        state = excluded.state, at = excluded.at, reason = excluded.reason,
        message_id = excluded.message_id, handle = excluded.handle,
        submitted = excluded.submitted, hop = excluded.hop, target_ref = excluded.target_ref,
        possible_duplicate = CASE WHEN item.possible_duplicate = 1 THEN 1
            ELSE excluded.possible_duplicate END"""

# Taken from the row as it now is, so that history and present never differ. What the platform
# needs to settle a claim (`handle`) is of no use afterwards and not kept twice.
_LOG = """
    INSERT INTO item_history (run, step, item_id, queue, source, target, state, at, reason,
        message_id, handle, submitted, hop, possible_duplicate, target_ref)
    SELECT run, step, item_id, queue, source, target, state, at, reason,
        message_id, '', submitted, hop, possible_duplicate, target_ref
    FROM item WHERE run = :run AND step = :step AND item_id = :item_id"""


class Ledger:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    @one_write
    def record_items(self, rows: Sequence[LedgerRow], *, lease: Lease | None) -> None:
        """Write the present state of items, keyed (run, step, item_id), and one line of history
        each; all or none. A `possible_duplicate` that was ever true stays true.

        With a lease, raises Fenced (and writes nothing) unless it is in force; renews it.
        """
        params = [_params(row) for row in rows]
        with self._db.transaction(
            f"record {len(params)} items in the ledger", on=_LEDGER
        ) as tx:
            if lease is not None:
                require_fence(tx, lease, not_done=f"{len(params)} items were not recorded")
            # An item that occurs twice has two lines of history: so one after the other.
            once = len({(row.run, row.step, row.item_id) for row in rows}) == len(rows)
            for batch in [params] if once else [[each] for each in params]:
                tx.many(_UPSERT, batch)
                tx.many(_LOG, batch)

    def items(
        self, *, run: str | None = None, step: str | None = None, queue: str | None = None,
        states: Collection[ItemState] | None = None,
    ) -> Iterator[LedgerRow]:
        """The rows that match, in the order in which they were first recorded.

        Read in pages: what is recorded meanwhile may or may not show.
        """
        where, params = _where(run, step, queue, states)
        after = 0
        while True:
            rows = self._db.query(
                _with("SELECT id, $columns FROM item WHERE id > :after $and "
                      "ORDER BY id LIMIT :page", where), {**params, "after": after, "page": _PAGE})
            with self._db.readable():
                found = [_row(row[1:]) for row in rows]
            yield from found
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def item_counts(
        self, *, run: str | None = None, step: str | None = None, queue: str | None = None
    ) -> dict[ItemState, int]:
        """How many rows are in each state; every state is there, with 0 when none is."""
        from ccfailover.model.items import ItemState

        where, params = _where(run, step, queue, None)
        rows = self._db.query(
            _with("SELECT state, count(*) FROM item WHERE id > 0 $and GROUP BY state", where),
            params)
        with self._db.readable():
            return dict.fromkeys(ItemState, 0) | {ItemState(s): n for s, n in rows}

    def find_item(self, item_id: str) -> list[LedgerRow]:
        """Where one item is, in every move it took part in; the latest touched first."""
        rows = self._db.query(
            _with("SELECT $columns FROM item WHERE item_id = :item_id ORDER BY "
                  "(SELECT max(h.id) FROM item_history h WHERE h.item_id = item.item_id "
                  "AND h.run = item.run AND h.step = item.step) DESC"), {"item_id": item_id})
        with self._db.readable():
            return [_row(row) for row in rows]

    def item_history(self, item_id: str) -> list[LedgerRow]:
        """Every state that one item went through, oldest first (`handle` is left out)."""
        rows = self._db.query(
            _with("SELECT $columns FROM item_history WHERE item_id = :item_id ORDER BY id"),
            {"item_id": item_id})
        with self._db.readable():
            return [_row(row) for row in rows]


def _with(sql: str, and_: str = "") -> str:
    """The statement with our own column list and conditions; values stay parameters."""
    return sql.replace("$columns", _COLUMNS).replace("$and", and_)


def _where(
    run: str | None, step: str | None, queue: str | None, states: Collection[ItemState] | None
) -> tuple[str, dict[str, Any]]:
    wanted = {"run": run, "step": step, "queue": queue}
    params: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    sql = "".join(f" AND {name} = :{name}" for name in params)
    if states is not None:
        names = {f"state{index}": state.value for index, state in enumerate(states)}
        params.update(names)
        # Nothing between the brackets is understood by SQLite alone.
        among = ", ".join(":" + name for name in names) or "NULL"
        sql += f" AND state IN ({among})"
    return sql, params


def _params(row: LedgerRow) -> dict[str, Any]:
    return {**row.__dict__, "state": row.state.value,
            "possible_duplicate": int(row.possible_duplicate)}


def _row(values: Row) -> LedgerRow:
    from ccfailover.model.items import ItemState, LedgerRow

    data = dict(zip(_NAMES, values, strict=True))
    data["state"] = ItemState(data["state"])
    data["possible_duplicate"] = bool(data["possible_duplicate"])
    return LedgerRow(**data)
