"""What the switch keeps across its own death: shares of each route, and held applications."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccfailover.simulation.processes.serving import Refusal

KEPT_KEYS = 100_000
"""How many forwarded applications' keys are remembered, to swallow a submitter's retry."""

_SCHEMA = """
create table if not exists route (
    name text primary key, shares text not null, version integer not null);
create table if not exists held (
    seq integer primary key, route text not null, key text not null, body blob,
    state text not null, destination text, in_doubt integer not null default 0,
    doubled integer not null default 0, at integer not null, unique (route, key));
create index if not exists held_waiting on held (route, state, seq);
create table if not exists forwarded (
    route text not null, destination text not null, n integer not null,
    primary key (route, destination));
"""


@dataclass(frozen=True)
class Held:
    """One application that the switch has promised to deliver."""

    seq: int
    key: str
    body: bytes


class Switchboard:
    """One SQLite file; every method is one durable transaction and safe from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=full")
        self._db.executescript(_SCHEMA)
        # Caught in the act by a kill: the destination may have it, or not.
        self._db.execute("update held set state = 'waiting', in_doubt = 1 "
                         "where state = 'sending'")

    # --- shares

    def open_route(self, name: str, shares: Mapping[str, int]) -> None:
        """Starts the route with `shares` unless the file already knows it."""
        with self._lock:
            self._db.execute("insert or ignore into route values (?, ?, 1)",
                             (name, json.dumps(shares)))

    def shares(self, name: str) -> tuple[dict[str, int], int]:
        with self._lock:
            row = self._db.execute("select shares, version from route where name = ?",
                                   (name,)).fetchone()
        return json.loads(row[0]), int(row[1])

    def set_shares(self, name: str, shares: Mapping[str, int], expected: int | None) -> int:
        """The new version. Raises Refusal 412 when `expected` is not the version in force."""
        with self._lock:
            done = self._db.execute(
                "update route set shares = ?, version = version + 1 "
                "where name = ? and version = coalesce(?, version) returning version",
                (json.dumps(shares), name, expected),
            ).fetchone()
        if done is None:
            raise Refusal(412, "the route has changed since it was read")
        return int(done[0])

    # --- held applications

    def hold(self, route: str, key: str, body: bytes, limit: int) -> bool:
        """Promise to deliver; False when `key` was promised before. Refusal 503 when full."""
        with self._lock:
            known = self._db.execute("select 1 from held where route = ? and key = ?",
                                     (route, key)).fetchone()
            if known:
                return False
            if self._count(route) >= limit:
                raise Refusal(503, f"{limit} applications are waiting already")
            self._db.execute(
                "insert into held (route, key, body, state, at) values (?, ?, ?, 'waiting', ?)",
                (route, key, body, time.time_ns() // 1000),
            )
        return True

    def take(self, route: str, not_before: Mapping[int, float]) -> Held | None:
        """The oldest waiting one whose pause is over; it is `sending` from now on."""
        now = time.monotonic()
        with self._lock:
            rows = self._db.execute(
                "select seq, key, body from held where route = ? and state = 'waiting' "
                "order by seq limit ?", (route, len(not_before) + 1)).fetchall()
            for seq, key, body in rows:
                if not_before.get(seq, 0.0) <= now:
                    self._db.execute("update held set state = 'sending' where seq = ?", (seq,))
                    return Held(seq, key, bytes(body))
        return None

    def give_back(self, held: Held, *, in_doubt: bool) -> None:
        """Not delivered, or nobody knows."""
        with self._lock:
            self._db.execute(
                "update held set state = 'waiting', in_doubt = in_doubt or ? where seq = ?",
                (int(in_doubt), held.seq))

    def forwarded(self, route: str, held: Held, destination: str) -> None:
        """Delivered; a delivery after one in doubt is a possible duplicate."""
        with self._lock:
            self._db.execute("begin immediate")
            self._db.execute(
                "update held set state = 'sent', destination = ?, body = null, "
                "doubled = in_doubt where seq = ?", (destination, held.seq))
            self._db.execute(
                "insert into forwarded values (?, ?, 1) "
                "on conflict do update set n = n + 1", (route, destination))
            self._db.execute("delete from held where state = 'sent' and doubled = 0 "
                             "and seq < ?", (held.seq - KEPT_KEYS,))
            self._db.execute("commit")

    def intake_counts(self, route: str) -> dict[str, Any]:
        with self._lock:
            forwarded = dict(self._db.execute(
                "select destination, n from forwarded where route = ?", (route,)).fetchall())
            doubled = [key for (key,) in self._db.execute(
                "select key from held where route = ? and doubled order by seq limit 1000",
                (route,))]
            waiting = self._count(route)
        return {"offered": sum(forwarded.values()) + waiting, "forwarded": forwarded,
                "waiting": waiting, "possible_duplicates": doubled}

    def _count(self, route: str) -> int:
        return int(self._db.execute(
            "select count(*) from held where route = ? and state in ('waiting', 'sending')",
            (route,)).fetchone()[0])
