"""A shared store whose events this machine keeps in a mirror, too.

The server's chains must begin with all that this machine has seen of them. They do not when an
asynchronous standby took over without the last events, or when an older copy was put back: then
nothing is read or written until these events are brought back. It is looked at when the store is
opened, and before each event that is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from ccfailover.errors import StoreError
from ccfailover.store import chain
from ccfailover.store.db import Database, Row, Transaction
from ccfailover.store.mirror import Diverged, Event, Mirror

T = TypeVar("T")

Query = Callable[[str, Mapping[str, Any]], list[Row]]

PAGE = 1000
"""Events in one answer of the server."""

STREAMS = 40
"""Streams that are asked for at once."""


class LostTail(StoreError):
    """The server does not have events that this machine has seen there."""


class MirroredTransaction(Transaction):
    def __init__(self, inner: Transaction, mirror: Mirror, path: str) -> None:
        self._inner, self._mirror, self._path = inner, mirror, path
        self.now = inner.now
        self.events: list[Event] = []
        self.fence = 0

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        return self._inner.execute(sql, params)

    def change(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        return self._inner.change(sql, params)

    def many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self._inner.many(sql, rows)

    def insert(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._inner.insert(sql, rows)

    def journal(self, stream: str, seq: int, text: str, hash_: str) -> None:
        # We hold the stream: the server's last event is no older than anything seen before.
        seen = self._mirror.head(stream)
        if seen is not None and (
                seen[0] >= seq or (seen[0] == seq - 1 and f'"prev":"{seen[1]}"' not in text)):
            raise lost_tail(self._path, [f"{stream} (event {seq} and later)"], "")
        self._inner.journal(stream, seq, text, hash_)
        self.events.append((stream, seq, text, hash_))

    def next_fence(self, last: int) -> int:
        self.fence = self._inner.next_fence(max(last, self._mirror.fence))
        return self.fence


class MirroredDatabase(Database):
    """`inner`, the shared one, with a mirror beside it. `verified` False: open it although the
    server has lost something, to bring it back."""

    def __init__(self, inner: Database, mirror: Mirror, *, verified: bool = True) -> None:
        self._inner = inner
        self.mirror = self._mirror = mirror
        self.path = inner.path
        self.runtime = inner.runtime
        self.schema_before = inner.schema_before
        self._verified = verified
        self._lost: StoreError | None = None
        self._checked = -1
        if verified:
            self.catch_up()

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        rows = self._inner.query(sql, params)
        self._watch()
        return rows

    def glance(self, sql: str, params: Mapping[str, Any], within: float) -> list[Row] | None:
        rows = self._inner.glance(sql, params, within)
        self._watch()
        return rows

    def _watch(self) -> None:
        if self._verified and self._inner.connected != self._checked:
            # What goes on after its server came back may be talking to another one.
            self._require_all(self._inner.query)
            self._checked = self._inner.connected

    def snapshot(self) -> AbstractContextManager[None]:
        return self._inner.snapshot()

    @contextmanager
    def transaction(self, doing: str, on: str | None = None) -> Iterator[Transaction]:
        if self._lost is not None:
            raise self._lost
        if not self._verified:
            with self._inner.transaction(doing, on) as bare:
                yield bare
            return
        with self._inner.transaction(doing, on) as tx:
            if self._inner.connected != self._checked:
                self._require_all(tx.execute)
                self._checked = self._inner.connected
            watched = MirroredTransaction(tx, self._mirror, self.path)
            yield watched
        if watched.events or watched.fence:
            self._keep(watched.events, watched.fence)

    def _keep(self, events: list[Event], fence: int) -> None:
        """After the commit: nothing here may undo it, so a divergence stops the next write."""
        try:
            for gap in self._mirror.add(events, fence=fence):
                # Another machine has written in between.
                self._mirror.add(self.query(
                    "SELECT stream, seq, text, hash FROM journal WHERE stream = :stream "
                    "AND seq > :after ORDER BY seq",
                    {"stream": gap.stream, "after": gap.after}))
        except Diverged as error:
            self._lost = lost_tail(self.path, [error.what], "")
        except StoreError as error:
            self._mirror.trouble = f"what others wrote could not be read: {error.what}"

    def among(self, texts: Collection[str]) -> tuple[str, Any]:
        return self._inner.among(texts)

    def now(self) -> int:
        return self._inner.now()

    def close(self) -> None:
        self._inner.close()
        self._mirror.close()

    def held(self) -> list[str]:
        return self._inner.held()

    def integrity(self) -> list[str]:
        return self._inner.integrity()

    def perform(self, call: Callable[[], T]) -> T:
        return self._inner.perform(call)

    # --- reading what others wrote

    def catch_up(self) -> None:
        """Compare with what this machine saw, and keep what is new. Raises LostTail."""
        mirror = self._mirror
        if not mirror.usable:
            return
        self._require_all(self._inner.query)
        self._checked = self._inner.connected
        try:
            while mirror.usable:
                growing = dict(list(mirror.growing().items())[:STREAMS])
                news = self._news(growing)
                mirror.add(news, fence=self._fence(), source=self.path)
                after = list(mirror.growing())[:STREAMS]
                if len(news) < PAGE and set(after) <= set(growing):
                    break
            mirror.add_histories(self.query(
                "SELECT key, at, text FROM history WHERE at > :at",
                {"at": mirror.newest_history()}))
        except Diverged as error:
            raise lost_tail(self.path, [error.what], mirror.path) from None

    def _require_all(self, query: Query) -> None:
        lost = diverged(query, self._mirror)
        if lost:
            raise lost_tail(self.path, [each.said for each in lost], self._mirror.path,
                            another=all(each.common == 0 for each in lost))

    def _news(self, growing: Mapping[str, tuple[int, str]]) -> list[Event]:
        sql, params = _of_each(
            "SELECT stream, seq, text, hash FROM journal WHERE stream = :stream AND seq > :seq",
            {stream: seq for stream, (seq, _) in growing.items()})
        return self.query(sql + " ORDER BY stream, seq LIMIT :page", {**params, "page": PAGE})

    def _fence(self) -> int:
        return int(self.query("SELECT coalesce(max(fence), 0) FROM run")[0][0])


class Divergence:
    """How far a stream of the server is what this machine saw; `common` is the last such event."""

    def __init__(self, mirror: Mirror, stream: str, common: int) -> None:
        self.stream, self.common = stream, common
        self.lost = list(mirror.events(stream, common))

    @property
    def said(self) -> str:
        import json

        from ccfailover.store.lease_words import clock

        since = clock(json.loads(self.lost[0][2])["at"]) if self.lost else "?"
        return f"{self.stream}: {len(self.lost)} events, the first of {since}"


def diverged(query: Query, mirror: Mirror) -> list[Divergence]:
    """The streams that do not begin with all that the mirror holds of them.

    One exchange with the server when all is well: only the last event of each that can grow.
    """
    kept = {name: head for name, head in mirror.growing().items() if head[0]}
    found = []
    for part in _parts(list(kept), 200):
        sql, params = _of_each(
            "SELECT stream, hash FROM journal WHERE stream = :stream AND seq = :seq",
            {stream: kept[stream][0] for stream in part})
        there = {row[0]: row[1] for row in query(sql, params)}
        for stream in part:
            if there.get(stream) != kept[stream][1]:
                found.append(Divergence(mirror, stream, common_prefix(query, mirror, stream)))
    found.sort(key=lambda each: chain.stream_order(each.stream) or (9, 0, ""))
    return found


def common_prefix(query: Query, mirror: Mirror, stream: str) -> int:
    """The number of the last event that server and mirror agree on; 0: none. A hash vouches for
    all before it, so that halving finds it."""
    hashes = {seq: hash_ for _, seq, _, hash_ in mirror.events(stream)}
    low, high = 0, max(hashes, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        rows = query("SELECT hash FROM journal WHERE stream = :stream AND seq = :seq",
                     {"stream": stream, "seq": middle})
        if rows and rows[0][0] == hashes[middle]:
            low = middle
        else:
            high = middle - 1
    return low


def lost_tail(path: str, what: list[str], mirror: str, *, another: bool = False) -> LostTail:
    shown = "; ".join(what[:6]) + (f"; and {len(what) - 6} more" if len(what) > 6 else "")
    if another:
        said = ("this is not the store that this machine worked with, or it was made anew: "
                f"it has none of the events seen before ({shown})")
        hint = (f"if another store is meant, move {mirror} away; if this one was lost: "
                "ccfailover runs import")
    else:
        said = ("the server has lost events that this machine saw there (a standby took over "
                f"without them, or an older copy was put back): {shown}")
        hint = ("ccfailover runs import   brings them back from this machine's mirror; "
                "on each machine that acted")
    return LostTail(said, where=path, not_done="nothing was read or written", hint=hint)


def _of_each(sql: str, numbers: Mapping[str, int]) -> tuple[str, dict[str, Any]]:
    """One statement for many streams: `sql` asks for one, by `:stream` and `:seq`."""
    parts, params = [], dict[str, Any]()
    for n, (stream, seq) in enumerate(numbers.items()):
        parts.append(sql.replace(":stream", f":stream{n}").replace(":seq", f":seq{n}"))
        params |= {f"stream{n}": stream, f"seq{n}": seq}
    return " UNION ALL ".join(parts), params


def _parts(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start:start + size]
