"""What sites say of the work they were given; canaries; and the questions that join both with the
ledger. Everything is read in pages, so that memory does not grow with the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ccfailover.model.journal import Lease
from ccfailover.store.db import Database, Row, one_write
from ccfailover.store.leases import require_fence
from ccfailover.store.ledger import FROM, SELECTED, STATE, item_row

if TYPE_CHECKING:
    from ccfailover.model.books import Canary, Completion, Sent

_PAGE = 500
_BOOKS = "books"

_COPIES = "%#copy:%"
"""Ledger ids of further copies. A value, since no colon may stand in a statement."""

_TOLD = "site, item_id, outcome, at, reference"


class Books:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    @one_write
    def record_completions(self, rows: Sequence[Completion]) -> int:
        """Keep what a site says of items; how many of `rows` were new. The same word (site, id,
        outcome, time) twice is one; all or none."""
        with self._db.transaction(f"record {len(rows)} completions", on=_BOOKS) as tx:
            return sum(tx.change(
                "INSERT INTO completion (site, item_id, outcome, at, reference, recorded) VALUES "
                "(:site, :item_id, :outcome, :at, :reference, :now) "
                "ON CONFLICT (item_id, site, outcome, at) DO NOTHING",
                {**row.__dict__, "outcome": row.outcome.value, "now": tx.now}) for row in rows)

    def completions(self, *, item_id: str | None = None,
                    since: int = 0) -> Iterator[Completion]:
        """What was said, in the order in which it was recorded; of one item by time. `since`: of
        what happened at that instant (µs) or later."""
        if item_id is not None:
            rows = self._db.query(_with("SELECT $told FROM completion WHERE item_id = :item "
                                        "ORDER BY at, id"), {"item": item_id})
            with self._db.readable():
                yield from map(_completion, rows)
            return
        for page in self._in_pages(_with(
                "SELECT id, $told FROM completion WHERE id > :after AND at >= :since "
                "ORDER BY id LIMIT :page"), {"since": since}):
            with self._db.readable():
                yield from [_completion(row[1:]) for row in page]

    def tells(self, site: str) -> bool:
        """Whether the site has ever said what became of anything."""
        return bool(self._db.query("SELECT 1 FROM completion WHERE site = :site LIMIT 1",
                                   {"site": site}))

    def sent(self, queue: str, site: str) -> Iterator[Sent]:
        """Every item that a move took, or was to take, to `site`, with what the site said of it,
        in the order in which they were first recorded; further copies are left out."""
        from ccfailover.model.books import Sent

        for page in self._in_pages(_with(
                "SELECT i.id, i.began, $columns $from WHERE i.id > :after AND m.queue = :queue "
                "AND m.target = :site AND i.item_id NOT LIKE :copies ORDER BY i.id LIMIT :page"),
                {"queue": queue, "site": site, "copies": _COPIES}):
            with self._db.readable():
                rows = [(int(row[1]), item_row(row[2:])) for row in page]
            told = self._told(site, {row.item_id for _, row in rows})
            for first_at, row in rows:
                yield Sent(row, first_at, tuple(told.get(row.item_id, ())))

    def _told(self, site: str, items: set[str]) -> Mapping[str, list[Completion]]:
        names = {f"i{number}": item for number, item in enumerate(sorted(items))}
        among = ", ".join(":" + name for name in names) or "NULL"
        rows = self._db.query(_with(
            "SELECT $told FROM completion WHERE site = :site AND item_id IN ($among) "
            "ORDER BY at, id").replace("$among", among), {"site": site, **names})
        found: dict[str, list[Completion]] = {}
        with self._db.readable():
            for each in map(_completion, rows):
                found.setdefault(each.item_id, []).append(each)
        return found

    def never_sent(self, site: str) -> Iterator[Completion]:
        """What the site said of items that no move ever took there, one for each word."""
        for page in self._in_pages(_with(
                "SELECT c.id, $told FROM completion c WHERE c.id > :after "
                "AND c.site = :site AND NOT EXISTS (SELECT 1 $from "
                "WHERE i.item_id = c.item_id AND m.target = c.site AND (i.state <> 'left' "
                "OR i.possible_duplicate > 0) AND i.state <> 'quarantined') "
                "ORDER BY c.id LIMIT :page", "c."), {"site": site}):
            with self._db.readable():
                yield from [_completion(row[1:]) for row in page]

    def done_twice(self, site: str) -> list[tuple[str, str]]:
        """(item, other site) for what `site` and another site both say they have done."""
        rows = self._db.query(
            "SELECT DISTINCT a.item_id, b.site FROM completion a JOIN completion b "
            "ON b.item_id = a.item_id AND b.site <> a.site WHERE a.site = :site "
            "AND a.outcome <> 'returned' AND b.outcome <> 'returned' ORDER BY 1, 2",
            {"site": site})
        return [(str(item), str(other)) for item, other in rows]

    def in_work(self, queue: str, site: str, within: float) -> int | None:
        """Applications that were delivered to `site`, not taken back, and of which it has not
        said since what became of them: they wait there, or somebody works on them.

        None: they could not be counted within so many seconds, since the ledger is long."""
        rows = self._db.glance(
            _with("SELECT count(DISTINCT i.item_id) $from WHERE m.queue = :queue "
                  "AND m.target = :site AND $state IN ('delivered', 'settled', 'stranded') "
                  "AND i.item_id NOT LIKE :copies AND NOT EXISTS (SELECT 1 FROM completion c "
                  "WHERE c.item_id = i.item_id AND c.site = m.target "
                  "AND c.at + :slack >= i.began)"),
            {"queue": queue, "site": site, "copies": _COPIES, "slack": SLACK}, within)
        return None if rows is None else int(rows[0][0])

    # --- canaries

    @one_write
    def note_canary(self, canary: Canary, *, lease: Lease | None) -> None:
        """Write down where a canary is. Before it is sent, so that none is ever unknown.

        With a lease, raises Fenced (and writes nothing) unless it is in force."""
        with self._db.transaction("note a canary", on=_BOOKS) as tx:
            if lease is not None:
                require_fence(tx, lease, not_done="no canary was noted")
            tx.execute(
                "INSERT INTO canary (name, run, step, queue, site, state, at) VALUES (:name, "
                ":run, :step, :queue, :site, :state, :at) ON CONFLICT (name) DO UPDATE SET "
                "state = excluded.state, at = excluded.at",
                {**canary.__dict__, "state": canary.state.value})

    def canaries(self, *, queue: str = "", site: str = "", name: str = "") -> list[Canary]:
        """Those of one queue at one site that are not known to be back, or the one of a name,
        however it stands."""
        from ccfailover.model.books import Canary, CanaryState

        rows = self._db.query(
            "SELECT state, at, name, run, step, queue, site FROM canary WHERE (name = :name OR "
            "(state = 'sent' AND queue = :queue AND site = :site)) ORDER BY at, name",
            {"name": name, "queue": queue, "site": site})
        with self._db.readable():
            return [Canary(name, run, step, queue, site, CanaryState(state), int(at))
                    for state, at, name, run, step, queue, site in rows]

    def _in_pages(self, sql: str, params: Mapping[str, Any]) -> Iterator[list[Row]]:
        """Pages by their first column, so that nothing is locked between two of them."""
        after = 0
        while rows := self._db.query(sql, {**params, "after": after, "page": _PAGE}):
            yield rows
            after = rows[-1][0]


SLACK = 3_600_000_000
"""µs by which a site's clock may be behind ours: what it says of an item is taken for the delivery
before that if it says that it happened earlier."""


def _with(sql: str, of: str = "") -> str:
    """The statement with our own column lists, each name after `of`; values stay parameters."""
    told = ", ".join(of + name for name in _TOLD.split(", "))
    for token, text in (("$told", told), ("$columns", SELECTED), ("$from", FROM),
                        ("$state", STATE)):
        sql = sql.replace(token, text)
    return sql


def _completion(row: Row) -> Completion:
    from ccfailover.model.books import Completion, Outcome

    site, item_id, outcome, at, reference = row
    return Completion(site, item_id, Outcome(outcome), int(at), reference)
