"""A table as a queue: what is peculiar to PostgreSQL, on a real server. What every backlog owes is
in tests/conformance."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.postgresql import PostgresqlProvider
from ccfailover.providers.postgresql.table import quoted
from ccfailover.runtime import SystemRuntime
from tests.servers.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.server("postgres")

TABLE = """CREATE TABLE {name} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body {body} NOT NULL, claim text,
    claimed_until timestamptz, receives int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(), item_id text, submitted text,
    hops int NOT NULL DEFAULT 0, attributes jsonb, delivery_key text)"""


class Base:
    """One database with tables of applications."""

    def __init__(self, server: Postgres) -> None:
        self.dsn = server.new_database()
        self.provider = self.reach(self.dsn)

    def reach(self, dsn: str) -> PostgresqlProvider:
        return PostgresqlProvider(
            ProviderSpec("los", "postgresql", {"dsn": "env:DSN", "timeout": 5}),
            resolve=lambda reference: dsn, runtime=SystemRuntime())

    def run(self, sql: str, *params: object) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as link:
            cursor = link.execute(sql.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def table(self, name: str = "applications", body: str = "bytea", **params: object) -> LeverSpec:
        self.run(TABLE.format(name=name, body=body))
        return LeverSpec("los", name, {"item": {"id": "uli"}, **params})

    def add(self, name: str, item: str, submitted: str | None = None) -> None:
        self.run(f"INSERT INTO {name} (body, submitted) VALUES (%s, %s)",
                 f'{{"uli": "{item}"}}'.encode(), submitted)


@pytest.fixture
def base(postgres: Postgres) -> Iterator[Base]:
    found = Base(postgres)
    yield found
    found.provider.close()


def item(name: str, body: bytes = b"{}", **more: Any) -> WorkItem:
    return WorkItem(name, "m", body, {}, "", **more)


def test_the_nearest_deadline_is_claimed_first(base: Base) -> None:
    """The legal clock runs from the submission; what has no date may be the oldest of all."""
    lever = base.table()
    for name, submitted in (("a", None), ("b", "2026-03-02"), ("c", "2026-03-01"), ("d", None)):
        base.add("applications", name, submitted)
    backlog = base.provider.backlog(lever)
    assert [each.item_id for turn in range(4) for each in backlog.claim(1)] == ["a", "d", "c", "b"]


def test_two_that_claim_at_once_never_get_the_same(base: Base) -> None:
    """Rows that another one is just taking are skipped, not waited for, and nothing is left."""
    lever = base.table()
    for number in range(60):
        base.add("applications", f"a{number}")
    taken: list[list[str]] = [[] for _ in range(4)]
    providers = [base.reach(base.dsn) for _ in taken]

    def work(number: int) -> None:
        backlog = providers[number].backlog(lever)
        while found := backlog.claim(7):
            taken[number] += [each.item_id for each in found]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(taken))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for provider in providers:
        provider.close()
    assert sorted(name for names in taken for name in names) == sorted(
        f"a{number}" for number in range(60))


def test_a_claim_that_has_ended_deletes_nothing(base: Base) -> None:
    """Settling late is False even where nobody else has the item: somebody might have had it."""
    lever = base.table(claim_seconds=0.2)
    base.add("applications", "a")
    backlog = base.provider.backlog(lever)
    [first] = backlog.claim(1)
    base.run("SELECT pg_sleep(0.3)")
    assert backlog.settle([first.handle]) == {first.handle: False}
    assert backlog.extend([first.handle], 60) == {first.handle: False}
    [second] = backlog.claim(1)
    assert second.handle != first.handle and second.receives == 2
    assert backlog.settle([first.handle, second.handle]) == {
        first.handle: False, second.handle: True}
    assert base.run("SELECT count(*) FROM applications") == [(0,)]


def test_a_key_outlives_its_row(base: Base) -> None:
    """Whoever works the item deletes it; a repetition that comes later is swallowed, too."""
    base.run("CREATE TABLE keys (key text PRIMARY KEY, at timestamptz DEFAULT now())")
    backlog = base.provider.backlog(base.table(keys="keys"))
    [first] = backlog.put([item("a")], keys={"a": "a:r1:1"})
    base.run("DELETE FROM applications")
    [again] = backlog.put([item("a")], keys={"a": "a:r1:1"})
    assert first.ok and again.ok and first.target_ref and again.target_ref is None
    assert base.run("SELECT count(*) FROM applications") == [(0,)]


def test_a_key_that_is_twice_in_a_batch_makes_one_row(base: Base) -> None:
    """Also where no row had the key before the batch came."""
    base.run("CREATE TABLE keys (key text PRIMARY KEY, at timestamptz DEFAULT now())")
    backlog = base.provider.backlog(base.table(keys="keys"))
    results = backlog.put([item("a"), item("a"), item("b")], keys={"a": "k", "b": "l"})
    assert [result.ok for result in results] == [True, True, True]
    assert base.run("SELECT item_id FROM applications ORDER BY item_id") == [("a",), ("b",)]


@pytest.mark.parametrize(("body", "bad"), [("jsonb", b"not json"), ("text", b"\xff\xfe"),
                                           ("bytea", b"")])
def test_what_the_column_cannot_hold_is_the_items_own_fault(
        base: Base, body: str, bad: bytes) -> None:
    """One item of a batch that the database refuses spoils nothing for its neighbours."""
    backlog = base.provider.backlog(base.table(body=body))
    batch = [item("a"), item("b", bad), item("c")]
    results = backlog.put(batch, keys={"a": "k1", "b": "k2", "c": "k3"})
    assert [(r.ok, r.permanent, r.in_doubt) for r in results] == [
        (True, False, False), (False, True, False), (True, False, False)]
    assert base.run("SELECT item_id FROM applications ORDER BY id") == [("a",), ("c",)]


def test_what_travels_is_in_columns_of_its_own(base: Base) -> None:
    """The lender's system can read id, time and hops without reading the body."""
    backlog = base.provider.backlog(base.table())
    backlog.put([item("a", submitted="2026-03-01", hops=1, attributes={"branch": "0417"})],
                keys={"a": "a:r1:1"})
    assert base.run("SELECT item_id, submitted, hops, attributes, delivery_key "
                    "FROM applications") == [
        ("a", "2026-03-01", 1, {"branch": "0417"}, "a:r1:1")]


WRONG: dict[str, tuple[Callable[[Base], LeverSpec], str]] = {
    "no table": (lambda base: LeverSpec("los", "nowhere"), "no such table (42P01)"),
    "no schema": (lambda base: LeverSpec("los", "no.where"), "no such schema (3F000)"),
    "another name": (lambda base: base.table(columns={"body": "document"}),
                     "lacks the columns document"),
    "a number": (lambda base: base.table(columns={"body": "hops"}), "which holds no body"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_table_that_is_not_as_the_policy_says(base: Base, how: str) -> None:
    """The error names what is missing and what to compare."""
    make, words = WRONG[how]
    with pytest.raises(Rejected) as caught:
        base.provider.backlog(make(base)).claim(1)
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("change", [
    lambda dsn: dsn.replace(PASSWORD, "wrong-password-9x"),
    lambda dsn: dsn.rsplit("/", 1)[0] + "/nonesuch",
    lambda dsn: "postgresql://ccf:s3cret@@host:port/x",
])
def test_no_message_holds_a_password(base: Base, change: Callable[[str], str]) -> None:
    """Neither a refused login nor an address that makes no sense is quoted."""
    provider = base.reach(change(base.dsn))
    with pytest.raises(ProviderError) as caught:
        provider.backlog(LeverSpec("los", "applications")).measure()
    shown = f"{caught.value} {caught.value.to_json()} {provider!r} {vars(provider)!r}"
    assert not [word for word in (PASSWORD, "wrong-password", "s3cret") if word in shown]


def test_a_server_that_was_away_is_connected_to_again(postgres: Postgres, base: Base) -> None:
    """The calls during the outage fail; the one after it goes through, on a new connection."""
    backlog = base.provider.backlog(base.table())
    assert backlog.measure().depth == 0
    base.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
             "WHERE application_name = 'ccfailover'")
    with pytest.raises(Unavailable):
        backlog.measure()
    assert backlog.measure().depth == 0


@pytest.mark.parametrize("name", ['a"; DROP TABLE x; --', "a.b.c", "a b", "", "1a", "a\n"])
def test_a_name_is_a_name(name: str) -> None:
    """Nothing but plain names gets into a statement, whoever has read the policy."""
    with pytest.raises(ValueError, match="not a name"):
        quoted(name)
