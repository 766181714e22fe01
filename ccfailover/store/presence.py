"""Being there, as other machines see it: a lock that the server gives back when we die.

A worker holds an advisory lock for as long as it lives, on a connection of its own that is named
for it. The end of the process, or of its machine, ends the connection and so the lock; there is no
table to tidy up. A connection pool that hands one connection to several clients must not stand in
between.
"""

from __future__ import annotations

import re
import zlib

import psycopg

from ccfailover.runtime import Runtime
from ccfailover.store import dsn
from ccfailover.store.postgres_errors import explain
from ccfailover.store.postgres_link import Link

CLASS = 7731
"""The class of these advisory locks."""

MARK = "ccf-worker "

LONGEST = 63 - len(MARK)
"""Characters of a name: what PostgreSQL keeps of a connection's."""

ANSWER = 5.0
"""Seconds that the server is waited for."""

HELD = (f"SELECT substr(a.application_name, {len(MARK) + 1}) FROM pg_locks AS l "
        "JOIN pg_stat_activity AS a ON a.pid = l.pid JOIN pg_database AS d ON d.oid = l.database "
        f"WHERE l.locktype = 'advisory' AND l.classid = {CLASS} AND l.objsubid = 2 AND l.granted "
        f"AND d.datname = current_database() AND a.application_name LIKE '{MARK}%'")


class Presence:
    """This process, under one name at most. Raises StoreError."""

    def __init__(self, location: str, runtime: Runtime) -> None:
        self._location = location
        self._runtime = runtime
        self._link: Link | None = None
        self.name = ""

    def take(self, name: str) -> bool:
        """Be there as `name` from now on; False: somebody is there as that already."""
        if not re.fullmatch(r"[\x21-\x7e ]+", name) or len(name) > LONGEST:
            raise ValueError(f"not a name for a worker: {name[:80]!r}")
        link = self._connect(name)
        number = zlib.crc32(name.encode())
        row = link.execute("SELECT pg_try_advisory_lock(%s, %s)",
                           (CLASS, number - (number >> 31 << 32))).fetchone()
        if row is None or not row[0]:
            link.close()
            return False
        self._link, self.name = link, name
        return True

    def confirmed(self) -> bool:
        """Whether the server still knows that we are there. It costs one exchange with it."""
        if self._link is None:
            return False
        try:
            self._link.execute("SELECT 1")
        except psycopg.Error:
            self.leave()
            return False
        return True

    def leave(self) -> None:
        """Idempotent."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _connect(self, name: str) -> Link:
        address = dsn.read(self._location, statement_timeout=ANSWER, lock_timeout=ANSWER)
        try:
            link = Link.connect(**{**address.params, "application_name": MARK + name},
                                autocommit=True)
        except psycopg.Error as error:
            raise explain(error, address.shown, "no work was taken", address.secrets) from None
        link.runtime, link.longest = self._runtime, ANSWER
        return link
