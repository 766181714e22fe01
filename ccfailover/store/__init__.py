"""What survives a crash: journal, runs and leases, observations, ledger, books, outbox, facts.

Every write is one transaction that is on disk when the call returns. `Store` is made of one
part per table family over one `Database` (SQLite or PostgreSQL); nothing outside this package
knows about SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ccfailover.errors import StoreError
from ccfailover.runtime import Runtime
from ccfailover.store.books import Books
from ccfailover.store.chain import GENESIS
from ccfailover.store.db import Database
from ccfailover.store.holder import this_process
from ccfailover.store.journal import Journal
from ccfailover.store.leases import Leases
from ccfailover.store.ledger import Ledger
from ccfailover.store.migrations import LATEST
from ccfailover.store.observations import Observations
from ccfailover.store.outbox import Facts, Outbox, OutboxMessage
from ccfailover.store.pacing import Pacing

if TYPE_CHECKING:
    from ccfailover.store.mirror import Mirror

__all__ = ["GENESIS", "Database", "OutboxMessage", "Store", "open_store", "this_process"]


class Store(Journal, Leases, Observations, Ledger, Books, Outbox, Facts, Pacing):
    """The store as everybody else sees it. Safe for several threads; not across a fork."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.path = database.path

    def now(self) -> int:
        """The instant by the clock that leases go by (the server's, where there is one), µs."""
        return self._db.now()

    def at_work(self) -> list[str]:
        """The names of the workers that are alive (`store.presence`); none where the store is a
        file, which they cannot share."""
        return self._db.held()

    @property
    def mirror(self) -> Mirror | None:
        """What this machine keeps of a shared store; None for a file, or when it is off."""
        return self._db.mirror

    @property
    def schema(self) -> tuple[int, int]:
        """The schema's number as this opening found it (0: empty), and as it is now."""
        return self._db.schema_before, LATEST

    def close(self) -> None:
        """Idempotent."""
        self._db.close()


def open_store(
    location: str, runtime: Runtime, *, create: bool = True, busy_timeout: float = 10.0,
    upgrade: bool = False, mirror: str | None = None, verified: bool = True,
) -> Store:
    """Open `sqlite:///abs/path`, a plain path, `:memory:` or `postgresql://…`.

    `create`: make what is missing: the file (mode 0600), its directory (0700), the tables. Waits
    up to `busy_timeout` seconds for another process's write to a file. A file of an older schema
    is brought up to date; a database that other machines may be using only with `upgrade`.
    `mirror` is the file in which this machine keeps what it sees of a shared database. Raises
    StoreError, whose text never holds a password; LostTail when the database lacks what the
    mirror holds, unless `verified` is False.
    """
    if location.startswith(("postgresql://", "postgres://")):
        try:
            from ccfailover.store.postgres import PostgresDatabase
        except ImportError as error:
            raise StoreError(
                f"a store in PostgreSQL needs psycopg ({error})", not_done="no store was opened",
                hint="pip install 'ccfailover[postgres]'",
            ) from error

        shared = PostgresDatabase(location, runtime, create=create, upgrade=upgrade)
        return Store(shared if mirror is None else _mirrored(shared, mirror, verified))
    from ccfailover.store.files import path_of
    from ccfailover.store.sqlite import SqliteDatabase

    return Store(SqliteDatabase(
        path_of(location), runtime, create=create, busy_timeout=busy_timeout))


def _mirrored(shared: Database, path: str, verified: bool) -> Database:
    from ccfailover.store.mirror import Mirror
    from ccfailover.store.mirrored import MirroredDatabase

    try:
        return MirroredDatabase(shared, Mirror(path, shared.runtime), verified=verified)
    except BaseException:
        shared.close()
        raise
