"""What a database offers the store: reading, one write at a time, a clock, plain errors.

All SQL of the store is written once, with `:name` for a value, and asks for the time by
`ccf_now()`; `sqlite.py` and `postgres.py` carry it out. Beyond that it keeps to what both
understand: TEXT and BIGINT, `CAST`, `ON CONFLICT`, `RETURNING`, and no colon in a literal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ccfailover.errors import StoreError
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    from typing import Protocol

    from ccfailover.store.mirror import Mirror

    class Part(Protocol):
        """One table family of the store."""

        _db: Database

Row = tuple[Any, ...]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Part")


CHUNKS = (256, 32, 4, 1)
"""Rows in one statement: few sizes, so that each is prepared once."""


def chunks(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    """`rows` cut into pieces of those sizes."""
    start = 0
    for size in CHUNKS:
        while len(rows) - start >= size:
            yield rows[start:start + size]
            start += size


def with_rows(sql: str, count: int, width: int, mark: str) -> str:
    """`sql` with its `$rows` for `count` rows of `width` values."""
    row = f"({', '.join([mark] * width)})"
    return sql.replace("$rows", "VALUES " + ", ".join([row] * count))


class Unwritten(StoreError):
    """Nothing of it was written (or read), and the same call may succeed a moment later."""


class Transaction(ABC):
    """Statements that happen all or not at all. Only `Database.transaction` makes one."""

    now: int
    """The instant of this transaction, µs: the same for everything written in it."""

    @abstractmethod
    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]: ...

    @abstractmethod
    def change(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        """As `execute`; how many rows were changed."""

    @abstractmethod
    def many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """One statement for each of `rows`, in their order."""

    @abstractmethod
    def insert(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """`sql` with its `$rows` as `VALUES (…), (…)`: many rows in few statements.

        Each statement is one call into the database's own code: threads that work beside it
        lose no time to it, which one statement a row would cost them.
        """

    def journal(self, stream: str, seq: int, text: str, hash_: str) -> None:
        """One event into the journal: every event of every stream comes through here."""
        self.execute(
            "INSERT INTO journal (stream, seq, text, hash) VALUES (:stream, :seq, :text, :hash)",
            {"stream": stream, "seq": seq, "text": text, "hash": hash_})

    def next_fence(self, last: int) -> int:
        """A fence above `last`, the highest that the store knows of, and above all seen here."""
        return last + 1


class Database(ABC):
    """One open store. Safe for several threads; not across a fork.

    Every durable write of the whole store goes through `transaction`: a test that wants to stop
    the world before or after a write subclasses one of its kinds and overrides it.
    """

    path: str
    """What to call the store in front of people; never a password."""
    runtime: Runtime
    schema_before: int
    """The schema that was found when it was opened; 0 when it was empty."""
    connected: int = 0
    """How many connections were made: after another one it may be another server."""
    mirror: Mirror | None = None
    """Where what is seen of a shared store is kept on this machine as well."""

    @abstractmethod
    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of a reading statement, as last committed. Raises StoreError."""

    @abstractmethod
    def glance(self, sql: str, params: Mapping[str, Any], within: float) -> list[Row] | None:
        """As `query`, given up after `within` seconds: None then. Not within a `snapshot`."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Within the block, this thread's queries all see one state of the store."""

    @abstractmethod
    def transaction(
        self, doing: str, on: str | None = None
    ) -> AbstractContextManager[Transaction]:
        """One write, durable when the block has been left; nothing of it when it raises.

        `doing` says what the caller is about ("start a run"), for errors. Writes with the same
        `on` (a stream, or the name of what is changed) happen one after the other; None waits
        for all others, and all others wait for it. Raises StoreError.
        """

    @abstractmethod
    def among(self, texts: Collection[str]) -> tuple[str, Any]:
        """A table with the column `value` that holds `texts`, to be joined with; its parameter's
        name is `among`, and the second part is what to give for it."""

    @abstractmethod
    def now(self) -> int:
        """The instant by the clock that leases go by, µs."""

    @abstractmethod
    def close(self) -> None:
        """Idempotent."""

    def held(self) -> list[str]:
        """Under which names processes are present here, see `store.presence`."""
        return []

    def integrity(self) -> list[str]:
        """What the database itself finds wrong with its files; empty when nothing."""
        return []

    def perform(self, call: Callable[[], T]) -> T:
        """Carry out what is one transaction or one reading, as often as it takes."""
        return call()

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Around the decoding of what was read: text that makes no sense is a StoreError."""
        try:
            yield
        except (TypeError, ValueError, KeyError, RecursionError) as error:
            raise StoreError(
                f"something in the store makes no sense ({type(error).__name__}): it was changed "
                "or damaged",
                where=self.path, not_done="nothing was decided on it",
                hint="ccfailover journal verify",
            ) from error


def one_write(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Marks a method of the store whose whole effect is one transaction: when a connection is
    lost before anything was written, the database may call it again."""

    @wraps(method)
    def whole(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._db.perform(lambda: method(self, *args, **kwargs))

    return whole
