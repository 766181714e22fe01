"""The store in one SQLite file: connections, transactions, schema, and errors in plain words.

Two connections: reads never wait for a write transaction, ours or another process's.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ccfailover.errors import CcfError, StoreError
from ccfailover.runtime import Runtime
from ccfailover.store import files, migrations
from ccfailover.store.db import Database, Row, Transaction, chunks, with_rows

APPLICATION_ID = 0x43434653
"""Written into the file's header, so that another program's database is not taken for ours."""



class SqliteTransaction(Transaction):
    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self.now = now

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        return self._connection.execute(sql, params or {}).fetchall()

    def change(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        return self._connection.execute(sql, params or {}).rowcount

    def many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self._connection.executemany(sql, rows)

    def insert(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        for chunk in chunks(rows):
            self._connection.execute(with_rows(sql, len(chunk), len(chunk[0]), "?"),
                                     [value for row in chunk for value in row])


class SqliteDatabase(Database):
    """One SQLite store. Safe for several threads; not across a fork."""

    def __init__(
        self, path: str, runtime: Runtime, *, create: bool = True, busy_timeout: float = 10.0
    ) -> None:
        self.path = path
        self.runtime = runtime
        self._busy_timeout = busy_timeout
        self._writing = threading.RLock()
        self._in_transaction = False
        self._writer: sqlite3.Connection | None = None
        self.memory = path == files.MEMORY
        if not self.memory:
            files.prepare(path, create=create)
        self._reader = self._connect()
        self._reading = self._writing if self.memory else threading.RLock()
        try:
            self._ready(create)
        except BaseException:
            self.close()
            raise

    # --- what the rest of the store uses

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        with self._reading, self._plain("nothing was read"):
            return self._reader.execute(sql, params or {}).fetchall()

    def glance(self, sql: str, params: Mapping[str, Any], within: float) -> list[Row] | None:
        late = self.runtime.monotonic() + within
        with self._reading, self._plain("nothing was read"):
            self._reader.set_progress_handler(
                lambda: int(self.runtime.monotonic() >= late), 20_000)
            try:
                return self._reader.execute(sql, params).fetchall()
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_INTERRUPT:
                    raise
                return None
            finally:
                self._reader.set_progress_handler(None, 0)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._reading, self._plain("nothing was read"):
            self._reader.execute("BEGIN")
            try:
                yield
            finally:
                self._reader.execute("COMMIT")

    @contextmanager
    def transaction(self, doing: str, on: str | None = None) -> Iterator[Transaction]:
        # One writer at a time is all that SQLite has, whatever the write is `on`.
        with self._writing:
            if self._in_transaction:
                raise CcfError(f"a transaction within a transaction: {doing}")
            with self._plain(f"{doing}: nothing of it was written"):
                connection = self._writer_connection()
                self._in_transaction = True
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    yield SqliteTransaction(connection, self.runtime.now())
                    self._commit(connection, doing)
                finally:
                    self._in_transaction = False
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")

    def _commit(self, connection: sqlite3.Connection, doing: str) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if _code(error) & 0xFF != sqlite3.SQLITE_IOERR:
                raise
            # The log may hold it whole although the disk did not say so.
            not_done = f"{doing}: it is not certain whether it was written"
            raise explain(error, self.path, not_done) from error

    def among(self, texts: Collection[str]) -> tuple[str, Any]:
        import json

        return "(SELECT value FROM json_each(:among))", json.dumps(list(texts))

    def now(self) -> int:
        return self.runtime.now()

    def close(self) -> None:
        # The last process to close folds the write-ahead log into the file.
        with self._writing:
            for connection in (self._writer, self._reader):
                if connection is not None:
                    connection.close()

    def integrity(self) -> list[str]:
        rows = self.query("PRAGMA integrity_check(20)")
        return [str(row[0]) for row in rows if row[0] != "ok"]

    # --- connections and schema

    def _connect(self) -> sqlite3.Connection:
        with self._plain("no store was opened"):
            connection = sqlite3.connect(
                self.path if self.memory else f"{_uri(self.path)}?mode=rw", uri=not self.memory,
                isolation_level=None, timeout=self._busy_timeout, check_same_thread=False,
            )
            connection.create_function("ccf_now", 0, self.runtime.now)
            connection.execute("PRAGMA trusted_schema=OFF")
            return connection

    def _writer_connection(self) -> sqlite3.Connection:
        if self._writer is None:
            connection = self._reader if self.memory else self._connect()
            connection.execute("PRAGMA synchronous=FULL")
            # A long ledger's index is written all over: with SQLite's own 2 MB of cache every
            # batch would read and write half of it anew. More would show in a move's memory.
            connection.execute("PRAGMA cache_size=-16384")
            self._writer = connection
        return self._writer

    def _ready(self, create: bool) -> None:
        version = self.schema_before = self._version(self._reader)
        if version < migrations.LATEST:
            if version == 0 and not create:
                raise StoreError(
                    "the store is empty", where=self.path, not_done="nothing was read",
                    hint="it is filled by the first check: ccfailover check",
                )
            self._migrate()
        if not self.memory:
            with self._plain("no store was opened"):
                self._reader.execute("PRAGMA query_only=ON")

    def _version(self, connection: sqlite3.Connection) -> int:
        with self._plain("no store was opened"):
            # Tables first: they, the mark and the version are committed together, so what is read
            # after them is never older than they are, whoever creates the store meanwhile.
            tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
            marked = int(connection.execute("PRAGMA application_id").fetchone()[0])
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if tables and marked != APPLICATION_ID:
            raise StoreError(
                "a database of another program", where=self.path,
                not_done="nothing was changed in it",
                hint="give another path for the store in the policy (`store:`)",
            )
        if version > migrations.LATEST:
            raise StoreError(
                f"written by a newer ccfailover (schema {version}; this one knows "
                f"{migrations.LATEST})",
                where=self.path, not_done="nothing was read or changed",
                hint="use the newer ccfailover on this machine",
            )
        return version

    def _migrate(self) -> None:
        self._enter_wal()
        with self.transaction("prepare the store's tables") as tx:
            connection = self._writer_connection()
            # Asked again under the lock: another process may have been faster.
            for version in range(self._version(connection) + 1, migrations.LATEST + 1):
                for statement in migrations.statements(version, "sqlite"):
                    tx.execute(statement)
            tx.execute(f"PRAGMA application_id={APPLICATION_ID}")
            tx.execute(f"PRAGMA user_version={migrations.LATEST}")

    def _enter_wal(self) -> None:
        """Switching to WAL does not wait for other processes that do the same: we do."""
        if self.memory:
            return
        with self._plain("no store was opened"):
            connection = self._writer_connection()
            deadline = self.runtime.monotonic() + self._busy_timeout
            while True:
                try:
                    connection.execute("PRAGMA journal_mode=WAL")
                    return
                except sqlite3.OperationalError as error:
                    if not _is_busy(error) or self.runtime.monotonic() >= deadline:
                        raise
                    self.runtime.sleep(0.02)

    @contextmanager
    def _plain(self, not_done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(error, self.path, not_done) from error


def _uri(path: str) -> str:
    # What SQLite takes for more than a letter; urllib's `quote` would cost every start 2 ms.
    return "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: sqlite3.Error) -> int:
    """SQLite's extended result code; 0 for an error that Python's own layer made."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0)


_REASONS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: (
        "another process has kept the store locked for too long",
        "see which process holds it (fuser or lsof on the file), end it if it hangs, try again",
    ),
    sqlite3.SQLITE_FULL: (
        "the disk (or the quota) is full",
        "make room on that file system, then: ccfailover status",
    ),
    sqlite3.SQLITE_READONLY: (
        "the store's file or its directory is read-only for this user",
        "give this user the right to write to the file and its directory, or run as its owner",
    ),
    sqlite3.SQLITE_NOTADB: (
        "this file is not a store, or its beginning is damaged",
        "move it away and keep it; restore a copy, or let the policy's `store` name a new file; "
        "then see what is where: ccfailover status",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the store's file is damaged",
        "move it away and keep it; restore a copy, or let the policy's `store` name a new file; "
        "then see what is where: ccfailover status",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the store's file, or one of its -wal and -shm files, cannot be opened",
        "see that the directory exists and that this user may write to it",
    ),
    sqlite3.SQLITE_PERM: (
        "this user may not use the store's file",
        "give this user the right to write to the file and its directory, or run as its owner",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk failed to read or write",
        "see the system log and the room on that file system, then: ccfailover status",
    ),
}


def explain(error: sqlite3.Error, path: str, not_done: str) -> StoreError:
    """The StoreError for what SQLite said."""
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    primary = sqlite3.SQLITE_BUSY if _is_busy(error) else _code(error) & 0xFF
    reason, hint = _REASONS.get(
        primary, ("the store could not do this", "ccfailover journal verify")
    )
    return StoreError(f"{reason} ({name}: {error})", where=path, not_done=not_done, hint=hint)
