"""PostgreSQL: a table as a queue of work items, taken with `FOR UPDATE SKIP LOCKED`.

    providers:
      los: {kind: postgresql, dsn: "env:LOS_DSN"}
    queues:
      applications:
        backlog:
          hq: {provider: los, ref: intake.applications, keys: intake.delivered}

One row is one item. Which column holds what is said under `columns`; what is not named there has
the name that stands in `table.ROLES`. psycopg is imported on first use.
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
from ccfailover.providers.postgresql.backlog import PostgresqlBacklog
from ccfailover.providers.postgresql.table import NAME, ROLES
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    from ccfailover.store.postgres_link import Link

MAX_ITEM_BYTES = 16 * 1024 * 1024
_TABLE: Mapping[str, object] = {"type": "string", "pattern": rf"^{NAME}(\.{NAME})?$"}


class PostgresqlProvider(Provider):
    kind: ClassVar[str] = "postgresql"
    TIMEOUT: ClassVar[float] = 15.0
    summary: ClassVar[str] = "a PostgreSQL table as a queue (SKIP LOCKED): backlogs"
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
                "properties": {role: {"type": "string", "pattern": f"^{NAME}$"} for role in ROLES},
                "description": "what the table calls its columns",
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
    }

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._open: Link | None = None
        self._lock = RLock()

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        return Capabilities(
            backlogs=True,
            # A key in the table itself goes with its row, when somebody has worked the item.
            idempotent_put="keys" in (lever or {}),
            max_item_bytes=MAX_ITEM_BYTES,
            rights=("USAGE on the schema", "SELECT, INSERT, UPDATE, DELETE on the table",
                    "SELECT, INSERT on the table of keys"),
        )

    def backlog(self, lever: LeverSpec) -> Backlog:
        return PostgresqlBacklog(self.name, lever, self._lock, self._connect, self._drop)

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
