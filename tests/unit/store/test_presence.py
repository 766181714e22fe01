"""Who is there: a lock on a real server that ends with whoever holds it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store
from ccfailover.store.presence import LONGEST, Presence
from tests.servers.postgres import Postgres

pytestmark = pytest.mark.server("postgres")

STAY = """\
import sys
from ccfailover.runtime import SystemRuntime
from ccfailover.store.presence import Presence
presence = Presence(sys.argv[1], SystemRuntime())
print(presence.take("abc db2:1"), flush=True)
sys.stdin.read()
"""


def test_a_name_is_one_processes_until_it_dies(postgres: Postgres) -> None:
    """Seen by all who work with the store; given back by kill -9 as by a farewell."""
    location = postgres.new_database()
    store, here = open_store(location, SystemRuntime()), Presence(location, SystemRuntime())
    there = subprocess.Popen([sys.executable, "-c", STAY, location], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert there.stdout is not None and there.stdout.readline() == "True\n"
        assert not here.take("abc db2:1")
        assert here.take("abc db1:1") and here.confirmed()
        assert store.at_work() == ["abc db1:1", "abc db2:1"]
    finally:
        there.kill()
        there.communicate()
    while "abc db2:1" in store.at_work():
        continue  # the kernel tells the server, and that takes no time to speak of
    other = Presence(location, SystemRuntime())
    assert other.take("abc db2:1")
    other.leave()
    here.leave()
    assert not here.confirmed()
    store.close()


def test_one_that_the_server_has_forgotten_knows_it(postgres: Postgres) -> None:
    """Its session was ended: it is not there any more, and says so."""
    location = postgres.new_database()
    here = Presence(location, SystemRuntime())
    assert here.take("abc db1:1")
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                 "WHERE application_name = 'ccf-worker abc db1:1'")
    assert not here.confirmed() and not here.confirmed()
    assert here.take("abc db1:1")
    here.leave()


def test_another_role_of_the_database_sees_who_is_there(postgres: Postgres) -> None:
    """Without any right on our tables or on statistics."""
    import psycopg

    from ccfailover.store.presence import HELD

    location = postgres.new_database()
    here = Presence(location, SystemRuntime())
    assert here.take("abc db1:1")
    postgres.sql("CREATE ROLE onlooker LOGIN PASSWORD 'x'")
    with psycopg.connect(location, user="onlooker", password="x") as link:
        assert link.execute(HELD.encode()).fetchall() == [("abc db1:1",)]
    here.leave()


@pytest.mark.parametrize("name", ["", "a\nb", "ä", "x" * (LONGEST + 1)])
def test_a_name_that_the_server_would_change_is_none(postgres: Postgres, name: str) -> None:
    """Others would not recognise it."""
    with pytest.raises(ValueError, match="not a name"):
        Presence(postgres.dsn("postgres"), SystemRuntime()).take(name)
