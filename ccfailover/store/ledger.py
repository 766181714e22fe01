"""The ledger: where each work item is, and every state it went through."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import TYPE_CHECKING, Any

from ccfailover.model.journal import Lease
from ccfailover.store.db import Database, Row, Transaction, one_write
from ccfailover.store.leases import require_fence

if TYPE_CHECKING:
    from ccfailover.model.items import ItemState, LedgerRow, Lot, Tally

_MOVE = ("run", "step", "queue", "source", "target")
_COLUMNS = ("move", "item_id", "state", "began", "at", "reason", "message_id", "handle",
            "submitted", "hop", "possible_duplicate", "target_ref", "digest", "trail", "lot")
STATE, AT = "coalesce(l.state, i.state)", "coalesce(l.at, i.at)"
_KEY = "i.item_id || ':' || m.run || ':' || i.hop"
"""LedgerRow.delivery_key. A target without names of its own calls an item by it."""
REF = f"CASE WHEN l.keyed = 1 THEN {_KEY} ELSE i.target_ref END"
TRAIL = "i.trail || coalesce(l.trail, '')"
SELECTED = (f"m.run, m.step, i.item_id, m.queue, m.source, m.target, {STATE}, {AT}, i.reason, "
             f"i.message_id, i.handle, i.submitted, i.hop, i.possible_duplicate, {REF}, i.digest")
_JOINED = "JOIN move AS m ON m.id = i.move LEFT JOIN lot AS l ON l.id = i.lot"
FROM = f"FROM item AS i {_JOINED}"
_PAGE = 500

_LEDGER = "ledger"
"""One batch at a time: two that name the same items in another order would wait for each other."""

ITS_OWN = "\x1e"
"""Stands in a line of a trail that many items share for what the target calls each of them."""
_LOTS_REF = f"CASE WHEN lot.keyed = 1 THEN {_KEY.replace('i.', 'item.')} ELSE item.target_ref END"
_LOTS_TRAIL = (f"(SELECT replace(lot.trail, '{ITS_OWN}', coalesce({_LOTS_REF}, '')) FROM lot "
               "JOIN move AS m ON m.id = item.move WHERE lot.id = item.lot)")
"""What an item takes with it that leaves its lot: the lines that all share, with its own name."""

_UPSERT = f"""
    INSERT INTO item ({', '.join(_COLUMNS)}) $rows
    ON CONFLICT (item_id, move) DO UPDATE SET state = excluded.state, at = excluded.at,
        reason = excluded.reason, message_id = excluded.message_id, handle = excluded.handle,
        submitted = excluded.submitted, hop = excluded.hop, target_ref = excluded.target_ref,
        digest = excluded.digest, lot = excluded.lot,
        trail = item.trail || coalesce({_LOTS_TRAIL}, '') || excluded.trail,
        possible_duplicate = item.possible_duplicate | excluded.possible_duplicate"""

_LEAVE = f"""
    UPDATE item SET state = (SELECT lot.state FROM lot WHERE lot.id = item.lot),
        at = coalesce((SELECT lot.at FROM lot WHERE lot.id = item.lot), at),
        target_ref = (SELECT {_LOTS_REF} FROM lot JOIN move AS m ON m.id = item.move
            WHERE lot.id = item.lot),
        trail = trail || {_LOTS_TRAIL}, lot = NULL
    WHERE lot = :lot AND item_id NOT IN (SELECT wanted.value FROM $wanted AS wanted)"""

_IN_LOT = "lot"
"""What stands for the state of an item that is in one."""
_OPEN = frozenset({"claimed", "delivered", "stranded"})
_WORDS = "'claimed', 'delivered', 'stranded'"
_OPEN_ONES = (f"SELECT o.id FROM item AS o WHERE o.state IN ({_WORDS}) "
              "UNION ALL SELECT o.id FROM lot CROSS JOIN item AS o "
              f"WHERE o.lot = lot.id AND lot.state IN ({_WORDS})")
"""The few whose way is not at its end, among the many that arrived. In the words of the indexes,
since only then does SQLite see that they will do; crossed, since then it looks at lots first."""


class Ledger:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    @one_write
    def record_items(self, rows: Sequence[LedgerRow], *, lease: Lease | None,
                     lot: Lot | None = None) -> str | None:
        """Write the present state of items, one row for each item and move (run, step, queue,
        source, target), and a line on its trail; all or none. A `possible_duplicate` or
        `resent` that was ever true stays true. `lot`: more of them, that go on together; one of
        `rows` that is in a lot leaves it. Returns that lot's name.

        With a lease, raises Fenced (and writes nothing) unless it is in force; renews it.
        """
        count = len(rows) + (len(lot.rows) if lot else 0)
        with self._db.transaction(f"record {count} items in the ledger", on=_LEDGER) as tx:
            if lease is not None:
                require_fence(tx, lease, not_done=f"{count} items were not recorded")
            if rows:
                self._write(tx, rows)
            if lot is None or not lot.rows:
                return None
            return self._begin(tx, lot) if lot.name is None else self._go_on(tx, lot, lot.name)

    def _write(self, tx: Transaction, rows: Sequence[LedgerRow], lot: int | None = None) -> None:
        found = _params(rows, self._moves_of(tx, rows), lot)
        # One statement cannot change a row twice: an item that occurs twice has two turns.
        once = len({(each[0], each[1]) for each in found}) == len(found)
        for batch in [found] if once else [[each] for each in found]:
            tx.insert(_UPSERT, batch)

    def _begin(self, tx: Transaction, lot: Lot) -> str:
        first = _first(lot.rows[0])
        made = tx.execute("INSERT INTO lot (first, size, state, keyed, trail) "
                          "VALUES (:first, :size, :state, 0, '') RETURNING id",
                          {"first": first, "size": len(lot.rows),
                           "state": lot.rows[0].state.value})
        number = int(made[0][0])
        self._write(tx, lot.rows, number)
        return f"{number} {first}"

    def _go_on(self, tx: Transaction, lot: Lot, name: str) -> str | None:
        """What is not in the lot any more, since somebody else wrote of it, is written row by row,
        and the rest with it.

        The number alone is no name: a standby that took over may have lost what was numbered
        last, and give the number to another lot."""
        from ccfailover.store.trail import together

        number, _, begun = name.partition(" ")
        mine = {"lot": int(number)}
        known = tx.execute("SELECT size, state, keyed FROM lot WHERE id = :lot AND first = :first",
                           {**mine, "first": begun})
        if known and known[0][0] != len(lot.rows):
            wanted, among = self._db.among([row.item_id for row in lot.rows])
            tx.execute(_LEAVE.replace("$wanted", wanted), {**mine, "among": among})
        there = tx.execute("SELECT count(*) FROM item WHERE lot = :lot", mine)[0][0]
        if not known or there != len(lot.rows):
            self._write(tx, lot.rows)
            return None
        keyed = known[0][2]
        if known[0][1] == "claimed" and all(
                row.target_ref == row.delivery_key for row in lot.rows):
            keyed = 1
        elif known[0][1] == "claimed" and any(row.target_ref for row in lot.rows):
            move = self._moves_of(tx, lot.rows)[_move(lot.rows[0])]
            tx.many("UPDATE item SET target_ref = :ref WHERE item_id = :item_id AND move = :move",
                    [{"move": move, "ref": row.target_ref, "item_id": row.item_id}
                     for row in lot.rows])
        tx.execute("UPDATE lot SET state = :state, at = :at, size = :size, keyed = :keyed, "
                   "trail = trail || :line WHERE id = :lot",
                   {**mine, "state": lot.rows[0].state.value, "at": lot.rows[0].at, "size": there,
                    "keyed": keyed, "line": together(lot.rows)})
        return name

    def _moves_of(self, tx: Transaction, rows: Iterable[LedgerRow]) -> dict[tuple[str, ...], int]:
        """The number of each move, made in `tx` where it is new. Asked anew each time: a standby
        that took over may have lost what was numbered last."""
        found = {}
        for move in sorted({_move(row) for row in rows}, key=repr):
            values = dict(zip(_MOVE, move, strict=True))
            tx.execute("INSERT INTO move (run, step, queue, source, target) VALUES "
                       "(:run, :step, :queue, :source, :target) ON CONFLICT DO NOTHING", values)
            found[move] = tx.execute(
                "SELECT id FROM move WHERE run = :run AND step = :step AND queue = :queue "
                "AND source = :source AND target = :target", values)[0][0]
        return found

    def items(
        self, *, run: str | None = None, step: str | None = None, queue: str | None = None,
        states: Collection[ItemState] | None = None, like: str | None = None,
    ) -> Iterator[LedgerRow]:
        """The rows that match, in the order in which they were first recorded.

        `like`: their ids match this pattern of SQL. Read in pages: what is recorded meanwhile may
        or may not show.
        """
        where, params = _where(run, step, queue, states, like)
        after = 0
        while True:
            rows = self._db.query(
                f"SELECT i.id, {SELECTED} {FROM} WHERE i.id > :after{where} "
                "ORDER BY i.id LIMIT :page", {**params, "after": after, "page": _PAGE})
            with self._db.readable():
                found = [item_row(row[1:]) for row in rows]
            yield from found
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def items_of(self, queue: str, ids: Collection[str]) -> list[LedgerRow]:
        """What all moves of `queue` have recorded under these ids."""
        if not ids:
            return []
        wanted, among = self._db.among(ids)
        rows = self._db.query(
            f"SELECT {SELECTED} FROM {wanted} AS wanted "
            f"JOIN item AS i ON i.item_id = wanted.value {_JOINED} WHERE m.queue = :queue "
            "ORDER BY i.id",
            {"queue": queue, "among": among})
        with self._db.readable():
            return [item_row(row) for row in rows]

    def item_counts(
        self, *, run: str | None = None, step: str | None = None, queue: str | None = None,
        states: Collection[ItemState] | None = None,
    ) -> dict[ItemState, int]:
        """How many rows are in each state; every state is there, with 0 when none is.

        Asked for the `states` of open items alone (claimed, delivered, stranded) it is quick
        however long the ledger is."""
        from ccfailover.model.items import ItemState

        where, params = _where(run, step, queue, states)
        rows = self._db.query(
            f"SELECT {STATE}, count(*) {FROM} WHERE 1 = 1{where} GROUP BY {STATE}", params)
        with self._db.readable():
            return dict.fromkeys(ItemState, 0) | {ItemState(s): n for s, n in rows}

    def item_tally(self, *, run: str, step: str, queue: str, mark: str) -> list[Tally]:
        """How many rows a move has of each sort; `mark`: what a marked one has in its id."""
        from ccfailover.model.items import ItemState, Tally

        where, params = _where(run, step, queue, None)
        rows = self._db.query(
            f"SELECT {STATE}, i.item_id LIKE :mark AS marked, i.possible_duplicate AS flags, "
            f"count(*), max({AT}) {FROM} WHERE i.id > 0{where} "
            f"GROUP BY {STATE}, marked, flags", {**params, "mark": f"%{mark}%"})
        with self._db.readable():
            return [Tally(ItemState(state), bool(marked), bool(flags & 1), int(count), int(latest))
                    for state, marked, flags, count, latest in rows]

    def item_reasons(self, *, run: str, step: str, queue: str, states: Collection[ItemState],
                     most: int) -> dict[str, int]:
        """The `most` frequent reasons of a move's rows in `states`."""
        where, params = _where(run, step, queue, states)
        rows = self._db.query(
            f"SELECT i.reason, count(*) AS n {FROM} WHERE i.id > 0{where} GROUP BY i.reason "
            "ORDER BY n DESC, i.reason LIMIT :most", {**params, "most": most})
        return {reason or "no reason recorded": int(count) for reason, count in rows}

    def find_item(self, item_id: str) -> list[LedgerRow]:
        """Where one item is, in every move it took part in; the latest touched first."""
        return [row for row, _ in sorted(self._trails(item_id), key=_last, reverse=True)]

    def item_history(self, item_id: str) -> list[LedgerRow]:
        """Every state that one item went through, oldest first (`handle` is left out)."""
        from ccfailover.store import trail

        with self._db.readable():
            found = [list(trail.history(row, text)) for row, text in self._trails(item_id)]
        # Within one move the order in which it was written counts, whatever a clock said.
        return list(merge(*found, key=lambda row: row.at))

    def _trails(self, item_id: str) -> list[tuple[LedgerRow, str]]:
        rows = self._db.query(
            f"SELECT {SELECTED}, {TRAIL} {FROM} WHERE i.item_id = :item_id ORDER BY i.id",
            {"item_id": item_id})
        with self._db.readable():
            return [(item_row(row[:-1]), row[-1]) for row in rows]


def _last(found: tuple[LedgerRow, str]) -> tuple[int, int]:
    row, trail = found
    return row.at, trail.count("\n")


def _first(row: LedgerRow) -> str:
    """Tells a lot from every other one: its first item, in its run, at that instant."""
    return f"{row.run} {row.at} {row.item_id}"


def _move(row: LedgerRow) -> tuple[str, ...]:
    return row.run, row.step, row.queue, row.source, row.target


def _where(
    run: str | None, step: str | None, queue: str | None, states: Collection[ItemState] | None,
    like: str | None = None,
) -> tuple[str, dict[str, Any]]:
    wanted = {"run": run, "step": step, "queue": queue}
    params: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    sql = "".join(f" AND m.{name} = :{name}" for name in params)
    if states is not None:
        among = ", ".join(f"'{state.value}'" for state in states) or "NULL"
        if {state.value for state in states} <= _OPEN:
            sql += f" AND i.id IN ({_OPEN_ONES})"
        sql += f" AND {STATE} IN ({among})"
    if like is not None:
        params["like"] = like
        sql += " AND i.item_id LIKE :like"
    return sql, params


def _params(
    rows: Iterable[LedgerRow], moves: Mapping[tuple[str, ...], int], lot: int | None
) -> list[tuple[Any, ...]]:
    from ccfailover.store.trail import line

    # `_value_`: a tenth of what asking an enum for its `value` costs.
    return [(moves[_move(row)], row.item_id, _IN_LOT if lot else row.state._value_, row.at, row.at,
             row.reason, row.message_id, row.handle, row.submitted, row.hop, row.flags,
             row.target_ref, row.digest, line(row), lot) for row in rows]


def item_row(values: Row) -> LedgerRow:
    from ccfailover.model.items import ItemState, LedgerRow

    (run, step, item_id, queue, source, target, state, at, reason, message_id, handle, submitted,
     hop, flags, target_ref, digest) = values
    return LedgerRow(run, step, item_id, queue, source, target, ItemState(state), at, reason,
                     message_id, handle, submitted, hop, bool(flags & 1), target_ref, digest,
                     bool(flags & 2))
