"""Schema 3: what sites say of the work they were given, and canaries that are on their way."""

from __future__ import annotations

from ccfailover.store.migrations.m0001 import _in_postgres

_TABLES = (
    """CREATE TABLE completion (
        id $serial PRIMARY KEY, site TEXT NOT NULL, item_id TEXT NOT NULL, outcome TEXT NOT NULL,
        at BIGINT NOT NULL, reference TEXT NOT NULL, recorded BIGINT NOT NULL,
        UNIQUE (item_id, site, outcome, at))""",
    "CREATE INDEX completion_by_site ON completion (site, item_id)",
    """CREATE TABLE canary (
        name TEXT NOT NULL PRIMARY KEY, run TEXT NOT NULL, step TEXT NOT NULL,
        queue TEXT NOT NULL, site TEXT NOT NULL, state TEXT NOT NULL, at BIGINT NOT NULL)""",
    "CREATE INDEX canary_open ON canary (queue, site) WHERE state = 'sent'",
)

STATEMENTS = {
    "sqlite": tuple(each.replace("$serial", "INTEGER") for each in _TABLES),
    "postgres": tuple(map(_in_postgres, _TABLES)),
}
