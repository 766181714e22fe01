"""PostgreSQL: a table as a queue of work items, taken with `FOR UPDATE SKIP LOCKED`.

    providers:
      los: {kind: postgresql, dsn: "env:LOS_DSN"}
    queues:
      applications:
        backlog:
          hq: {provider: los, ref: intake.applications, keys: intake.delivered}

One row is one item, or, with an `assignee`, one application of the lender's own system of record:
moving it assigns the row anew. Which column holds what is said under `columns`; what is not named
there has the name that stands in `table.ROLES`. psycopg is imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import RLock
from typing import TYPE_CHECKING, ClassVar

from ccfailover.errors import Rejected
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog, Provider, Resolve
from ccfailover.providers.params import DURATION, REFERENCE, text
from ccfailover.providers.postgresql.about import EXAMPLE, RIGHTS, TRAPS
from ccfailover.providers.postgresql.backlog import BATCH, PostgresqlBacklog
from ccfailover.providers.postgresql.records import PostgresqlRecords
from ccfailover.providers.postgresql.table import NAME, OPTIONAL, ROLES
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    from ccfailover.store.postgres_link import Link

MAX_ITEM_BYTES = 16 * 1024 * 1024
_TABLE: Mapping[str, object] = {"type": "string", "pattern": rf"^{NAME}(\.{NAME})?$"}


class PostgresqlProvider(Provider):
    kind: ClassVar[str] = "postgresql"
    TIMEOUT: ClassVar[float] = 15.0
    summary: ClassVar[str] = "a PostgreSQL table as a queue (SKIP LOCKED): backlogs"
    EXAMPLE: ClassVar[str] = EXAMPLE
    RIGHTS: ClassVar[str] = RIGHTS
    TRAPS: ClassVar[tuple[str, ...]] = TRAPS
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["dsn"], "additionalProperties": False,
        "properties": {
            "dsn": {**REFERENCE, "description": "a reference to postgresql://user:password@host/db"},
            "timeout": DURATION,
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {**_TABLE, "description": "the table, with its schema: intake.applications"},
            "keys": {
                **_TABLE,
                "description": "a table that keeps the key of every delivery, so that none is "
                               "repeated (columns: key text primary key, at timestamptz)",
            },
            "columns": {
                "type": "object", "additionalProperties": False,
                "properties": {role: {"type": "string", "pattern": f"^{NAME}$"}
                               for role in (*ROLES, *OPTIONAL)},
                "description": "what the table calls its columns",
            },
            "assignee": {
                "type": "string", "minLength": 1, "maxLength": 200,
                "description": "the backlog is the rows that are assigned so; a move between two "
                               "assignees of one table assigns the row anew, and deletes nothing",
            },
            "claim_seconds": {
                **DURATION,
                "description": "how long a claimed item stays hidden from the site's own people",
            },
            "max_receives": {
                "type": "integer", "minimum": 1,
                "description": "claims after which the site's own people put an item aside",
            },
        },
        "allOf": [{
            "not": {"required": ["assignee", "keys"]},
            "x-message": "has an `assignee` and `keys`: a record keeps the key that it was "
                         "assigned with, and needs no table of keys",
        }],
    }

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._open: Link | None = None
        self._lock = RLock()

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        assignee = text((lever or {}).get("assignee")) or None
        return Capabilities(
            backlogs=True,
            # A key in the table itself goes with its row, when somebody has worked the item; a
            # row of a system of record stays, and a second compare-and-set never succeeds.
            idempotent_put="keys" in (lever or {}) or assignee is not None,
            assignee=assignee,
            max_item_bytes=MAX_ITEM_BYTES,
            max_batch=BATCH,
            transactional=True,
            deadline_first="exactly: each claim takes those with the nearest of the whole table",
            rights=("USAGE on the schema", *(
                ("SELECT, UPDATE on the table",) if assignee is not None else
                ("SELECT, INSERT, UPDATE, DELETE on the table",
                 "SELECT, INSERT on the table of keys"))),
        )

    def backlog(self, lever: LeverSpec) -> Backlog:
        made = PostgresqlRecords if lever.params.get("assignee") else PostgresqlBacklog
        return made(self.name, lever, self._lock, self._connect, self._drop)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        """A connection that failed once is not used again."""
        link, self._open = self._open, None
        if link is not None:
            link.close()

    def _connect(self) -> Link:
        """The one connection, in autocommit: each call is one statement, whole or not at all."""
        if self._open is None or self._open.closed:
            try:
                from ccfailover.providers.postgresql.connect import connect
            except ImportError as error:
                raise Rejected(f"a table in PostgreSQL needs psycopg ({error})",
                               provider=self.name, where="connect", not_done="nothing was sent",
                               hint="pip install 'ccfailover[postgres]'") from error

            self._open = connect(self.resolve(text(self.spec.params.get("dsn"))).strip(),
                                 self.name, self.runtime, timeout=self.call_seconds)
        return self._open
