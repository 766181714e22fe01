"""The mirror: what this machine has seen of a shared store's journal, in a file of its own.

It is written after the server has committed, so that it holds nothing that was never there; each
stream is kept without a gap from its first event on. It serves two ends: a server that has lost
its last events is found out, and a run can go on when the server is gone. A mirror that cannot
be written never stops anything: `trouble` says why, and it is tried again.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ccfailover.errors import StoreError
from ccfailover.runtime import Runtime
from ccfailover.store import chain, files
from ccfailover.store.sqlite import explain

APPLICATION_ID = 0x4343464D
VERSION = 1

Event = tuple[str, int, str, str]
"""Stream, number, text, hash: a row of the journal as it is."""

BUSY = 2.0
"""Seconds to wait for another process of this machine that writes the mirror."""

AGAIN = 30.0
"""Seconds between two attempts to write a mirror that could not be written."""

# `seq` and `hash` tell how far a stream is kept. `wanted` is how far an ended run went: at
# `seq` = `wanted` nothing more can come. `lost` keeps what the server no longer had.
_TABLES = (
    """CREATE TABLE event (
        stream TEXT NOT NULL, seq BIGINT NOT NULL, text TEXT NOT NULL, hash TEXT NOT NULL,
        PRIMARY KEY (stream, seq)) WITHOUT ROWID""",
    """CREATE TABLE stream (
        name TEXT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL, hash TEXT NOT NULL,
        wanted BIGINT)""",
    "CREATE INDEX growing ON stream (name) WHERE wanted IS NULL OR wanted > seq",
    "CREATE TABLE history (key TEXT NOT NULL PRIMARY KEY, at BIGINT NOT NULL, text TEXT NOT NULL)",
    "CREATE TABLE note (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE lost (
        found_at BIGINT NOT NULL, stream TEXT NOT NULL, seq BIGINT NOT NULL, text TEXT NOT NULL,
        hash TEXT NOT NULL)""",
    f"PRAGMA application_id={APPLICATION_ID}",
    f"PRAGMA user_version={VERSION}",
)


_ALWAYS = (chain.RUNS, chain.AUTOMATION)


@dataclass(frozen=True)
class Gap:
    """`stream` is kept up to event `after`; a later one came without those in between."""

    stream: str
    after: int


class Mirror:
    """Safe for several threads and processes. Only `required` raises when it cannot be used."""

    def __init__(self, path: str, runtime: Runtime, *, create: bool = True) -> None:
        self.path = path
        self.trouble: str | None = None
        self._runtime = runtime
        self._create = create
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._next = float("-inf")
        with self._trying():
            self._open()

    @property
    def usable(self) -> bool:
        return self._connection is not None and self.trouble is None

    def required(self) -> None:
        """Raises StoreError unless it can be read."""
        if self._connection is None:
            raise StoreError(f"the mirror cannot be used: {self.trouble}", where=self.path,
                             not_done="nothing was read from it or written",
                             hint="ccfailover doctor, on the machine that used the shared store")

    # --- what is written

    def add(self, events: Iterable[Event], *, fence: int = 0,
            source: str | None = None) -> list[Gap]:
        """Keep what the server has committed; the gaps for which earlier events are needed.

        Raises StoreError when an event does not follow from what is kept: the server's chain is
        another one than this machine saw.
        """
        gaps: dict[str, Gap] = {}
        with self._lock:
            if self._runtime.monotonic() < self._next:
                return []
            with self._trying():
                connection = self._connection or self._open()
                connection.execute("BEGIN IMMEDIATE")
                for event in events:
                    gap = _keep(connection, event)
                    if gap is not None:
                        gaps.setdefault(gap.stream, gap)
                if fence > _number(connection, "fence"):
                    _note(connection, "fence", str(fence))
                if source is not None:
                    _note(connection, "source", source)
                    _note(connection, "at", str(self._runtime.now()))
                connection.execute("COMMIT")
                self.trouble = None
        return list(gaps.values())

    def add_histories(self, rows: Iterable[tuple[str, int, str]]) -> None:
        """What probes remember: key, instant, text."""
        with self._lock, self._trying():
            connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO history (key, at, text) VALUES (?, ?, ?) ON CONFLICT (key) DO "
                "UPDATE SET at = excluded.at, text = excluded.text WHERE excluded.at >= at",
                list(rows))
            connection.execute("COMMIT")

    def set_aside(self, kept: Mapping[str, int]) -> int:
        """Move every event of a stream beyond `kept` out of the way, into `lost`; how many."""
        moved = 0
        with self._lock, self._trying():
            connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            for stream, seq in kept.items():
                connection.execute(
                    "INSERT INTO lost SELECT ?, stream, seq, text, hash FROM event "
                    "WHERE stream = ? AND seq > ?", (self._runtime.now(), stream, seq))
                moved += connection.execute("DELETE FROM event WHERE stream = ? AND seq > ?",
                                            (stream, seq)).rowcount
                connection.execute(
                    "UPDATE stream SET seq = ?, wanted = NULL, hash = coalesce((SELECT hash FROM "
                    "event WHERE stream = name AND event.seq = ?), ?) WHERE name = ?",
                    (seq, seq, chain.GENESIS, stream))
            connection.execute("DELETE FROM stream WHERE seq = 0 AND name LIKE 'run:%'")
            connection.execute("COMMIT")
        return moved

    # --- what is kept

    def growing(self) -> dict[str, tuple[int, str]]:
        """Stream → how far it is kept, for those to which more can come: the chain of runs,
        automation, open runs and runs that are not kept to their end yet, the newest first."""
        rows = self._rows("SELECT name, seq, hash FROM stream "
                          "WHERE wanted IS NULL OR wanted > seq")
        rows.sort(key=lambda row: chain.stream_order(row[0]) or (9, 0, ""), reverse=True)
        rows.sort(key=lambda row: row[0] not in _ALWAYS)
        return {name: (seq, hash_) for name, seq, hash_ in rows}

    def head(self, stream: str) -> tuple[int, str] | None:
        """How far a stream is kept; None when nothing of it is (or nothing can be read)."""
        rows = self._rows("SELECT seq, hash FROM stream WHERE name = ? AND seq > 0", (stream,))
        return (rows[0][0], rows[0][1]) if rows else None

    def heads(self) -> dict[str, tuple[int, str]]:
        """Every stream of which something is kept, in the order of an export."""
        rows = self._rows("SELECT name, seq, hash FROM stream WHERE seq > 0")
        rows.sort(key=lambda row: chain.stream_order(row[0]) or (9, 0, row[0]))
        return {name: (seq, hash_) for name, seq, hash_ in rows}

    def events(self, stream: str, after: int = 0) -> Iterator[Event]:
        yield from self._rows("SELECT stream, seq, text, hash FROM event WHERE stream = ? "
                              "AND seq > ? ORDER BY seq", (stream, after))

    def histories(self) -> list[tuple[str, int, str]]:
        return self._rows("SELECT key, at, text FROM history ORDER BY key")

    def newest_history(self) -> int:
        rows = self._rows("SELECT coalesce(max(at), 0) FROM history")
        return int(rows[0][0]) if rows else 0

    @property
    def fence(self) -> int:
        """The highest fence that this machine has seen given."""
        rows = self._rows("SELECT value FROM note WHERE name = 'fence'")
        return int(rows[0][0]) if rows else 0

    @property
    def source(self) -> str:
        """What the mirrored store is called; "" before it was first seen."""
        rows = self._rows("SELECT value FROM note WHERE name = 'source'")
        return str(rows[0][0]) if rows else ""

    @property
    def at(self) -> int:
        """When this machine last saw the shared store, µs; 0: never."""
        rows = self._rows("SELECT value FROM note WHERE name = 'at'")
        return int(rows[0][0]) if rows else 0

    def missing(self) -> list[str]:
        """Runs of which not all is kept that is known to be."""
        return [row[0] for row in self._rows(
            "SELECT name FROM stream WHERE wanted > seq OR (seq = 0 AND name LIKE 'run:%') "
            "ORDER BY name")]

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._next = None, float("inf")

    # --- the file

    def _rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock:
            if self._connection is None:
                return []
            try:
                return self._connection.execute(sql, params).fetchall()
            except sqlite3.Error as error:
                self._failed(error)
                return []

    @contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, StoreError) as error:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, Diverged):
                raise
            self._failed(error)

    def _failed(self, error: sqlite3.Error | StoreError) -> None:
        told = explain(error, self.path, "") if isinstance(error, sqlite3.Error) else error
        self.trouble = told.what
        self._next = self._runtime.monotonic() + AGAIN

    def _open(self) -> sqlite3.Connection:
        files.prepare(self.path, create=self._create)
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY,
                                     check_same_thread=False)
        try:
            _ready(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


class Diverged(StoreError):
    """The server's chain is not the one that this machine saw."""


def _ready(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA trusted_schema=OFF")
    version, marked, tables = (
        int(connection.execute(sql).fetchone()[0]) for sql in (
            "PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_master"))
    if tables and (marked != APPLICATION_ID or version != VERSION):
        raise StoreError("another program's database, or a newer ccfailover's, is in its place")
    # A killed process loses nothing; a machine that loses its power may lose the last events,
    # which the server still has. Waiting for the disk would double what an append costs.
    if not tables:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _TABLES:
                connection.execute(statement)
            connection.executemany("INSERT INTO stream VALUES (?, 0, ?, NULL)",
                                   [(name, chain.GENESIS) for name in _ALWAYS])
        connection.execute("COMMIT")


def _keep(connection: sqlite3.Connection, event: Event) -> Gap | None:
    stream, seq, text, hash_ = event
    rows = connection.execute("SELECT seq, hash FROM stream WHERE name = ?", (stream,)).fetchall()
    last, head = rows[0] if rows else (0, chain.GENESIS)
    if seq <= last:
        kept = connection.execute("SELECT hash FROM event WHERE stream = ? AND seq = ?",
                                  (stream, seq)).fetchone()
        if kept is not None and kept[0] != hash_:
            raise Diverged(f"{stream} event {seq} is another one than this machine saw")
        return None
    if seq > last + 1:
        return Gap(stream, last)
    try:
        body = json.loads(text)
        prev, kind, data = body["prev"], body["kind"], body["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Diverged(f"{stream} event {seq} makes no sense") from None
    if prev != head:
        raise Diverged(f"{stream} event {seq} does not follow from what this machine saw")
    connection.execute("INSERT INTO event VALUES (?, ?, ?, ?)", event)
    connection.execute(
        "INSERT INTO stream (name, seq, hash) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
        "SET seq = excluded.seq, hash = excluded.hash", (stream, seq, hash_))
    if stream == chain.RUNS:
        _number_runs(connection, kind, data)
    return None


def _number_runs(connection: sqlite3.Connection, kind: str, data: Mapping[str, Any]) -> None:
    name = chain.run_stream(str(data.get("run")))
    connection.execute("INSERT INTO stream (name, seq, hash) VALUES (?, 0, ?) "
                       "ON CONFLICT (name) DO NOTHING", (name, chain.GENESIS))
    if kind == "run.ended":
        connection.execute("UPDATE stream SET wanted = ? WHERE name = ?", (data["seq"], name))


def _number(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def _note(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT INTO note (name, value) VALUES (?, ?) "
                       "ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))
