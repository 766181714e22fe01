"""The store in PostgreSQL, for teams and many machines.

Writes of one stream queue up behind an advisory lock, the same for every machine; a write that
concerns more than one (a run that starts, is taken up or ends) waits for all others. Each takes
its locks in one order, so that no two wait for each other. Time is the server's.

An open store outlives its server for a while: what was not written is tried again for
`patience` seconds. Whether a commit that was not answered has happened is asked of the server,
by the number that each write leaves in `last_write` beside what it writes.
"""

from __future__ import annotations

import math
import re
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

import psycopg

from ccfailover.errors import CcfError, StoreError
from ccfailover.runtime import Runtime
from ccfailover.store import dsn, migrations
from ccfailover.store.db import Database, Row, Transaction, Unwritten, chunks, with_rows
from ccfailover.store.postgres_errors import explain
from ccfailover.store.postgres_link import GRACE, Link, last, leave

T = TypeVar("T")

LOCKS = 0x43434653
"""The class of our advisory locks; within it 0 is the whole store, all else one stream."""

OLDEST_SERVER = 130_000

_NAME = re.compile(r":([a-z_]\w*)")

# The writer's name is a UUID that the server made.
_NOTE = ("INSERT INTO last_write (writer, number, at) VALUES ('{writer}', {number}, ccf_now()) "
         "ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at")
_NOW = "SELECT ccf_now(), (SELECT max(version) FROM schema_version)"
_NOTED = ("SELECT (SELECT number FROM last_write WHERE writer = '{writer}'), "
          "current_setting('synchronous_standby_names')")
# Of processes that are long gone. Skipping what others have locked, it waits for nobody.
_PRUNE = ("DELETE FROM last_write WHERE writer IN (SELECT writer FROM last_write "
          "WHERE at < ccf_now() - 3600000000 FOR UPDATE SKIP LOCKED)")


@lru_cache(maxsize=512)
def in_psycopg(sql: str) -> str:
    """`:name` → `%(name)s`."""
    return _NAME.sub(r"%(\1)s", sql.replace("%", "%%"))


def _values(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _kept(value) for name, value in params.items()}


def _kept(value: Any) -> Any:
    """Without the one character that PostgreSQL cannot keep in a text, and SQLite can."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


class PostgresTransaction(Transaction):
    def __init__(self, connection: Link, now: int) -> None:
        self._connection = connection
        self.now = now

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        return _rows(self._connection, sql, params)

    def change(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        return self._connection.execute(in_psycopg(sql), _values(params or {})).rowcount

    def many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self._connection.cursor().executemany(in_psycopg(sql), [_values(row) for row in rows])

    def insert(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        for chunk in chunks(rows):
            self._connection.execute(
                with_rows(sql.replace("%", "%%"), len(chunk), len(chunk[0]), "%s"),
                [_kept(value) for row in chunk for value in row])


class PostgresDatabase(Database):
    """One store on a server. Raises StoreError when it cannot be opened; that is tried once."""

    statement_timeout: ClassVar[float] = 10.0
    lock_timeout: ClassVar[float] = 5.0
    patience: ClassVar[float] = 30.0
    """Seconds for which a call is repeated that a lost connection or a lock has stopped."""
    latest: ClassVar[int] = migrations.LATEST

    def __init__(
        self, location: str, runtime: Runtime, *, create: bool = True, upgrade: bool = False
    ) -> None:
        self._address = dsn.read(location, statement_timeout=self.statement_timeout,
                                 lock_timeout=self.lock_timeout)
        self.path = self._address.shown
        self.runtime = runtime
        self._writing, self._reading = threading.RLock(), threading.RLock()
        self._in_transaction = self._in_snapshot = self._closed = False
        self._writer: Link | None = None
        self._reader: Link | None = None
        self._name, self._number = "", 0
        self._warnings: set[str] = set()
        try:
            self._ready(create, upgrade)
        except BaseException:
            self.close()
            raise

    # --- what the rest of the store uses

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        def once() -> list[Row]:
            with self._reading, self._plain("nothing was read"):
                return _rows(self._reading_connection(), sql, params)

        return once() if self._in_snapshot else self.perform(once)

    def glance(self, sql: str, params: Mapping[str, Any], within: float) -> list[Row] | None:
        def once() -> list[Row] | None:
            with self._reading, self._plain("nothing was read"):
                connection = self._reading_connection()
                connection.execute("BEGIN READ ONLY")
                try:
                    connection.execute(
                        f"SET LOCAL statement_timeout = {max(1, int(within * 1000))}")
                    return _rows(connection, sql, params)
                except psycopg.errors.QueryCanceled:
                    return None
                finally:
                    leave(connection)

        return self.perform(once)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._reading, self._plain("nothing was read"):
            connection = self._reading_connection()
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            self._in_snapshot = True
            try:
                yield
            finally:
                self._in_snapshot = False
                leave(connection)

    @contextmanager
    def transaction(self, doing: str, on: str | None = None) -> Iterator[Transaction]:
        with self._writing:
            if self._in_transaction:
                raise CcfError(f"a transaction within a transaction: {doing}")
            not_done = f"{doing}: nothing of it was written"
            with self._plain(not_done):
                connection = self._writing_connection(not_done)
                self._in_transaction = True
                try:
                    now = self._begin(connection, on)
                    yield PostgresTransaction(connection, now)
                    self._commit(connection, doing, on)
                finally:
                    self._in_transaction = False
                    leave(connection)

    def perform(self, call: Callable[[], T]) -> T:
        """`call` again after what passes, for `patience` seconds from the first failure."""
        deadline: float | None = None
        while True:
            try:
                return call()
            except Unwritten:
                now = self.runtime.monotonic()
                deadline = now + self.patience if deadline is None else deadline
                if now >= deadline:
                    raise
                self.runtime.sleep(0.2)

    def among(self, texts: Collection[str]) -> tuple[str, Any]:
        return ("(SELECT unnest(CAST(:among AS text[])) AS value)",
                [_kept(text) for text in texts])

    def now(self) -> int:
        return int(self.query("SELECT ccf_now()")[0][0])

    def held(self) -> list[str]:
        from ccfailover.store.presence import HELD

        return sorted({str(name) for (name,) in self.query(HELD)})

    def close(self) -> None:
        self._closed = True
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()

    # --- a write

    def _begin(self, connection: Link, on: str | None) -> int:
        """Locks first, then the time, in one exchange with the server; the time."""
        self._number += 1
        note = _NOTE.format(writer=self._name, number=self._number)
        prune = [_PRUNE] if self._number == 1 else []
        now, version = last(connection, "; ".join(["BEGIN", _locks(on), note, *prune, _NOW]))
        if version != self.latest:
            raise self._other_schema(int(version or 0))
        return int(now)

    def _commit(self, connection: Link, doing: str, on: str | None) -> None:
        self._warnings.clear()
        try:
            connection.execute("COMMIT")
            # The answer came: then a standby was given up for a cancelled wait. A server that goes
            # down just then warns with another code, and has kept what it said yes to.
            warned = "01000" in self._warnings
        except psycopg.Error:
            if not connection.broken and not connection.closed:
                raise  # the server said no, and has undone it
            happened, standbys = self._happened(doing, on)
            if not happened:
                raise
            # A server that goes down in a hurry warns, too: then it may be of no standby.
            warned = standbys and bool(self._warnings)
        if warned:
            raise StoreError(
                "the server has it on its disk, but no standby has confirmed it in time",
                where=self.path, hint="see select * from pg_stat_replication, then: ccfailover "
                "status", not_done=f"{doing}: written, but would be lost with that server")

    def _happened(self, doing: str, on: str | None) -> tuple[bool, bool]:
        """Whether a commit that was not answered has happened, and was to be on a standby, too.
        The lock that it held is waited for: as soon as we have it, the old connection's fate is
        sealed. On a server that was promoted without it, it has not happened, and may be repeated
        there."""
        def ask() -> tuple[bool, bool]:
            not_done = "it is not known yet whether it was written"
            with self._plain(not_done):
                connection = self._writing_connection(not_done)
                try:
                    found, standbys = last(
                        connection, f"BEGIN; {_locks(on)}; {_NOTED.format(writer=self._name)}")
                finally:
                    leave(connection)
                return bool(found == self._number), bool(standbys)

        try:
            return self.perform(ask)
        except StoreError as error:
            raise StoreError(error.what, where=self.path, hint=error.hint,
                             not_done=f"{doing}: it is not certain whether it was written"
                             ) from error

    # --- connections and schema

    def _connect(self, not_done: str) -> Link:
        if self._closed:
            raise StoreError("the store is closed", where=self.path, not_done=not_done)
        with self._plain(not_done):
            connection = Link.connect(**self._address.params, autocommit=True)
        self.connected += 1
        connection.runtime = self.runtime
        connection.longest = self.statement_timeout + GRACE
        encoding = connection.info.parameter_status("server_encoding")
        version = connection.info.server_version
        if version < OLDEST_SERVER or encoding != "UTF8":
            connection.close()
            raise StoreError(
                f"the server has version {version // 10_000} and keeps text as {encoding}; "
                f"needed are {OLDEST_SERVER // 10_000} or newer, and UTF8",
                where=self.path, not_done=not_done,
                hint="create database … encoding 'UTF8' template template0")
        return connection

    def _reading_connection(self) -> Link:
        if self._reader is None or self._reader.closed:
            self._reader = None if self._in_snapshot else self._connect("nothing was read")
        if self._reader is None:
            raise StoreError("the connection was lost in the middle of reading",
                             where=self.path, not_done="nothing was decided on it",
                             hint="try again")
        if self._closed:
            raise StoreError("the store is closed", where=self.path, not_done="nothing was read")
        return self._reader

    def _writing_connection(self, not_done: str) -> Link:
        if self._writer is None or self._writer.closed:
            self._writer = self._connect(not_done)
            self._writer.add_notice_handler(self._notice)
            if not self._name:
                (self._name,) = last(self._writer, "SELECT CAST(gen_random_uuid() AS TEXT)")
        return self._writer

    def _notice(self, diag: psycopg.errors.Diagnostic) -> None:
        # The only warning that a COMMIT itself gives: a standby was waited for in vain.
        if diag.severity_nonlocalized == "WARNING":
            self._warnings.add(diag.sqlstate or "")

    def _ready(self, create: bool, upgrade: bool) -> None:
        with self._plain("no store was opened"):
            self._reader = self._connect("no store was opened")
            version = self.schema_before = self._version(self._reader)
            if version == 0 and not create:
                raise StoreError(
                    "the store is empty", where=self.path, not_done="nothing was read",
                    hint="it is filled by the first check: ccfailover check")
            if version > self.latest or (0 < version < self.latest and not upgrade):
                raise self._other_schema(version)
            if version < self.latest:
                self._migrate()

    def _other_schema(self, version: int) -> StoreError:
        if version > self.latest:
            return StoreError(
                f"written by a newer ccfailover (schema {version}; this one knows {self.latest})",
                where=self.path, not_done="nothing was read or changed",
                hint="use the newer ccfailover on this machine")
        return StoreError(
            f"made by an older ccfailover (schema {version}; this one needs {self.latest})",
            where=self.path, not_done="nothing was read or changed",
            hint="ccfailover db upgrade, once every machine has the new version")

    def _version(self, connection: Link) -> int:
        rows = _rows(connection, "SELECT to_regclass(:name) IS NOT NULL, "
                     "(SELECT count(*) FROM pg_class c JOIN pg_namespace n "
                     "ON n.oid = c.relnamespace WHERE n.nspname = :schema)",
                     {"name": f"{dsn.SCHEMA}.schema_version", "schema": dsn.SCHEMA})
        ours, others = rows[0]
        if ours:
            return int(_rows(connection, "SELECT max(version) FROM schema_version", {})[0][0])
        if others:
            raise StoreError(
                f"the schema `{dsn.SCHEMA}` holds tables of another program", where=self.path,
                not_done="nothing was changed in it",
                hint="give the store a database of its own in the policy (`store:`)")
        return 0

    def _migrate(self) -> None:
        connection = self._writing_connection("the store was not migrated")
        connection.longest = math.inf  # an index over years of events takes what it takes
        try:
            last(connection, f"BEGIN; {_locks(None)}; SET LOCAL statement_timeout = 0")
            # Asked again under the lock: another machine may have been faster.
            version = self._version(connection)
            if version == 0:
                if not _rows(connection, "SELECT 1 FROM pg_namespace WHERE nspname = :schema",
                             {"schema": dsn.SCHEMA}):
                    connection.execute(f"CREATE SCHEMA {dsn.SCHEMA}")
                connection.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)")
                connection.execute("INSERT INTO schema_version (version) VALUES (0)")
            for number in range(version + 1, self.latest + 1):
                for statement in self._statements(number):
                    connection.execute(statement)
            if version < self.latest:
                _rows(connection, "UPDATE schema_version SET version = :v", {"v": self.latest})
            connection.execute("COMMIT")
        finally:
            leave(connection)
            connection.longest = self.statement_timeout + GRACE

    def _statements(self, version: int) -> tuple[str, ...]:
        return migrations.statements(version, "postgres")

    @contextmanager
    def _plain(self, not_done: str) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise explain(error, self.path, not_done, self._address.secrets) from None


def _rows(connection: Link, sql: str, params: Mapping[str, Any] | None) -> list[Row]:
    cursor = connection.execute(in_psycopg(sql), _values(params or {}))
    return cursor.fetchall() if cursor.description is not None else []


def _locks(on: str | None) -> str:
    if on is None:
        return f"SELECT pg_advisory_xact_lock({LOCKS}, 0)"
    # Two names with one number only queue up needlessly; each write takes one of them.
    number = zlib.crc32(on.encode()) % 0x7FFFFFFF + 1
    return (f"SELECT pg_advisory_xact_lock_shared({LOCKS}, 0); "
            f"SELECT pg_advisory_xact_lock({LOCKS}, {number})")
