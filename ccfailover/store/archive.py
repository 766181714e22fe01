"""The ledger as an archive: read out whole, page by page, and thinned out once it may be.

Functions over a store, as `incidents` are: only `transfer export`, `find` and `prune` need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ccfailover.store import chain, trail
from ccfailover.store.books import _TOLD, _completion
from ccfailover.store.db import Row, Transaction
from ccfailover.store.ledger import AT, FROM, SELECTED, TRAIL, item_row
from ccfailover.store.record import insert

if TYPE_CHECKING:
    from ccfailover.model.books import Completion
    from ccfailover.model.items import LedgerRow
    from ccfailover.store import Store

_PAGE = 500
COPY = "#copy:"
_AFTER_COPY = "#copy;"
"""The first text after every one that begins with `COPY`."""

Ask = Callable[[str, Mapping[str, Any]], list[Row]]


def last_entry(store: Store) -> int:
    """The number of the newest row; 0 when there is none."""
    rows = store._db.query("SELECT max(id) FROM item")
    return int(rows[0][0] or 0)


def history(store: Store, *, run: str | None = None, queue: str | None = None, since: int = 0,
            last: int) -> Iterator[LedgerRow]:
    """Every state of every item up to row `last`, item by item (without `handle`)."""
    where, params = _where(run, queue, since)
    after = 0
    while True:
        rows = store._db.query(
            _with("SELECT i.id, $trail, $columns $from WHERE i.id > :after AND i.id <= :last $and "
                  "ORDER BY i.id LIMIT :page", where),
            {**params, "after": after, "last": last, "page": _PAGE})
        with store._db.readable():
            found = [state for row in rows for state in trail.history(item_row(row[2:]), row[1])
                     if state.at >= since]
        yield from found
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def runs_of(store: Store, *, run: str | None = None, queue: str | None = None, since: int = 0,
            last: int) -> list[str]:
    """The runs that wrote these lines."""
    where, params = _where(run, queue, since)
    rows = store._db.query(
        _with("SELECT DISTINCT m.run $from WHERE i.id <= :last $and ORDER BY m.run", where),
        {**params, "last": last})
    return [str(row[0]) for row in rows]


def _where(run: str | None, queue: str | None, since: int) -> tuple[str, dict[str, Any]]:
    params: dict[str, Any] = {name: value for name, value in (("run", run), ("queue", queue))
                              if value is not None}
    sql = "".join(f" AND m.{name} = :{name}" for name in params)
    if since:
        params["since"] = since
        sql += f" AND {AT} >= :since"
    return sql, params


def names_of(store: Store, application: str) -> list[str]:
    """Every ledger id of one application: its own, and those of its further copies."""
    rows = store._db.query(
        _with("SELECT DISTINCT item_id FROM item WHERE $one ORDER BY item_id"),
        _one(application))
    return [str(row[0]) for row in rows]


_ONE = "(item_id = :item OR (item_id >= :copies AND item_id < :beyond))"


def _with(sql: str, and_: str = "") -> str:
    """The statement with our own columns and conditions; values stay parameters."""
    for token, text in (("$columns", SELECTED), ("$from", FROM), ("$told", _TOLD), ("$one", _ONE),
                        ("$trail", TRAIL), ("$and", and_)):
        sql = sql.replace(token, text)
    return sql


def _one(application: str) -> dict[str, Any]:
    return {"item": application, "copies": application + COPY,
            "beyond": application + _AFTER_COPY}


# --- thinning out --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holding:
    """Everything that the ledger has of one application. `open_runs`: those that have not ended."""

    application: str
    rows: tuple[LedgerRow, ...]
    told: tuple[Completion, ...]
    open_runs: frozenset[str]


Judge = Callable[[Holding], str | None]
"""None: it may go. Else why it stays."""


def applications(store: Store) -> Iterator[list[str]]:
    """Every application in the ledger once, in pages, in the order of their ids."""
    after = ""
    while True:
        rows = store._db.query(
            "SELECT DISTINCT item_id FROM item WHERE item_id > :after ORDER BY item_id "
            "LIMIT :page", {"after": after, "page": _PAGE})
        if not rows:
            return
        names = [str(row[0]) for row in rows]
        after = names[-1]
        # A copy goes with its application; only one whose application has no row is its own.
        yield [name for name in dict.fromkeys(name.split(COPY, 1)[0] for name in names)
               if name in names or not store._db.query(
                   "SELECT 1 FROM item WHERE item_id = :item", {"item": name})]


def look(store: Store, names: Sequence[str]) -> Iterator[Holding]:
    """What there is of each of them now."""
    open_ = _open_runs(store._db.query)
    for name in names:
        yield _holding(store._db.query, name, open_)


@dataclass
class Removed:
    """How many `applications` and ledger `rows` went, of which `runs`; why the others stay."""

    applications: int
    rows: int
    runs: set[str]
    kept: dict[str, str]


def remove(store: Store, names: Sequence[str], judge: Judge) -> Removed:
    """Delete what `judge` lets go, judged within the transaction that deletes it."""
    return store._db.perform(lambda: _remove(store, names, judge))


def _remove(store: Store, names: Sequence[str], judge: Judge) -> Removed:
    done, lots = Removed(0, 0, set(), {}), set[int]()
    # Nobody else writes meanwhile: what is judged is what is deleted.
    with store._db.transaction(f"prune {len(names)} applications from the ledger") as tx:
        open_ = _open_runs(tx.execute)
        for name in names:
            holding = _holding(tx.execute, name, open_)
            why = judge(holding)
            if why is not None:
                done.kept[name] = why
                continue
            done.runs |= {row.run for row in holding.rows}
            lots.update(each for each, in tx.execute(_with(
                "SELECT DISTINCT lot FROM item WHERE $one AND lot IS NOT NULL"), _one(name)))
            done.rows += tx.change(_with("DELETE FROM item WHERE $one"), _one(name))
            tx.change("DELETE FROM completion WHERE item_id = :item", {"item": name})
            done.applications += 1
        for lot in sorted(lots):
            tx.execute("DELETE FROM lot WHERE id = :lot AND NOT EXISTS "
                       "(SELECT 1 FROM item WHERE item.lot = lot.id)", {"lot": lot})
    return done


def journaled(store: Store, kind: str, data: Mapping[str, Any], *, actor: str,
              fact: str, value: Any) -> None:
    """An event in `automation`, and the fact that stands for the last of its kind; one write."""
    store._db.perform(lambda: _journaled(store, kind, data, actor=actor, fact=fact, value=value))


def _journaled(store: Store, kind: str, data: Mapping[str, Any], *, actor: str, fact: str,
               value: Any) -> None:
    from ccfailover.model.plan import canonical

    with store._db.transaction(f"journal {kind}", on=chain.AUTOMATION) as tx:
        insert(tx, chain.AUTOMATION, kind, data, actor=actor, fence=0)
        _keep(tx, fact, canonical(value))


def _keep(tx: Transaction, name: str, value: str) -> None:
    tx.execute("INSERT INTO fact (name, value) VALUES (:name, :value) "
               "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
               {"name": name, "value": value})


def _open_runs(ask: Ask) -> frozenset[str]:
    return frozenset(str(row[0]) for row in ask("SELECT id FROM run WHERE ended IS NULL", {}))


def _holding(ask: Ask, application: str, open_: frozenset[str]) -> Holding:
    rows = ask(_with("SELECT $columns $from WHERE $one ORDER BY i.id"), _one(application))
    told = ask(_with("SELECT $told FROM completion WHERE item_id = :item ORDER BY at, id"),
               {"item": application})
    return Holding(application, tuple(map(item_row, rows)), tuple(map(_completion, told)), open_)
