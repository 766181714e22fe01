"""Messages to people, kept until they were sent; and small durable facts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccfailover.runtime import SECOND
from ccfailover.store import chain
from ccfailover.store.db import Database, one_write
from ccfailover.store.record import insert

_OUTBOX = "outbox"


@dataclass(frozen=True)
class OutboxMessage:
    """`key` makes it one message however often it is enqueued; `not_before` (µs) is when the
    next attempt is due."""

    id: int
    key: str
    event: str
    title: str
    body: str
    at: int
    attempts: int
    last_error: str
    not_before: int


class Outbox:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    @one_write
    def enqueue(self, key: str, event: str, title: str, body: str) -> bool:
        """Keep a message until it is sent. False: one with this key was there already."""
        with self._db.transaction(f"enqueue the message {key}", on=_OUTBOX) as tx:
            return tx.change(
                "INSERT INTO outbox (key, event, title, body, at, attempts, last_error, "
                "not_before) VALUES (:key, :event, :title, :body, :now, 0, '', :now) "
                "ON CONFLICT (key) DO NOTHING",
                {"key": key, "event": event, "title": title, "body": body, "now": tx.now}) == 1

    def pending(self, limit: int = 50) -> list[OutboxMessage]:
        """Messages not yet sent whose time has come, oldest first."""
        rows = self._db.query(
            "SELECT id, key, event, title, body, at, attempts, last_error, not_before "
            "FROM outbox WHERE sent_at IS NULL AND not_before <= ccf_now() "
            "ORDER BY id LIMIT :limit", {"limit": limit})
        return [OutboxMessage(*row) for row in rows]

    @one_write
    def mark_sent(self, message_id: int) -> None:
        with self._db.transaction(f"mark message {message_id} as sent", on=_OUTBOX) as tx:
            tx.execute("UPDATE outbox SET sent_at = :now, attempts = attempts + 1, "
                       "last_error = '' WHERE id = :id AND sent_at IS NULL",
                       {"id": message_id, "now": tx.now})

    @one_write
    def mark_failed(self, message_id: int, error: str, *, retry_in: float) -> None:
        """`error` must not hold the address or credentials; `retry_in` is in seconds."""
        with self._db.transaction(f"mark message {message_id} as failed", on=_OUTBOX) as tx:
            tx.execute("UPDATE outbox SET attempts = attempts + 1, last_error = :error, "
                       "not_before = :due WHERE id = :id AND sent_at IS NULL",
                       {"id": message_id, "error": error[:500],
                        "due": tx.now + int(retry_in * SECOND)})

    def outbox_has(self, key: str) -> bool:
        """Whether a message with this key was ever enqueued, sent or not."""
        return bool(self._db.query("SELECT 1 FROM outbox WHERE key = :key", {"key": key}))


class Facts:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    def fact(self, name: str) -> Any:
        """The value (JSON) last set, or None."""
        rows = self._db.query("SELECT value FROM fact WHERE name = :name", {"name": name})
        with self._db.readable():
            return json.loads(rows[0][0]) if rows else None

    @one_write
    def set_fact(self, name: str, value: Any, *, actor: str) -> None:
        """Keep a small fact, and journal it as `fact.set` in `automation`; one write."""
        from ccfailover.model.plan import canonical

        with self._db.transaction(f"keep the fact {name}", on=chain.AUTOMATION) as tx:
            insert(tx, chain.AUTOMATION, "fact.set", {"name": name, "value": value},
                   actor=actor, fence=0)
            tx.execute("INSERT INTO fact (name, value) VALUES (:name, :value) "
                       "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                       {"name": name, "value": canonical(value)})

    @one_write
    def swap_fact(
        self, name: str, value: Any, *, expected: Any,
        events: Sequence[tuple[str, Mapping[str, Any]]], actor: str,
    ) -> bool:
        """Set a fact and journal `events` (kind, data) in `automation`, if it still is `expected`
        (None: was never set, or is null); one write. False: somebody was quicker."""
        from ccfailover.model.plan import canonical

        with self._db.transaction(f"change the fact {name}", on=chain.AUTOMATION) as tx:
            rows = tx.execute("SELECT value FROM fact WHERE name = :name", {"name": name})
            if canonical(json.loads(rows[0][0]) if rows else None) != canonical(expected):
                return False
            for kind, data in events:
                insert(tx, chain.AUTOMATION, kind, data, actor=actor, fence=0)
            tx.execute("INSERT INTO fact (name, value) VALUES (:name, :value) "
                       "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                       {"name": name, "value": canonical(value)})
            return True
