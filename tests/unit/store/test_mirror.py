"""What a machine keeps of a shared store: that it is all of it, that nothing lost goes unseen."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfailover.errors import StoreError
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, incidents, local, open_store
from ccfailover.store.mirror import AGAIN, Mirror
from ccfailover.store.mirrored import LostTail, MirroredDatabase
from ccfailover.store.sqlite import SqliteDatabase
from ccfailover.store.verify import verify_export


class Machines:
    """Machines that share one database. It is a file here: what a server adds to it is for
    `test_postgres` and the tests of the command line."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.file = place / "shared.db"
        self.opened: list[Store] = []

    def open(self, name: str, **more: bool) -> Store:
        runtime = SystemRuntime()
        store = Store(MirroredDatabase(
            SqliteDatabase(str(self.file), runtime),
            Mirror(str(self.place / f"{name}.mirror.db"), runtime), **more))
        self.opened.append(store)
        return store

    def copy(self) -> dict[str, bytes]:
        """The database as it is now."""
        with sqlite3.connect(self.file) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.close()
        return {"shared.db": self.file.read_bytes()}

    def put_back(self, copy: dict[str, bytes]) -> None:
        """Lose everything that was written since."""
        self.close()
        for file in self.place.glob("shared.db*"):
            file.unlink()
        for name, text in copy.items():
            (self.place / name).write_bytes(text)

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()


@pytest.fixture
def machines(tmp_path: Path):
    made = Machines(tmp_path)
    yield made
    made.close()


def same(store: Store) -> bool:
    """Whether the mirror has each event of the store, verbatim."""
    mirror = store.mirror
    assert mirror is not None and mirror.trouble is None
    return {stream: store.head(stream) for stream in store.streams()} == mirror.heads() and all(
        list(mirror.events(stream)) == list(store._pages(stream, store.head(stream)[0]))
        for stream in store.streams())


def test_every_event_is_kept_verbatim(machines, plan_for, person) -> None:
    """Appends, runs that start, end and are superseded, facts: stream, number, text and hash; in
    a file for its owner alone."""
    store = machines.open("a")
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    store.append(f"run:{run}", "step.started", {"note": "grün"}, actor="mary", lease=lease)
    store.set_fact("adopted", {"calls": 1}, actor="mary")
    store.create_run(plan_for("queue:a"), actor=person("joe"), ttl=30, supersedes=(run,))
    _other, lease = store.create_run(plan_for("queue:b"), actor=person("joe"), ttl=30)
    store.end_run(lease, "run.succeeded", {}, actor="joe")
    assert same(store)
    assert os.stat(store.mirror.path).st_mode & 0o077 == 0
    assert store.mirror.fence == store._db.query("SELECT max(fence) FROM run")[0][0] == 3


def test_what_others_wrote_is_kept_as_well(machines, plan_for, person) -> None:
    """At the next opening; and at once, where they wrote between two events of ours."""
    a, b = machines.open("a"), machines.open("b")
    run, lease = a.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    a.append("automation", "one", {}, actor="a")
    b.append("automation", "two", {}, actor="b")
    a.append("automation", "three", {}, actor="a")
    b.append(f"run:{run}", "stop.requested", {"reason": "x"}, actor="b")
    a.append(f"run:{run}", "step.started", {}, actor="a", lease=lease)
    assert same(a)
    b.end_run(lease, "run.succeeded", {}, actor="b")
    again = machines.open("a")
    assert same(again)
    assert set(again.mirror.growing()) == {"runs", "automation"}, "an ended run cannot grow"


def test_a_machine_that_comes_late_gets_everything(machines, plan_for, person) -> None:
    """Sixty runs and thousands of events, none of them its own."""
    a = machines.open("a")
    for number in range(60):
        _run, lease = a.create_run(plan_for(f"queue:q{number}"), actor=person("mary"), ttl=30)
        if number % 3:
            a.end_run(lease, "run.succeeded", {}, actor="mary")
    for number in range(2500):
        a.append("automation", "note", {"n": number}, actor="a")
    assert same(machines.open("late"))


def test_two_processes_share_one_mirror(machines, plan_for, person) -> None:
    """Both write, each in several threads: nothing is missed, and neither takes the other's
    events for lost ones."""
    stores = [machines.open("a"), machines.open("a")]
    failures: list[BaseException] = []

    def write(store: Store) -> None:
        try:
            for n in range(40):
                store.append("automation", "note", {"n": n}, actor="a")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert same(machines.open("a"))


def test_a_lost_tail_is_found_when_the_store_is_opened(machines, plan_for, person) -> None:
    """Which streams, how many events, since when, and what to do; nothing was read."""
    a = machines.open("a")
    run, lease = a.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    copy = machines.copy()
    a.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
    a.append(f"run:{run}", "step.succeeded", {}, actor="mary", lease=lease)
    a.append("automation", "ack", {}, actor="mary")
    machines.put_back(copy)
    with pytest.raises(LostTail) as caught:
        machines.open("a")
    text = "\n".join(caught.value.lines())
    assert f"run:{run}: 2 events, the first of 20" in text and "automation: 1 events" in text
    assert "runs:" not in text
    assert "runs import" in text and "Not done" in text
    machines.open("b")  # which never saw them, cannot know
    machines.open("a", verified=False)


def test_a_lost_tail_that_others_wrote_over_is_found(machines, plan_for, person) -> None:
    """The server has as many events as before, but others."""
    a = machines.open("a")
    a.append("automation", "one", {}, actor="a")
    copy = machines.copy()
    a.append("automation", "two", {}, actor="a")
    machines.put_back(copy)
    machines.open("b").append("automation", "another", {}, actor="b")
    machines.open("b").append("automation", "and one more", {}, actor="b")
    with pytest.raises(LostTail, match="automation: 1 events"):
        machines.open("a")


def test_an_empty_store_in_its_place_is_another_store(machines) -> None:
    """A database that was made anew, or another one: said in these words."""
    machines.open("a").append("automation", "one", {}, actor="a")
    machines.put_back({})
    with pytest.raises(LostTail, match="not the store that this machine worked with"):
        machines.open("a")


def test_a_writer_finds_the_loss_itself(machines, plan_for, person) -> None:
    """The server loses events under an open store: the next event is refused, and none of it is
    written, whether the stream is shorter now or somebody wrote over it."""
    a = machines.open("a")
    run, lease = a.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    a.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
    a.append("automation", "one", {}, actor="a")
    with sqlite3.connect(machines.file) as raw:
        raw.execute("DROP TRIGGER journal_is_append_only_d")
        raw.execute("DELETE FROM journal WHERE stream LIKE 'run:%' AND seq = 2")
        raw.execute("DELETE FROM journal WHERE stream = 'automation'")
    raw.close()
    with pytest.raises(LostTail, match=f"run:{run}"):
        a.append(f"run:{run}", "step.succeeded", {}, actor="mary", lease=lease)
    assert a.head(f"run:{run}")[0] == 1
    with pytest.raises(LostTail, match="automation"):
        a.append("automation", "two", {}, actor="a")
    assert a.head("automation")[0] == 0


def test_a_new_connection_is_compared_before_it_writes(machines, plan_for, person) -> None:
    """After a reconnect even a write that journals nothing (a lease renewed, before a step acts)
    is refused when the server is another one."""
    a = machines.open("a")
    run, lease = a.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    a.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
    with sqlite3.connect(machines.file) as raw:
        raw.execute("DROP TRIGGER journal_is_append_only_d")
        raw.execute("DELETE FROM journal WHERE stream LIKE 'run:%' AND seq = 2")
    raw.close()
    a.check_fence(lease, 1.0)
    a._db._inner.connected += 1  # what a PostgreSQL connection made anew does
    with pytest.raises(LostTail):
        a.check_fence(lease, 1.0)


def test_no_fence_is_given_twice(machines, plan_for, person) -> None:
    """The server forgot a holder that left no event: the next one's fence is higher all the
    same."""
    a = machines.open("a")
    run, lease = a.create_run(plan_for("queue:a"), actor=person("mary"), ttl=0)
    copy = machines.copy()
    again, _ = a.acquire(run, actor=person("mary"), ttl=0)
    assert again.fence == lease.fence + 1
    machines.put_back(copy)
    third, _ = machines.open("a").acquire(run, actor=person("joe"), ttl=30)
    assert third.fence == again.fence + 1


@pytest.mark.parametrize("spoil", ["text", "folder", "other", "readonly"])
def test_a_mirror_that_cannot_be_used_stops_nothing(machines, tmp_path, spoil) -> None:
    """Nonsense in its place, a folder, another program's database: said, and passed over."""
    place = tmp_path / "a.mirror.db"
    if spoil == "text":
        place.write_bytes(b"nonsense " * 1000)
    elif spoil == "folder":
        place.mkdir()
    elif spoil == "other":
        with sqlite3.connect(place) as raw:
            raw.execute("CREATE TABLE theirs (x)")
        raw.close()
    else:
        machines.open("a").append("automation", "one", {}, actor="a")
        machines.close()
        with sqlite3.connect(place) as raw:  # as a file system that was mounted read-only
            raw.execute("CREATE TRIGGER t BEFORE INSERT ON event "
                        "BEGIN SELECT RAISE(ABORT, 'read-only'); END")
        raw.close()
    store = machines.open("a")
    store.append("automation", "two", {}, actor="a")
    assert store.head("automation")[0] in (1, 2)
    assert store.mirror.trouble
    assert spoil == "readonly" or not store.mirror.usable
    if spoil == "other":
        with sqlite3.connect(place) as raw:
            assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
        raw.close()


def test_a_mirror_that_can_be_written_again_is_filled(tmp_path, clock, plan_for, person) -> None:
    """Whatever came meanwhile is fetched; it is not tried at every event."""
    path = tmp_path / "m.db"
    mirror = Mirror(str(path), clock)
    store = Store(MirroredDatabase(SqliteDatabase(str(tmp_path / "s.db"), clock), mirror))
    store.append("automation", "one", {}, actor="a")
    mirror._connection.execute("CREATE TRIGGER t BEFORE INSERT ON event "
                               "BEGIN SELECT RAISE(ABORT, 'full'); END")
    store.append("automation", "two", {}, actor="a")
    assert mirror.trouble
    mirror._connection.execute("DROP TRIGGER t")
    store.append("automation", "three", {}, actor="a")
    assert mirror.head("automation")[0] == 1, "not tried again yet"
    clock.pass_time(AGAIN)
    store.append("automation", "four", {}, actor="a")
    assert mirror.trouble is None
    assert same(store)
    store.close()


# --- a local journal


@pytest.fixture
def stranded(machines, plan_for, person) -> Callable[[], Store]:
    """A machine that has lost the shared store in the middle of a run; `()` begins its local
    journal."""
    a = machines.open("a")
    _ended, lease = a.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    a.end_run(lease, "run.succeeded", {}, actor="mary")
    run, lease = a.create_run(plan_for("queue:a", "lever:x"), actor=person("mary"), ttl=30)
    a.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
    a.set_fact("adopted", {"calls": {"at": 1}}, actor="mary")
    a.acquire(run, actor=person("mary"), ttl=30)
    incidents.write(a, "INC-1", incidents.DECLARED, {}, actor="mary", expected=0)
    base = str(machines.place / "a.local")

    def begin() -> Store:
        path = local.current(base) or local.vacant(base)
        made = local.begin(Mirror(str(machines.place / "a.mirror.db"), SystemRuntime()), path,
                           SystemRuntime(), actor=person("mary"))
        machines.opened.append(made)
        return made

    return begin


def test_a_local_journal_goes_on_where_the_mirror_ends(stranded, person) -> None:
    """Runs, scopes, facts and every event; it verifies, and no fence that was seen is given
    again."""
    store = stranded()
    _one, two = store.run_ids()
    assert store.open_run_ids() == [two]
    (lease,) = store.leases()
    assert lease.scopes == ("lever:x", "queue:a") and lease.holder == {}
    assert store.fact("adopted") == {"calls": {"at": 1}}
    assert incidents.names(store, only_open=True) == ["INC-1"]
    assert [record.kind for record in incidents.events(store, "INC-1")] == [incidents.DECLARED]
    taken, wait = store.acquire(two, actor=person("joe"), ttl=30)
    assert taken.fence == 4 and not wait
    store.append(f"run:{two}", "step.succeeded", {}, actor="joe", lease=taken)
    store.end_run(taken, "run.succeeded", {}, actor="joe")
    assert store.verify() == []
    assert verify_export(store.export()) == []
    forked = [record for record in store.read("automation") if record.kind == local.FORKED]
    assert forked[0].data["fence"] == 3


def test_a_local_journal_is_begun_once(stranded, machines) -> None:
    """The next verb goes on with the same; one that was imported is left alone, for another."""
    store = stranded()
    store.append("automation", "note", {}, actor="a")
    again = stranded()
    assert again.path == store.path and again.head("automation") == store.head("automation")
    again.append("automation", local.IMPORTED, {}, actor="a")
    other = stranded()
    assert other.path != store.path and other.path.endswith("a.local.2.db")


def test_a_beginning_that_was_killed_is_begun_again(stranded, machines) -> None:
    """A file with nothing in it is no journal yet."""
    open_store(str(machines.place / "a.local.db"), SystemRuntime()).close()
    assert len(stranded().run_ids()) == 2


def test_without_a_whole_mirror_there_is_no_local_journal(tmp_path, person) -> None:
    """A machine that never saw the store, or has no file: said, with the way out."""
    runtime = SystemRuntime()
    for mirror in (Mirror(str(tmp_path / "none.db"), runtime, create=False),
                   Mirror(str(tmp_path / "new.db"), runtime)):
        with pytest.raises(StoreError) as caught:
            local.begin(mirror, str(tmp_path / "l.db"), runtime, actor=person("mary"))
        assert caught.value.hint and caught.value.not_done
    assert not (tmp_path / "l.db").exists()
