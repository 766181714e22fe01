"""kill -9 of real processes, torn logs, and many processes at once on one store."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import struct
import time
from contextlib import contextmanager

import pytest

from ccfailover.errors import LeaseHeld, StoreError
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, holder, migrations, open_store, this_process
from ccfailover.store.postgres import PostgresDatabase, PostgresTransaction
from ccfailover.store.sqlite import SqliteDatabase, SqliteTransaction

FORK = multiprocessing.get_context("fork")
"""Forked before any store is open, which is what SQLite allows; a fork is quicker to start."""


class Dying:
    """A transaction that kills its own process before the n-th statement of the process."""

    left = 10**9

    def _step(self) -> None:
        Dying.left -= 1
        if Dying.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, sql, params=None):
        self._step()
        return super().execute(sql, params)

    def change(self, sql, params=None):
        self._step()
        return super().change(sql, params)

    def many(self, sql, rows):
        self._step()
        return super().many(sql, rows)

    def insert(self, sql, rows):
        self._step()
        return super().insert(sql, rows)


class DyingInFile(Dying, SqliteTransaction):
    """In SQLite."""


class DyingOnServer(Dying, PostgresTransaction):
    """In PostgreSQL."""


class DyingDatabase:
    """A database whose process may be killed amid, or right after, any write."""

    after = 10**9

    @contextmanager
    def transaction(self, doing, on=None):
        with super().transaction(doing, on) as tx:
            yield self.dying(tx._connection, tx.now)
        self.after -= 1
        if self.after < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class DyingSqlite(DyingDatabase, SqliteDatabase):
    """A file."""

    dying = DyingInFile


class DyingPostgres(DyingDatabase, PostgresDatabase):
    """A server."""

    dying = DyingOnServer


def session(store: Store, plan_for, acknowledge) -> None:
    """A bit of everything that writes; `acknowledge` learns of each write that returned."""
    me = this_process("mary")
    run, lease = store.create_run(plan_for("queue:a", "lever:x"), actor=me, ttl=60)
    acknowledge(f"created {run}")
    for number in range(3):
        store.append(f"run:{run}", "step.started", {"n": number}, actor="mary", lease=lease)
        acknowledge("appended")
        store.record_items([
            LedgerRow(run, "s", f"u{number}-{i}", "apps", "hq", "acme", ItemState.CLAIMED, 1)
            for i in range(3)], lease=lease)
        acknowledge("recorded")
    store.set_fact("a", 1, actor="mary")
    acknowledge("fact")
    second, lease = store.create_run(plan_for("queue:a"), actor=me, ttl=60, supersedes=(run,))
    acknowledge(f"superseded {second}")
    store.end_run(lease, "run.succeeded", {}, actor="mary")
    acknowledge("ended")


def played(path: str, plan_for, *, statement: int = 10**9, write: int = 10**9) -> list[str]:
    """The session in a process that is killed there; what it had acknowledged."""
    reading, writing = os.pipe()

    def child() -> None:
        os.close(reading)
        kind = DyingPostgres if path.startswith("postgresql:") else DyingSqlite
        database = kind(path, SystemRuntime())
        Dying.left, database.after = statement, write
        session(Store(database), plan_for, lambda what: os.write(writing, f"{what}\n".encode()))
        os.write(writing, b"done\n")

    process = FORK.Process(target=child)
    process.start()
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read().splitlines()
    process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL)
    return told


def survives(path: str, plan_for, told: list[str]) -> None:
    """All that was acknowledged is there, nothing is half there, and work goes on."""
    store = open_store(path, SystemRuntime())
    assert store.verify() == []
    runs = store.run_ids()
    for line in told:
        run = line.partition(" ")[2]
        if run:
            assert run in runs, told
    if runs:
        events = [r for r in store.read(f"run:{runs[0]}") if r.kind == "step.started"]
        assert len(events) >= told.count("appended")
        items = list(store.items())
        assert len(items) % 3 == 0, "a batch of items is recorded whole or not at all"
        assert len(items) >= 3 * told.count("recorded")
        assert len(store.leases()) <= 1
        last_open = store.open_run_ids()
        if last_open:
            lease, wait = store.acquire(last_open[0], actor=this_process("joe"), ttl=60)
            assert wait is False, "the killed holder is provably gone"
            store.end_run(lease, "run.aborted", {}, actor="joe")
    if "fact" in told:
        assert store.fact("a") == 1
    assert (store.fact("a") == 1) == (store.head("automation")[0] == 1)
    run, lease = store.create_run(plan_for("queue:a"), actor=this_process("joe"), ttl=60)
    store.end_run(lease, "run.succeeded", {}, actor="joe")
    assert store.verify() == []
    store.close()


def test_killed_after_every_write_nothing_is_lost(new_location, plan_for):
    """One process per write: it dies right behind the commit, before anyone hears of it."""
    writes = 0
    while True:
        path = new_location()
        told = played(path, plan_for, write=writes)
        survives(path, plan_for, told)
        assert len(told) >= writes
        if told[-1:] == ["done"]:
            break
        writes += 1
    assert writes == 10


def test_killed_before_every_statement_no_write_is_half_there(new_location, plan_for):
    """One process per statement of every transaction: it dies in the midst of the write."""
    statements = 0
    while True:
        path = new_location()
        told = played(path, plan_for, statement=statements)
        survives(path, plan_for, told)
        if told[-1:] == ["done"]:
            break
        statements += 3 if path.startswith("postgresql:") else 1  # a server takes longer
    assert statements > 50


def dense_writer(path: str, writing: int) -> None:
    store = open_store(path, SystemRuntime())
    number = store.head("automation")[0]
    while True:
        number += 1
        store.append("automation", "note", {"number": number, "text": "x" * 3000}, actor="a")
        os.write(writing, struct.pack("<q", number))


def killed_writer(path: str, seconds: float) -> int:
    """A process that appends as fast as it can until it is killed; the last number it told."""
    reading, writing = os.pipe()
    process = FORK.Process(target=dense_writer, args=(path, writing))
    process.start()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        first = pipe.read(8)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        told = first + pipe.read()
    process.join(30)
    return max(struct.unpack(f"<{len(told) // 8}q", told))


def test_killed_at_random_moments_nothing_acknowledged_is_lost(new_location):
    """Thirty times on one store, wherever the write happens to be: log, index or checkpoint."""
    path, chance = new_location(), random.Random(20)
    for _ in range(30):
        told = killed_writer(path, chance.random() * 0.04)
        store = open_store(path, SystemRuntime())
        held = store.head("automation")[0]
        assert told <= held <= told + 1
        store.close()
    store = open_store(path, SystemRuntime())
    assert store.verify() == []
    assert [r.data["number"] for r in store.read("automation")] == list(range(1, held + 1))
    store.close()


def test_a_log_torn_anywhere_leaves_whole_events(tmp_path):
    """Power lost: the log ends in mid-page, or its last pages hold noise. What opens is whole."""
    path = str(tmp_path / "store.db")
    told = killed_writer(path, 0.03)
    size = os.path.getsize(path + "-wal")
    chance = random.Random(7)
    seen = set()
    for turn in range(40):
        torn = str(tmp_path / f"torn{turn}.db")
        shutil.copy(path, torn)
        cut = chance.randrange(size + 1)
        with open(path + "-wal", "rb") as log:
            kept = log.read(cut)
        with open(torn + "-wal", "wb") as log:
            log.write(kept + (b"\xa5" * (size - cut) if turn % 2 else b""))
        try:
            store = open_store(torn, SystemRuntime())
        except StoreError:
            pytest.fail("a torn log is no reason not to open")
        assert store.verify() == []
        numbers = [r.data["number"] for r in store.read("automation")]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) <= told + 1
        seen.add(len(numbers))
        store.append("automation", "note", {"number": 0}, actor="a")
        assert store.verify() == []
        store.close()
    assert len(seen) > 5


def together(count: int, work, *args) -> list:
    """`work(index, *args)` in so many processes, let go at one moment; their answers."""
    barrier, answers = FORK.Barrier(count), FORK.Queue()

    def child(index: int) -> None:
        barrier.wait(30)
        answer = work(index, *args)
        barrier.wait(60)  # nobody leaves before all have tried: a dead holder may be replaced
        answers.put(answer)

    processes = [FORK.Process(target=child, args=(index,)) for index in range(count)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    return found


def test_eight_processes_append_to_a_store_that_they_create_together(new_location):
    """The first opens race for the schema, then for every number: none lost, none twice."""
    path = new_location()

    def work(index: int) -> list[int]:
        store = open_store(path, SystemRuntime())
        numbers = [store.append("automation", "note", {"by": index}, actor="a").seq
                   for _ in range(40)]
        store.close()
        return numbers

    found = together(8, work)
    assert sorted(number for numbers in found for number in numbers) == list(range(1, 321))
    assert all(numbers == sorted(numbers) for numbers in found)
    store = open_store(path, SystemRuntime())
    assert store.verify() == []
    store.close()


@pytest.mark.parametrize("gap", range(4))
def test_a_store_that_somebody_creates_between_two_looks_at_it(tmp_path, gap):
    """Whichever of the questions after "is this a store?" the creation falls between."""
    path = str(tmp_path / "store.db")
    database = SqliteDatabase(path, SystemRuntime())
    database.close()
    empty = str(tmp_path / "empty.db")
    open(empty, "wb").close()

    class Slow(sqlite3.Connection):
        asked = 0

        def execute(self, sql, *args):
            if Slow.asked == gap:
                open_store(empty, SystemRuntime()).close()
            Slow.asked += 1
            return super().execute(sql, *args)

    slow = sqlite3.connect(empty, factory=Slow, isolation_level=None)
    assert SqliteDatabase._version(database, slow) in (0, migrations.LATEST)
    slow.close()
    open_store(empty, SystemRuntime()).close()


def test_of_twelve_processes_that_want_the_same_scopes_one_wins(new_location, plan_for):
    """Eleven hear who holds it and what to do; this five times over."""
    path = new_location()

    def work(index: int) -> tuple[str, str]:
        store = open_store(path, SystemRuntime())
        scopes = ["queue:calls", f"queue:{index}"]
        try:
            run, _ = store.create_run(plan_for(*scopes), actor=this_process(f"p{index}"), ttl=60)
            return run, ""
        except LeaseHeld as error:
            return "", "\n".join(error.lines())
        finally:
            store.close()

    for turn in range(1, 6):
        found = together(12, work)
        (winner,) = [run for run, _ in found if run]
        assert winner.startswith(f"r{turn}-")
        store = open_store(path, SystemRuntime())
        (lease,) = store.leases()
        for text in (text for run, text in found if not run):
            for needed in (winner, holder.describe(lease.holder), " since 20", "queue:calls",
                           f"resume {winner}", f"rollback {winner}", f"--supersede {winner}"):
                assert needed in text
        assert lease.fence == 2 * turn - 1, "one for each holder so far, and none skipped"
        taken, wait = store.acquire(winner, actor=this_process("me"), ttl=60)
        assert (taken.fence, wait) == (2 * turn, False)
        store.end_run(taken, "run.succeeded", {}, actor="me")
        assert store.verify() == []
        store.close()


def test_of_many_resumers_of_a_lapsed_run_one_acts(new_location, plan_for, person):
    """Eight processes take an interrupted run up at once: one lease is in force in the end."""
    path = new_location()
    store = open_store(path, SystemRuntime())
    run, _ = store.create_run(plan_for("queue:a"), actor=person("gone"), ttl=0)
    store.close()

    def work(index: int) -> tuple[bool, int]:
        mine = open_store(path, SystemRuntime())
        try:
            lease, wait = mine.acquire(run, actor=this_process(f"p{index}"), ttl=60)
            return wait, lease.fence
        except LeaseHeld:
            return False, 0
        finally:
            mine.close()

    found = together(8, work)
    assert [answer for answer in found if answer[1]] == [(True, 2)]
