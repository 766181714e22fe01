"""Schema 1: journal, runs with their leases, observations, ledger, outbox, facts.

Only TEXT and BIGINT (instants in µs), so that PostgreSQL can take the same columns. `run` is an
index over the journal (number, end) plus the lease, which is not history; `verify` compares it.
"""

from __future__ import annotations

_ITEM_COLUMNS = """
    run TEXT NOT NULL, step TEXT NOT NULL, item_id TEXT NOT NULL, queue TEXT NOT NULL,
    source TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL, at BIGINT NOT NULL,
    reason TEXT NOT NULL, message_id TEXT NOT NULL, handle TEXT NOT NULL, submitted TEXT,
    hop BIGINT NOT NULL, possible_duplicate BIGINT NOT NULL, target_ref TEXT"""

STATEMENTS = (
    """CREATE TABLE journal (
        stream TEXT NOT NULL, seq BIGINT NOT NULL, text TEXT NOT NULL, hash TEXT NOT NULL,
        PRIMARY KEY (stream, seq))""",
    # Our own mistakes must not rewrite history either; tampering is what the chain is for.
    """CREATE TRIGGER journal_is_append_only_u BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    """CREATE TRIGGER journal_is_append_only_d BEFORE DELETE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    """CREATE TABLE run (
        number BIGINT NOT NULL PRIMARY KEY, id TEXT NOT NULL UNIQUE, ended TEXT,
        fence BIGINT NOT NULL, holder TEXT, since BIGINT NOT NULL, expires_at BIGINT NOT NULL,
        ttl BIGINT NOT NULL)""",
    "CREATE INDEX run_open ON run (number) WHERE ended IS NULL",
    "CREATE TABLE scope (name TEXT NOT NULL PRIMARY KEY, run TEXT NOT NULL)",
    "CREATE INDEX scope_run ON scope (run)",
    "CREATE TABLE history (key TEXT NOT NULL PRIMARY KEY, at BIGINT NOT NULL, text TEXT NOT NULL)",
    """CREATE TABLE reading (
        key TEXT NOT NULL, at BIGINT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (key, at))""",
    "CREATE INDEX reading_at ON reading (at)",
    "CREATE TABLE trigger_state (name TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL)",
    f"CREATE TABLE item (id INTEGER PRIMARY KEY, {_ITEM_COLUMNS}, UNIQUE (run, step, item_id))",
    "CREATE INDEX item_by_id ON item (item_id)",
    "CREATE INDEX item_by_state ON item (queue, state)",
    f"CREATE TABLE item_history (id INTEGER PRIMARY KEY, {_ITEM_COLUMNS})",
    "CREATE INDEX item_history_by_id ON item_history (item_id, id)",
    """CREATE TABLE outbox (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, event TEXT NOT NULL,
        title TEXT NOT NULL, body TEXT NOT NULL, at BIGINT NOT NULL, attempts BIGINT NOT NULL,
        last_error TEXT NOT NULL, not_before BIGINT NOT NULL, sent_at BIGINT)""",
    "CREATE INDEX outbox_pending ON outbox (id) WHERE sent_at IS NULL",
    "CREATE TABLE fact (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
)
