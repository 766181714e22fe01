"""Tokens through DBOS queues on the shared database: the only module that knows DBOS.

DBOS hands a token to one worker at a time and keeps it until that worker has done with it. Where
an item is, and whether a step is done, it is never asked. Its tables are in a schema of their own
that `ccfailover db upgrade` makes; a worker on an older one does not start.

Two statements are our own, where DBOS's calls would take from a living worker what it has just
begun: calling off only what waits, and offering anew only what a dead worker had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as problems

from ccfailover.errors import StoreError, Unavailable
from ccfailover.runtime import Runtime
from ccfailover.store import dsn
from ccfailover.store.postgres_link import Link
from ccfailover.transfer.fanout import Open, Token

SCHEMA = "ccf_dbos"
VERSION = "ccf-items-1"
"""Changes only with the form of a token: workers of another one leave them alone."""

NAME = "ccfailover"
WORKFLOW = "move_items"
POLL = 1.0
"""Seconds between two looks of an idle worker."""

ATTEMPTS = 5
"""Workers that may die with one token in hand before it is given up."""

ANSWER = 10.0
"""Seconds for one statement."""

_TABLE = f"{SCHEMA}.workflow_status"
_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_CANCEL = sa.text(
    f"UPDATE {_TABLE} SET status = 'CANCELLED', queue_name = NULL, owner_xid = NULL, "
    f"started_at_epoch_ms = NULL, updated_at = {_NOW}, completed_at = {_NOW} "
    "WHERE starts_with(workflow_uuid, :prefix) AND (status IN ('ENQUEUED', 'DELAYED') "
    "OR (status = 'PENDING' AND executor_id = ANY(:dead))) RETURNING executor_id")
_SWEEP = sa.text(
    f"UPDATE {_TABLE} SET status = 'ENQUEUED', owner_xid = NULL, started_at_epoch_ms = NULL, "
    f"updated_at = {_NOW} WHERE starts_with(workflow_uuid, :prefix) "
    "AND status = 'PENDING' AND executor_id = ANY(:dead) RETURNING executor_id")


def queue_of(policy: str) -> str:
    """One queue for each policy (its hash): a worker with another one never sees its tokens."""
    return f"ccf-items-{policy[:12]}"


def _engine(location: str, runtime: Runtime, size: int) -> sa.Engine:
    """Connections as the store makes them: bounded in time, to the host that takes writes, and
    without an address in which a password could be shown."""
    address = dsn.read(location, statement_timeout=ANSWER, lock_timeout=ANSWER)

    def connect() -> Link:
        link = Link.connect(**{**address.params, "application_name": "ccfailover dispatch"})
        link.runtime, link.longest = runtime, ANSWER
        return link

    return sa.create_engine("postgresql+psycopg://", creator=connect, pool_size=size,
                            max_overflow=size, pool_pre_ping=True, pool_timeout=ANSWER)


@contextmanager
def _plain(doing: str) -> Iterator[None]:
    try:
        yield
    except (sa.exc.SQLAlchemyError, problems.DBOSException) as error:
        lost = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
        # What the server said may hold a token's text; its class says enough.
        raise Unavailable(f"{doing}: the dispatch of work does not answer "
                          f"({type(error).__name__})", in_doubt=lost, provider="workers",
                          hint="ccfailover db upgrade; ccfailover doctor") from None


class Tokens:
    """A `FanOut` but for `workers`. `alive`: the names of the workers that are there."""

    def __init__(self, location: str, runtime: Runtime, alive: Callable[[], Sequence[str]]) -> None:
        self._alive = alive
        self._engine = _engine(location, runtime, 2)
        self._client = DBOSClient(
            system_database_engine=self._engine, dbos_system_schema=SCHEMA, lazy=True,
            serializer=DBOSPortableJSONSerializer(), application_name=NAME,
            retry_connection_errors=False)

    def offer(self, prefix: str, tokens: Sequence[Token], first: int) -> None:
        with _plain("offering work"), self._engine.begin() as connection:
            for number, token in enumerate(tokens, first):
                self._client.enqueue_in_transaction(connection, {
                    "workflow_name": WORKFLOW, "queue_name": queue_of(token.policy),
                    "app_version": VERSION, "workflow_id": f"{prefix}{number:06d}",
                }, token.to_json())

    def open(self, prefix: str) -> Open:
        found = self._open(prefix)
        at_work = sum(status == "PENDING" for status, _ in found)
        return Open(len(found) - at_work, at_work)

    def sweep(self, prefix: str) -> int:
        dead = self._dead(prefix)
        return len(self._change(_SWEEP, prefix, dead)) if dead else 0

    def cancel(self, prefix: str) -> int:
        dead = self._dead(prefix)
        return sum(worker in dead for worker in self._change(_CANCEL, prefix, dead))

    def forget(self, prefix: str) -> None:
        with _plain("tidying up"):
            self._client.delete_workflows([
                found.workflow_id for found in self._client.list_workflows(
                    workflow_id_prefix=prefix, status=_ENDED, load_input=False,
                    load_output=False)])

    def close(self) -> None:
        self._client.destroy()
        self._engine.dispose()

    def _open(self, prefix: str) -> list[tuple[str, str | None]]:
        with _plain("looking after work"):
            return [(found.status, found.executor_id) for found in self._client.list_workflows(
                workflow_id_prefix=prefix, status=["ENQUEUED", "DELAYED", "PENDING"],
                load_input=False, load_output=False)]

    def _dead(self, prefix: str) -> list[str]:
        """Who has a token and is not there. Who is there is asked last: a worker that has come
        meanwhile is no dead one."""
        having = {worker for status, worker in self._open(prefix)
                  if status == "PENDING" and worker is not None}
        return sorted(having - set(self._alive())) if having else []

    def _change(self, statement: sa.TextClause, prefix: str, dead: list[str]) -> list[str | None]:
        with _plain("calling work off"), self._engine.begin() as connection:
            return [worker for (worker,) in
                    connection.execute(statement, {"prefix": prefix, "dead": dead})]


class Serving:
    """Takes tokens off the queue, `slots` at a time, and gives each to `handle` in a thread of its
    own; whatever that answers, or raises, the token is done. One in a process."""

    def __init__(self, location: str, runtime: Runtime, *, policy: str, name: str, slots: int,
                 handle: Callable[[object], str]) -> None:
        self._location, self._runtime = location, runtime
        self._queue, self._name, self._slots = queue_of(policy), name, slots
        self._handle = handle
        self._engine: sa.Engine | None = None

    def start(self) -> None:
        """Raises StoreError when DBOS's tables are not those of this version."""
        self._engine = _engine(self._location, self._runtime, self._slots + 2)
        DBOS(config=_config(self._engine, self._name, migrate=False))

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=ATTEMPTS)
        def move_items(token: dict[str, Any]) -> str:
            return self._handle(token)

        DBOS.listen_queues([self._queue])
        try:
            DBOS.launch()
            # None in advance: what waits behind one's own work is kept from those who are idle.
            DBOS.register_queue(self._queue, worker_concurrency=self._slots,
                                polling_interval_sec=POLL, on_conflict="always_update")
        except (sa.exc.SQLAlchemyError, problems.DBOSException) as error:
            self.stop(0)
            raise StoreError(
                f"its tables for the dispatch of work are missing or not those of this version "
                f"({type(error).__name__})", not_done="no work was taken",
                hint="ccfailover db upgrade, on a machine with ccfailover[scale]") from None

    def stop(self, seconds: float) -> None:
        """Take no more; wait so long for what is at work. Idempotent."""
        DBOS.destroy(workflow_completion_timeout_sec=int(seconds))
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def migrate(location: str, runtime: Runtime) -> None:
    """Make DBOS's tables, or bring them up to date. Raises StoreError."""
    engine = _engine(location, runtime, 2)
    try:
        DBOS(config=_config(engine, "db upgrade", migrate=True))
        DBOS.listen_queues([])
        DBOS.launch()
    except (sa.exc.SQLAlchemyError, problems.DBOSException) as error:
        raise StoreError(
            f"the tables for the dispatch of work could not be made ({type(error).__name__})",
            not_done="workers cannot start; all else is up to date",
            hint="let the database user create the schema `ccf_dbos`, then: ccfailover db upgrade"
        ) from None
    finally:
        DBOS.destroy()
        engine.dispose()


def _config(engine: sa.Engine, name: str, *, migrate: bool) -> DBOSConfig:
    return {
        "name": NAME, "system_database_engine": engine, "dbos_system_schema": SCHEMA,
        "application_version": VERSION, "executor_id": name,
        "serializer": DBOSPortableJSONSerializer(), "run_migrations": migrate,
        "use_listen_notify": False, "enable_otlp": False, "log_level": "ERROR",
    }
