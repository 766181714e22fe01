"""Whose turn it is at a provider: one pace for every process that works with this store."""

from __future__ import annotations

from ccfailover.runtime import SECOND
from ccfailover.store.db import Database, one_write


class Pacing:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    @one_write
    def reserve(self, name: str, count: int, rate: float) -> float:
        """Take a place for `count` items in the line before `name`, which takes `rate` of them a
        second; how many seconds until it is their turn.

        By the store's clock, so that no machine's own one counts. A place that was taken and not
        used is lost, as it is when its process dies.
        """
        with self._db.transaction(f"pace {count} items to {name}", on=f"pace:{name}") as tx:
            cost = max(1, int(count * SECOND / rate))
            rows = tx.execute(
                "INSERT INTO pace (name, next_at) VALUES (:name, :now + :cost) "
                "ON CONFLICT (name) DO UPDATE SET next_at = :cost + CASE "
                "WHEN pace.next_at > :now THEN pace.next_at ELSE :now END RETURNING next_at",
                {"name": name, "now": tx.now, "cost": cost})
            return (int(rows[0][0]) - cost - tx.now) / SECOND
