"""A table as the system of record: what is peculiar to PostgreSQL. What every backlog owes is in
tests/conformance, and whole moves are in tests/unit/transfer/test_reassign.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import jsonschema
import psycopg
import pytest

from ccfailover.errors import Rejected
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog
from ccfailover.providers.postgresql import PostgresqlProvider
from ccfailover.providers.postgresql.records import Held
from ccfailover.runtime import SystemRuntime
from tests.servers.postgres import Postgres

pytestmark = pytest.mark.server("postgres")

TABLE = """CREATE TABLE applications (
    id {id} PRIMARY KEY DEFAULT {default}, body jsonb NOT NULL, claim text,
    claimed_until timestamptz, receives int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(), item_id text, submitted text,
    hops int NOT NULL DEFAULT 0, attributes jsonb, delivery_key text,
    owner text NOT NULL DEFAULT 'hq', in_use boolean, started timestamptz, stage text)"""
COLUMNS = {"assignee": "owner", "locked": "in_use", "begun": "started"}


class Los:
    """The lender's table, and providers that see it."""

    def __init__(self, server: Postgres, *, key: str = "bigint", default: str = "0") -> None:
        self.dsn = server.new_database()
        self.run(f"CREATE SEQUENCE numbers; {TABLE.format(id=key, default=default)}")
        self._made: list[PostgresqlProvider] = []

    def run(self, sql: str, *params: object) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as link:
            cursor = link.execute(sql.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

    def backlog(self, assignee: str | None, dsn: str | None = None, **more: Any) -> Backlog:
        provider = PostgresqlProvider(
            ProviderSpec("los", "postgresql", {"dsn": "env:DSN", "timeout": 5}),
            resolve=lambda reference: dsn or self.dsn, runtime=SystemRuntime())
        self._made.append(provider)
        params = {"item": {"id": "uli"}, "columns": COLUMNS, **more}
        if assignee is not None:
            params["assignee"] = assignee
        jsonschema.validate({"ref": "applications", **{
            name: value for name, value in params.items() if name != "item"}},
            PostgresqlProvider.LEVER)
        return provider.backlog(LeverSpec("los", "applications", params))

    def add(self, name: str, **columns: str) -> None:
        extra = "".join(f", {column}" for column in columns)
        values = "".join(f", {value}" for value in columns.values())
        self.run(f"INSERT INTO applications (body{extra}) VALUES (%s{values})",
                 f'{{"uli": "{name}"}}')

    def owners(self) -> dict[str, str]:
        return dict(self.run("SELECT body->>'uli', owner FROM applications"))

    def close(self) -> None:
        for each in self._made:
            each.close()


@pytest.fixture
def los(postgres: Postgres) -> Iterator[Los]:
    made = Los(postgres, default="nextval('numbers')")
    yield made
    made.close()


def keys(items: Any, hop: int = 1) -> dict[str, str]:
    return {item.item_id: f"{item.item_id}:r1:{hop}" for item in items}


def test_locked_and_begun_are_neither_claimed_nor_counted(los: Los) -> None:
    """A flag that is true, a time that is set; null and false are free."""
    los.add("free")
    los.add("unlocked", in_use="false")
    los.add("locked", in_use="true")
    los.add("begun", started="now()")
    backlog = los.backlog("hq")
    assert backlog.measure().depth == 2
    assert {item.item_id for item in backlog.claim(10)} == {"free", "unlocked"}
    assert (backlog.measure().visible, backlog.measure().hidden) == (0, 2)


def test_locked_and_begun_stay_in_a_plain_queue_too(los: Los) -> None:
    """The columns mean the same where rows are deleted and inserted."""
    los.add("free")
    los.add("begun", started="now()")
    backlog = los.backlog(None, columns={"begun": "started"})
    [item] = backlog.claim(10)
    assert item.item_id == "free" and backlog.settle([item.handle]) == {item.handle: True}
    assert los.owners() == {"begun": "hq"}


@pytest.mark.parametrize(("change", "words"), [
    ("in_use = true", "locked or begun"), ("started = now()", "locked or begun"),
    ("owner = 'beta'", "assigned it elsewhere"), ("claim = 'theirs'", "claim ended"),
    ("claimed_until = now()", "claim ended"), ("id = id + 100", "no such record")])
def test_whatever_happened_since_the_claim_is_said_and_nothing_is_overwritten(
        los: Los, change: str, words: str) -> None:
    """Compare-and-set: each of these changes wins, and its neighbour in the batch goes."""
    los.add("a")
    los.add("b")
    items = list(los.backlog("hq").claim(10))
    los.run(f"UPDATE applications SET {change} WHERE body->>'uli' = 'a'")
    before = los.run("SELECT owner, in_use, started, claim, delivery_key FROM applications "
                     "WHERE body->>'uli' = 'a'")
    results = {result.item_id: result for result in los.backlog("acme").put(
        items, keys=keys(items))}
    lost = results["a"]
    assert (lost.ok, lost.permanent, lost.in_doubt) == (False, True, False)
    assert words in lost.detail
    assert results["b"].ok and los.owners()["b"] == "acme"
    assert los.run("SELECT owner, in_use, started, claim, delivery_key FROM applications "
                   "WHERE body->>'uli' = 'a'") == before


def test_an_assignment_leaves_the_rest_of_the_record_alone(los: Los) -> None:
    """Assignee, key and hops are set, the claim is taken off, the claims are counted anew."""
    los.add("a", stage="'underwriting'")
    [item] = los.backlog("hq").claim(1)
    moved = WorkItem(item.item_id, item.message_id, b"never written", {}, item.handle, hops=1)
    [result] = los.backlog("acme").put([moved], keys=keys([item]))
    assert result.ok and result.target_ref == item.message_id
    assert los.run("SELECT owner, delivery_key, hops, claim, claimed_until, receives, stage, body "
                   "FROM applications") == [
        ("acme", "a:r1:1", 1, None, None, 0, "underwriting", {"uli": "a"})]


def test_the_same_key_is_a_yes_for_ever_and_no_second_move(los: Los) -> None:
    """Also after acme has begun it. Once it went home again, the old key moves nothing."""
    los.add("a")
    hq, acme = los.backlog("hq"), los.backlog("acme")
    [item] = hq.claim(1)
    assert acme.put([item], keys=keys([item]))[0].ok
    los.run("UPDATE applications SET started = now()")
    assert acme.put([item], keys=keys([item]))[0].ok
    los.run("UPDATE applications SET started = NULL")
    [back] = acme.claim(1)
    assert hq.put([back], keys=keys([back], 2))[0].ok
    [old] = acme.put([item], keys=keys([item]))
    assert (old.ok, old.permanent) == (False, True) and los.owners() == {"a": "hq"}


def test_two_that_assign_one_claimed_row_at_once_assign_it_once(los: Los) -> None:
    """The second waits for the first one's lock, sees what it wrote, and loses the compare."""
    los.add("a")
    [item] = los.backlog("hq").claim(1)
    told: dict[str, Any] = {}
    rivals = {name: los.backlog(name) for name in ("acme", "beta")}
    with psycopg.connect(los.dsn) as holder:
        holder.execute("SELECT 1 FROM applications FOR UPDATE")

        def work(name: str) -> None:
            told[name] = rivals[name].put([item], keys={"a": f"a:{name}:1"})[0]

        threads = [threading.Thread(target=work, args=(name,)) for name in rivals]
        for thread in threads:
            thread.start()
        for _ in range(1000):
            [(waiting,)] = los.run("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = "
                                   "'Lock' AND application_name = 'ccfailover'")
            if waiting == 2:
                break
        assert waiting == 2
        holder.rollback()
        for thread in threads:
            thread.join(30)
    [winner] = [name for name, result in told.items() if result.ok]
    assert los.owners() == {"a": winner}
    assert sum(result.permanent for result in told.values()) == 1


@pytest.mark.parametrize(("kind", "default"), [
    ("uuid", "gen_random_uuid()"), ("text", "'A-' || nextval('numbers')"),
    ("varchar(40)", "nextval('numbers')::text"), ("integer", "nextval('numbers')")])
def test_the_primary_key_may_be_of_any_common_type(
        postgres: Postgres, kind: str, default: str) -> None:
    los = Los(postgres, key=kind, default=default)
    los.add("a")
    hq = los.backlog("hq")
    [item] = hq.claim(1)
    assert hq.settle([item.handle]) == {item.handle: False}
    assert los.backlog("acme").put([item], keys=keys([item]))[0].ok
    assert hq.settle([item.handle]) == {item.handle: True}
    los.close()


def test_a_primary_key_of_another_type_is_said(postgres: Postgres) -> None:
    los = Los(postgres, key="inet", default="'10.0.0.1'")
    with pytest.raises(Rejected, match="of type inet") as caught:
        los.backlog("hq").measure()
    assert "bigint" in str(caught.value.hint)
    los.close()


def test_reading_and_updating_are_all_the_rights_that_it_needs(los: Los) -> None:
    """A login that may neither insert nor delete moves records, and can prove that it could."""
    los.add("a")
    los.run("CREATE ROLE mover LOGIN PASSWORD 'mover-only'; "
            "GRANT SELECT, UPDATE ON applications TO mover")
    dsn = f"postgresql://mover:mover-only@{los.dsn.split('@')[1]}"
    hq, acme = los.backlog("hq", dsn), los.backlog("acme", dsn)
    assert "let through" in acme.check_writable()
    [item] = hq.claim(1)
    assert acme.put([item], keys=keys([item]))[0].ok
    los.run("REVOKE UPDATE ON applications FROM mover")
    with pytest.raises(Rejected):
        acme.check_writable()
    los.close()
    los.run("REVOKE ALL ON applications FROM mover; DROP ROLE mover")


def test_an_item_of_another_system_has_no_record_to_assign(los: Los) -> None:
    """By its handle, or by an id that cannot be one of this table."""
    strange = [WorkItem("a", "m", b"{}", {}, "a handle of SQS"),
               WorkItem("b", "m", b"{}", {}, str(Held("c", "hq", "not-a-number")))]
    results = los.backlog("acme").put(strange, keys=keys(strange))
    assert [(each.ok, each.permanent) for each in results] == [(False, True)] * 2


def test_an_assignee_with_a_table_of_keys_is_refused(los: Los) -> None:
    with pytest.raises(jsonschema.ValidationError):
        los.backlog("hq", keys="delivered")


@pytest.mark.parametrize("held", [Held("c", "a/b", "1/2"), Held("c", "ü %", "x")])
def test_a_handle_says_what_it_was_made_of(held: Held) -> None:
    assert Held.of(str(held)) == held


@pytest.mark.parametrize("handle", ["", "x", "a/b", "//", "a//c"])
def test_what_is_no_handle_is_none(handle: str) -> None:
    assert Held.of(handle) is None
