"""What only a server can do to a store: refuse, vanish, come back, answer late, be another one."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from ccfailover.errors import Fenced, LeaseHeld, StoreError
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store, this_process
from ccfailover.store.migrations import LATEST, statements
from ccfailover.store.postgres import PostgresDatabase, in_psycopg
from tests.servers.pgweather import PostgresWeather
from tests.servers.postgres import PASSWORD, Postgres


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def own(postgres: Postgres) -> Iterator[Callable[..., Postgres]]:
    """Servers that a test may stop; `postgres` is asked for, so that a missing one is told."""
    started: list[Postgres] = []

    def start(*settings: str) -> Postgres:
        server = Postgres(postgres.programs, *settings)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.discard()


def told(caught, *words: str) -> None:
    text = "\n".join(caught.value.lines())
    for word in words:
        assert word in text
    assert PASSWORD not in text
    assert caught.value.hint
    assert caught.value.not_done


class Hasty(PostgresDatabase):
    """Gives up soon."""

    patience = 0.3
    lock_timeout = 0.2


def test_statements_are_rewritten_once_and_only_where_a_value_stands():
    """`:name` becomes psycopg's form; a per cent sign stays one; the result is kept."""
    sql = "SELECT a FROM t WHERE b = :b AND c LIKE '50%' AND d IN (:b, :long_name2)"
    assert in_psycopg(sql) == ("SELECT a FROM t WHERE b = %(b)s AND c LIKE '50%%' "
                               "AND d IN (%(b)s, %(long_name2)s)")
    assert in_psycopg(sql) is in_psycopg(str(sql))


def test_a_connection_has_the_settings_that_durability_needs(dsn):
    """Whatever the database's own defaults are: synchronous commits, bounded waits, our schema."""
    with psycopg.connect(dsn, autocommit=True) as raw:
        name = dsn.rpartition("/")[2]
        for setting in ("synchronous_commit = off", "statement_timeout = 0", "lock_timeout = 0",
                        "default_transaction_isolation = 'serializable'"):
            raw.execute(f"ALTER DATABASE {name} SET {setting}")
    store = open_store(dsn, SystemRuntime())
    wanted = {"synchronous_commit": "on", "statement_timeout": "10s", "lock_timeout": "5s",
              "idle_in_transaction_session_timeout": "15s", "search_path": "ccfailover",
              "transaction_isolation": "read committed"}
    with store._db.transaction("look") as tx:
        for setting, value in wanted.items():
            assert tx.execute(f"SHOW {setting}") == [(value,)], setting
        params = store._db._writer.info.get_parameters()
    for name, value in {"connect_timeout": "5", "keepalives_idle": "5", "keepalives_count": "3",
                        "keepalives_interval": "2", "tcp_user_timeout": "10000",
                        "target_session_attrs": "read-write"}.items():
        assert params[name] == value
    store.close()


def test_tables_hold_plain_text_and_numbers_and_sort_by_bytes(dsn, postgres):
    """TEXT and BIGINT only, each text in byte order whatever the database's language is."""
    open_store(dsn, SystemRuntime()).close()
    found = postgres.sql(
        "SELECT DISTINCT data_type, collation_name FROM information_schema.columns "
        "WHERE table_schema = 'ccfailover' AND table_name <> 'last_write'",
        dsn.rpartition("/")[2])
    assert sorted(found) == [("bigint", None), ("text", "C")]


def test_leases_go_by_the_servers_clock(dsn, plan_for, person):
    """A machine whose own clock is a day off neither loses its lease nor steals another's."""
    class DayAhead(SystemRuntime):
        def now(self) -> int:
            return super().now() + 86_400_000_000

    ahead, right = open_store(dsn, DayAhead()), open_store(dsn, SystemRuntime())
    run, lease = right.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    with pytest.raises(LeaseHeld):
        ahead.acquire(run, actor=person("joe", host="third"), ttl=30)
    assert ahead.fence_is_ours(lease)
    assert abs(ahead.now() - time.time_ns() // 1000) < 60_000_000
    record = ahead.append("automation", "note", {}, actor="a")
    assert abs(record.at - time.time_ns() // 1000) < 60_000_000
    ahead.close()
    right.close()


def test_a_run_of_one_machine_is_resumed_on_another(dsn, plan_for, person):
    """After its lease has run out: higher fence, the same journal, and the first is fenced."""
    first, second = open_store(dsn, SystemRuntime()), open_store(dsn, SystemRuntime())
    run, old = first.create_run(plan_for("queue:a"), actor=person("mary", host="east"), ttl=0.3)
    first.append(f"run:{run}", "step.started", {"n": 1}, actor="mary@east", lease=old)
    other = person("joe", host="west", boot="c")
    with pytest.raises(LeaseHeld, match=r"mary@east\[7\]"):
        second.acquire(run, actor=other, ttl=30)
    time.sleep(0.35)
    new, wait = second.acquire(run, actor=other, ttl=30)
    assert (new.fence, wait) == (old.fence + 1, True)
    assert [r.kind for r in second.read(f"run:{run}")] == ["run.planned", "step.started"]
    with pytest.raises(Fenced, match="joe@west"):
        first.append(f"run:{run}", "step.succeeded", {}, actor="mary@east", lease=old)
    second.end_run(new, "run.succeeded", {}, actor="joe@west")
    assert first.verify() == []
    first.close()
    second.close()


def test_a_character_that_the_server_cannot_keep_stops_nothing(dsn):
    """An id from outside with a NUL in it is recorded, and found again under the same id."""
    store = open_store(dsn, SystemRuntime())
    store.record_items([LedgerRow("r1-a", "s", "u\0", "apps", "hq", "acme", ItemState.CLAIMED, 1)],
                       lease=None)
    assert [row.state for row in store.find_item("u\0")] == [ItemState.CLAIMED]
    store.append("automation", "note", {"text": "a\0b"}, actor="a")
    assert store.read("automation")[0].data == {"text": "a\0b"}
    assert store.verify() == []
    store.close()


# --- addresses and refusals


@pytest.mark.parametrize("location", [
    "postgresql://ccf:sec@ret@127.0.0.1/x", "postgresql://ccf:sec/ret@127.0.0.1/x",
    "postgresql://ccf:sec%zzret@127.0.0.1/x",
    "postgresql://ccf:sec ret@127.0.0.1:x/y", "postgresql://h/x?nonsense=secret",
    "postgresql://127.0.0.1:sec/ret",
])
def test_an_address_that_cannot_be_understood_is_not_quoted(location):
    """Half of a password may be in any part of it."""
    with pytest.raises(StoreError) as caught:
        open_store(location, SystemRuntime())
    told(caught, "cannot be understood", "%40")
    text = "".join(caught.value.lines()) + repr(caught.value.__cause__)
    assert "sec" not in text.replace("%40 %3A %2F", "")
    assert "ret" not in text


def test_a_wrong_password_is_told_without_it(dsn):
    """Who, where, and why, at once; the password in no line of it."""
    with pytest.raises(StoreError) as caught:
        open_store(dsn.replace(PASSWORD, "another-secret"), SystemRuntime())
    told(caught, "ccf@127.0.0.1", "password authentication failed")
    assert "another-secret" not in "".join(caught.value.lines()) + str(caught.value)


def test_no_server_is_told_at_once(postgres):
    """Opening is tried once: `status` must not hang when the database is gone."""
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        open_store(f"postgresql://ccf:{PASSWORD}@127.0.0.1:1/x", SystemRuntime())
    told(caught, "does not answer", "127.0.0.1:1/x")
    assert time.monotonic() - began < 15


def test_of_several_hosts_the_one_that_takes_writes_is_used(dsn, own):
    """One host is dead, one only takes readers: the third one is found."""
    readers = own("default_transaction_read_only=on")
    place = re.search(r"@(.*)/(.*)", dsn)
    shown = f"127.0.0.1:1,127.0.0.1:{readers.port},{place[1]}"
    store = open_store(f"postgresql://ccf:{PASSWORD}@{shown}/{place[2]}", SystemRuntime())
    store.append("automation", "note", {}, actor="a")
    assert store.path == f"postgresql://ccf@{shown}/{place[2]}"
    store.close()
    with pytest.raises(StoreError) as caught:
        open_store(f"postgresql://ccf:{PASSWORD}@127.0.0.1:{readers.port}/postgres",
                   SystemRuntime())
    told(caught, "read-only")


def test_status_does_not_create_tables(dsn, postgres):
    """Without `create` an empty database is an error and stays empty."""
    with pytest.raises(StoreError) as caught:
        open_store(dsn, SystemRuntime(), create=False)
    told(caught, "is empty", "ccfailover check")
    assert postgres.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'ccfailover'",
                        dsn.rpartition("/")[2]) == []


def test_another_programs_tables_are_left_alone(dsn, postgres):
    """A schema of our name that we did not make is refused."""
    postgres.sql("CREATE SCHEMA ccfailover CREATE TABLE run (a int)", dsn.rpartition("/")[2])
    with pytest.raises(StoreError) as caught:
        open_store(dsn, SystemRuntime())
    told(caught, "another program")


def test_a_database_that_cannot_hold_every_text_is_refused(postgres):
    """Not UTF8: refused at once, not at the first name with an accent."""
    postgres.sql("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' "
                 "TEMPLATE template0")
    with pytest.raises(StoreError) as caught:
        open_store(postgres.dsn("latin"), SystemRuntime())
    told(caught, "LATIN1", "UTF8")


def test_a_user_without_rights_is_told_so(dsn, postgres):
    """What to grant, and on what."""
    open_store(dsn, SystemRuntime()).close()
    postgres.sql(f"CREATE ROLE weak LOGIN PASSWORD '{PASSWORD}'")
    with pytest.raises(StoreError) as caught:
        open_store(dsn.replace("//ccf:", "//weak:"), SystemRuntime())
    told(caught, "may not do this", "grant")


# --- schemas


class Next(PostgresDatabase):
    """The version after this one: its schema has a table more."""

    latest = LATEST + 1

    def _statements(self, version: int) -> tuple[str, ...]:
        if version <= LATEST:
            return statements(version, "postgres")
        return ("CREATE TABLE more (a BIGINT)", "INSERT INTO more (a) VALUES (7)")


class Failing(Next):
    """A version whose migration goes wrong half-way."""

    def _statements(self, version: int) -> tuple[str, ...]:
        return (*super()._statements(version), "SELECT 1 / 0")


def test_a_shared_store_is_migrated_only_when_asked_and_whole(dsn):
    """Old data stays, the old version refuses before and while it is open, nothing half-way."""
    old = open_store(dsn, SystemRuntime())
    old.append("automation", "note", {"kept": True}, actor="a")
    with pytest.raises(StoreError) as caught:
        Next(dsn, SystemRuntime())
    told(caught, f"schema {LATEST}", "ccfailover db upgrade")
    with pytest.raises(StoreError):
        Failing(dsn, SystemRuntime(), upgrade=True)
    old.append("automation", "note", {}, actor="a")
    new = Store(Next(dsn, SystemRuntime(), upgrade=True))
    assert new._db.schema_before == LATEST
    assert new._db.query("SELECT a FROM more") == [(7,)]
    with pytest.raises(StoreError) as caught:
        old.append("automation", "note", {}, actor="a")
    told(caught, f"schema {LATEST + 1}", "newer ccfailover")
    with pytest.raises(StoreError) as caught:
        open_store(dsn, SystemRuntime(), upgrade=True)
    told(caught, f"schema {LATEST + 1}", "newer ccfailover")
    assert [record.data for record in new.read("automation")] == [{"kept": True}, {}]
    old.close()
    new.close()


# --- a server that goes away


def test_a_server_that_is_stopped_for_a_while_costs_time_only(own):
    """Writers and readers wait it out: every event once, in order, in an intact chain."""
    server = own()
    store = open_store(server.new_database(), SystemRuntime())
    done, errors = [], []

    def write(name: int) -> None:
        try:
            for number in range(300):
                store.append("automation", "note", {"by": name, "n": number}, actor="a")
                done.append((name, number))
                assert store.head("automation")[0] >= len(done) - 4
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for how in ("fast", "immediate", "immediate", "fast"):
        seen = len(done)
        while len(done) < seen + 40:
            assert not errors, errors
            time.sleep(0.005)
        server.stop(how)
        time.sleep(0.4)
        server.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    told_ = [(r.data["by"], r.data["n"]) for r in store.read("automation")]
    assert sorted(told_) == [(name, number) for name in range(3) for number in range(300)]
    assert store.verify() == []
    store.close()


def test_a_server_that_stays_away_ends_in_an_error_and_is_used_again_later(own):
    """After `patience` a StoreError that says nothing was written; the same store then works."""
    server = own()
    store = Store(Hasty(server.new_database(), SystemRuntime()))
    store.append("automation", "note", {"n": 1}, actor="a")
    server.stop()
    with pytest.raises(StoreError) as caught:
        store.append("automation", "note", {"n": 2}, actor="a")
    told(caught, "nothing of it was written", "127.0.0.1")
    with pytest.raises(StoreError) as caught:
        store.read("automation")
    told(caught, "nothing was read")
    server.start()
    store.append("automation", "note", {"n": 3}, actor="a")
    assert [r.data["n"] for r in store.read("automation")] == [1, 3]
    store.close()


class Cut(PostgresDatabase):
    """Loses its connection at a commit: just before it is sent, or before the answer comes."""

    when = ""

    def _commit(self, connection, doing, on):
        if self.when == "before":
            self.when = ""
            connection.close()
        elif self.when == "after":
            self.when = ""
            connection.execute("COMMIT")
            connection.close()
        super()._commit(connection, doing, on)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_without_an_answer_is_looked_up(dsn, when, plan_for, person):
    """Whether it happened or not: in the end it has, once."""
    store = Store(Cut(dsn, SystemRuntime()))
    for number in range(3):
        store._db.when = when if number != 1 else ""
        assert store.append("automation", "note", {"n": number}, actor="a").seq == number + 1
    store._db.when = when
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    store._db.when = when
    store.end_run(lease, "run.succeeded", {}, actor="mary")
    assert store.run_ids() == [run]
    assert [r.data["n"] for r in store.read("automation")] == [0, 1, 2]
    assert store.verify() == []
    store.close()


def test_a_commit_whose_fate_stays_unknown_is_told_as_that(own):
    """The server is gone at the commit and does not come back: "not certain", never "done"."""
    server = own()

    class Gone(Hasty):
        def _commit(self, connection, doing, on):
            server.stop("immediate")
            super()._commit(connection, doing, on)

    store = Store(Gone(server.new_database(), SystemRuntime()))
    with pytest.raises(StoreError) as caught:
        store.append("automation", "note", {}, actor="a")
    told(caught, "not certain whether it was written")
    store.close()


def test_the_farewell_of_a_server_is_not_taken_for_a_missing_standby(own):
    """It warns everybody when it goes down in a hurry, also whoever has just committed."""
    server = own()

    class Farewell(PostgresDatabase):
        struck = False

        def _commit(self, connection, doing, on):
            if not self.struck:
                self.struck = True
                connection.execute("COMMIT")  # it happened; the answer is what gets lost
                server.stop("immediate")
                back.start()
            super()._commit(connection, doing, on)

    back = threading.Thread(target=server.start)
    store = Store(Farewell(server.new_database(), SystemRuntime()))
    store.append("automation", "note", {}, actor="a")
    assert [record.kind for record in store.read("automation")] == ["note"]
    back.join()
    store.close()


def test_a_farewell_that_comes_with_the_answer_takes_nothing_back(postgres):
    """The server said yes, and in the same breath that it goes down: it is written."""
    with PostgresWeather(postgres.port) as weather:
        dsn = postgres.new_database().replace(f":{postgres.port}/", f":{weather.port}/")
        store = open_store(dsn, SystemRuntime())
        weather.next(*["farewell"] * 12)
        store.append("automation", "note", {"n": 1}, actor="a")
        weather.clear()
        assert [record.data for record in store.read("automation")] == [{"n": 1}]
        store.close()


def test_a_standby_that_does_not_confirm_is_no_success(own):
    """A server that gives up waiting for its standby calls that a commit; we do not."""
    server = own()
    dsn = server.new_database()
    open_store(dsn, SystemRuntime()).close()
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.sql("SELECT pg_reload_conf()")

    class Impatient(PostgresDatabase):
        statement_timeout = 0.5

    time.sleep(0.3)
    store = Store(Impatient(dsn, SystemRuntime()))
    with pytest.raises(StoreError) as caught:
        store.append("automation", "note", {}, actor="a")
    told(caught, "no standby has confirmed")
    store.close()


# --- many writers


@contextmanager
def held(dsn: str, on: str | None) -> Iterator[Store]:
    """Another machine that stands still in the middle of a write."""
    store = open_store(dsn, SystemRuntime())
    with store._db.transaction("hold", on=on):
        yield store
    store.close()


def test_a_writer_that_stands_still_stops_only_its_own_stream(dsn, plan_for, person):
    """The others go on; who needs that stream waits, then is told; then all works again."""
    store = Store(Hasty(dsn, SystemRuntime()))
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    with held(dsn, "automation"):
        store.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
        store.enqueue("k", "e", "t", "b")
        with pytest.raises(StoreError) as caught:
            store.append("automation", "note", {}, actor="a")
        told(caught, "locked for too long", "nothing of it was written")
        with pytest.raises(StoreError):
            store.end_run(lease, "run.succeeded", {}, actor="mary")
    store.append("automation", "note", {}, actor="a")
    store.end_run(lease, "run.succeeded", {}, actor="mary")
    assert store.verify() == []
    store.close()


def test_a_lock_that_is_soon_free_is_waited_for(dsn):
    """Longer than one lock time-out, shorter than our patience: the write is done."""
    class Patient(PostgresDatabase):
        lock_timeout = 0.1

    store = Store(Patient(dsn, SystemRuntime()))
    letting_go = threading.Event()

    def hold() -> None:
        with held(dsn, None):
            letting_go.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    letting_go.wait(10)
    store.append("automation", "note", {}, actor="a")
    thread.join()
    store.close()


def test_writers_of_every_kind_never_wait_for_each_other_in_a_circle(dsn, plan_for, person):
    """Runs, ledger, observations, outbox and facts at once from several machines: no deadlock."""
    class Strict(PostgresDatabase):
        patience = 0.0  # a deadlock would be an error at once, not a second try

    errors: list[BaseException] = []

    def work(index: int) -> None:
        store = Store(Strict(dsn, SystemRuntime()))
        rows = [LedgerRow("r1-a", "s", f"u{n}", "apps", "hq", "acme", ItemState.CLAIMED, 1)
                for n in range(20)]
        try:
            for turn in range(12):
                run, lease = store.create_run(plan_for(f"queue:{index}"), actor=person("m"), ttl=30)
                store.append("automation", "note", {"n": turn}, actor="a", lease=lease)
                store.record_items(rows[:: (-1) ** index], lease=lease)
                store.append(f"run:{run}", "note", {}, actor="a", lease=lease)
                store.enqueue(f"k{turn}", "e", "t", "b")
                store.set_fact("f", turn, actor="a")
                store.end_run(lease, "run.succeeded", {}, actor="m")
        except BaseException as error:
            errors.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    store = open_store(dsn, SystemRuntime())
    assert len(store.run_ids()) == 60
    assert store.verify() == []
    store.close()


def test_a_process_that_ends_leaves_nothing_to_wait_for(dsn, python, plan_for):
    """kill -9 in the middle of a write: its locks are free at once, and its run can be resumed."""
    store = open_store(dsn, SystemRuntime())
    program = f"""
import os, signal
from ccfailover.store import open_store
from ccfailover.runtime import SystemRuntime
store = open_store({dsn!r}, SystemRuntime())
with store._db.transaction("hold") as tx:
    tx.execute("INSERT INTO fact (name, value) VALUES ('half', '1')")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([*python, "-c", program], timeout=60).returncode == -9
    store.create_run(plan_for("queue:a"), actor=this_process("me"), ttl=30)
    assert store.fact("half") is None
    store.close()


def test_without_psycopg_it_is_said_what_to_install(python):
    """And a store in a file needs it not at all."""
    program = """
import sys
sys.modules["psycopg"] = None
from ccfailover.store import open_store
from ccfailover.runtime import SystemRuntime
from ccfailover.errors import StoreError
open_store(":memory:", SystemRuntime()).append("automation", "note", {}, actor="a")
try:
    open_store("postgresql://h/x", SystemRuntime())
except StoreError as error:
    print(error.hint)
"""
    done = subprocess.run([*python, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "pip install 'ccfailover[postgres]'\n"
