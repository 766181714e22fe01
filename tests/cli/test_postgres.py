"""The same commands over a store in PostgreSQL, which several machines share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store
from ccfailover.store.migrations import LATEST
from tests.servers.postgres import PASSWORD, Postgres

PROGRAM = [sys.executable, "-m", "ccfailover"]


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    """One that a test may stop."""
    mine = Postgres(postgres.programs)
    try:
        yield mine.start()
    finally:
        mine.discard()


@pytest.fixture
def shared(world, server: Postgres):
    """The world's policy, with its store in a database that it names by a secret's reference."""
    world.edit(str(world.store), "env:LOANS_DATABASE")
    world.environment["LOANS_DATABASE"] = server.new_database()
    return world


def start(world, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **world.environment}
    return subprocess.Popen([*PROGRAM, *words], env=environment, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def in_a_step(world, *words: str) -> subprocess.Popen[str]:
    """A process that carries a run, and has begun its first step.

    What a plan rests on may change before it is used, on a busy machine: then another is made.
    """
    refusals = []
    for _ in range(3):
        plan = world.ok("plan", *words, "--json").json["hash"]
        process = start(world, *words, "--reason", "INC-1", "--yes", "--plan", plan)
        if begun(world, process, "step.started"):
            return process
        refusals.append(process.communicate())
    raise AssertionError(refusals)


def begun(world, process: subprocess.Popen[str], kind: str) -> bool:
    """Whether the run that `process` carries comes to such an event before it ends."""
    store = open_store(world.environment["LOANS_DATABASE"], SystemRuntime())
    try:
        while process.poll() is None:
            if any(record.kind == kind for run in store.run_ids()
                   for record in store.read(f"run:{run}")):
                return True
            time.sleep(0.02)
        return False
    finally:
        store.close()


def test_a_failover_and_back_over_a_shared_store(shared) -> None:
    """The address comes from a secret and its password is nowhere; the journal verifies."""
    said = shared.act("failover", "hq")
    assert said.code == 0, said.err
    assert "hq" not in shared.shares()
    assert shared.act("failback", "hq").code == 0
    assert shared.shares() == {"hq": 100}
    everything = [shared.ok(*words) for words in (
        ["status"], ["runs", "list"], ["report", "r1"], ["journal", "verify"],
        ["journal", "export"], ["db", "upgrade"], ["validate"])]
    everything += [said, shared.say("doctor"), shared.say("check")]
    for one in everything:
        assert PASSWORD not in one.out + one.err
    assert "nothing to do" in everything[5].out


def test_a_run_killed_on_one_machine_is_finished_on_another(shared) -> None:
    """kill -9 in the first step; another process takes the run up and ends it."""
    shared.fault("ack_only")
    victim = in_a_step(shared, "failover", "hq")
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    shared.fault("none")
    assert "resume" in shared.say("status").out
    assert shared.say("resume", "--yes").code == 0
    assert "hq" not in shared.shares()
    assert shared.ok("journal", "verify").code == 0


def test_a_database_that_is_away_for_a_while_delays_a_run(shared, server: Postgres) -> None:
    """Stopped in the middle of a step and started again: the run ends as if nothing had been."""
    shared.fault("ack_only")  # the step waits for what it has set
    run = in_a_step(shared, "failover", "hq")
    server.stop("immediate")
    shared.fault("none")
    time.sleep(3)
    server.start()
    out, err = run.communicate(timeout=60)
    assert run.returncode in (0, 6), out + err
    if run.returncode == 6:  # the liar was believed to be broken before it obeyed
        assert shared.say("resume", "--yes").code == 0
    assert "hq" not in shared.shares()
    assert shared.ok("journal", "verify").code == 0


def test_without_the_database_every_verb_says_so(shared, server: Postgres) -> None:
    """What, where, what was not done and what to do; `check` is UNKNOWN; no password."""
    server.stop()
    for words, code in ((["status"], 8), (["failover", "hq", "--reason", "x", "--yes", "--plan",
                                          "0" * 12], 8), (["check"], 3), (["db", "upgrade"], 8)):
        said = shared.say(*words)
        assert said.code == code, said
        assert "does not answer" in said.out + said.err
        assert "Not done" in said.err and "Try:" in said.err
        assert PASSWORD not in said.out + said.err
    assert shared.shares() == {"hq": 100}


def test_db_upgrade_says_from_and_to(world, postgres: Postgres) -> None:
    """For a file and for a database: from nothing to this version's schema, then nothing to do."""
    for location in (str(world.store), postgres.new_database()):
        first = world.ok("db", "upgrade", "--json", CCFAILOVER_STORE=location).json
        assert (first["from"], first["to"]) == (0, LATEST)
        assert PASSWORD not in first["store"]
        again = world.ok("db", "upgrade", CCFAILOVER_STORE=location).out
        assert f"schema {LATEST}, as this version needs it; nothing to do" in again


def test_a_password_in_the_policy_is_refused(world) -> None:
    """`validate` says where to keep it instead, and does not repeat it."""
    world.edit(str(world.store), "postgresql://ccf:hunter2@127.0.0.1/loans")
    said = world.say("validate")
    assert said.code == 3
    assert "holds a password" in said.err and "env:NAME" in said.err
    assert "hunter2" not in said.out + said.err
