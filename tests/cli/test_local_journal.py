"""When the shared store is gone for good, or came back with less than it had."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfailover.operations import local
from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store
from ccfailover.wiring.assemble import assemble
from tests.cli.test_postgres import in_a_step, start
from tests.cli.test_terminal import at_terminal
from tests.servers.postgres import PASSWORD, Postgres


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    """One that a test may stop, and put an older copy of back."""
    mine = Postgres(postgres.programs)
    try:
        yield mine.start()
    finally:
        mine.discard()


@pytest.fixture
def shared(world, server: Postgres, tmp_path: Path):
    """The world's policy over a database; what this machine keeps of it is in `state`."""
    world.edit(str(world.store), "env:LOANS_DATABASE")
    world.environment["LOANS_DATABASE"] = server.new_database()
    world.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    return world


@pytest.fixture
def short_lease(shared) -> None:
    """Leases of the policy that are soon waited out."""
    shared.edit("location: this_machine}", "location: this_machine, lease: 5s}")


def acted(world, *words: str, local_journal: bool = False, reason: str = "INC-1",
          **environment: str):
    """Plan, then do it. On a busy machine a look may come too late, and what a plan rests on is
    unknown, or another when it is used: then it is planned anew."""
    option = ["--local-journal"] if local_journal else []
    end = time.monotonic() + 120
    while True:
        made = world.say("plan", *words, *option, "--json", **environment)
        if made.code == 0 and "unknown" not in made.json["plan"]["basis"]["states"].values():
            said = world.say(*words, *option, "--reason", reason, "--yes", "--plan",
                             made.json["hash"], **environment)
            if not (said.code == 4 and "no longer fits" in said.err):
                return said
        assert time.monotonic() < end, made
        time.sleep(0.5)


def finished(world, *, tries: int = 8) -> None:
    """Resume until the run has ended: on a busy machine a step's second may be over too soon."""
    for _ in range(tries):
        said = world.say("resume", "--yes")
        if said.code in (0, 11):
            return
        assert said.code == 6, said
    raise AssertionError(said)


def state(world, name: str) -> Path:
    (found,) = (Path(world.environment["XDG_STATE_HOME"]) / "ccfailover").glob(f"*.{name}")
    return found


def copied(server: Postgres) -> Path:
    """A copy of the data directory, as a backup takes it."""
    server.stop()
    copy = server.place / "copy"
    shutil.copytree(server._data, copy, copy_function=shutil.copy2)
    server.start()
    return copy


def put_back(server: Postgres, copy: Path) -> None:
    """What the server has written since the copy was taken is lost."""
    server.stop("immediate")
    shutil.rmtree(server._data)
    shutil.copytree(copy, server._data)
    subprocess.run(["chown", "-R", f"{server.place.owner()}:", str(server._data)], check=True)
    server._data.chmod(0o700)
    server.start()


# --- the store is gone for good


def test_the_wait_is_one_lease_time(world) -> None:
    """What a local journal waits out is what a lease lasts, as the policy says."""
    world.edit("location: this_machine}", "location: this_machine, lease: 45s}")
    desk = assemble(str(world.policy), environ=world.environment)
    assert local.wait_seconds(desk) == 45.0
    desk.store.close()


def test_a_run_whose_store_is_gone_is_finished_from_the_mirror(shared, server, tmp_path) -> None:
    """A real process in the middle of a failover, its server gone for good: the local journal
    ends the run, the switch shows it, both journals verify, and the import says all."""
    shared.fault("ack_only")  # the step waits for what it has set
    victim = in_a_step(shared, "failover", "hq")
    server.stop("immediate")
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    shared.fault("none")
    shared.move({"hq": 100})
    assert shared.say("status").code == 8

    looked = shared.ok("status", "--local-journal")
    assert "INTERRUPTED" in looked.out and "with --local-journal" in looked.out
    assert not list((tmp_path / "state" / "ccfailover").glob("*.local.db")), "only looked"

    process = start(shared, "resume", "--local-journal", "--yes")
    out, err = process.communicate(timeout=150)
    if process.returncode == 6:  # a step's second was over too soon: go on, without the wait
        again, _ = start(shared, "resume", "--local-journal", "--yes").communicate(timeout=90)
        out += again
    assert "succeeded" in out, out + err
    assert "LOCAL JOURNAL" in err and "Waiting 30 s" in err
    assert "hq" not in shared.shares()
    assert shared.ok("journal", "verify", "--local-journal").code == 0
    report = shared.ok("report", "--local-journal").out
    assert PASSWORD not in out + err + report

    server.start()
    assert "runs import" in shared.ok("status").err
    assert "runs import" in shared.say("check").out
    refused = shared.say("resume", "--local-journal", "--yes")
    assert refused.code == 4 and "answers" in refused.err
    said = shared.ok("runs", "import")
    assert "events" in said.out and "succeeded" in said.out
    assert shared.ok("journal", "verify").code == 0
    assert "nothing to import" in shared.ok("runs", "import").out
    status = shared.ok("status", "--json").json
    if status["runs"]:
        # Killed after the server had an event and before the mirror had it: the run went on from
        # the mirror under a name of its own, and the one on the server waits for a word.
        (left,) = status["runs"]
        assert left["state"] == "interrupted"
        shared.say("abort", left["run"], "--reason", "ended from the mirror", "--yes")
        status = shared.ok("status", "--json").json
    calls = next(q for q in status["queues"] if q["queue"] == "loan_calls")
    assert "hq" not in calls["expected"] and status["runs"] == [] and status["notes"] == []
    assert acted(shared, "failback", "hq").code == 0
    assert shared.shares() == {"hq": 100}


@pytest.mark.usefixtures("short_lease")
def test_work_items_wait_for_the_shared_store(shared, server) -> None:
    """A new failover from a local journal moves routes, and says in plan, journal and report that
    applications wait; the same failover moves them once the store is back."""
    shared.edit("branch: [{redirect_intake: {deadline: 1}}, {shift_route: {deadline: 1}}]",
                "branch: [{redirect_intake: {deadline: 1}}, {shift_route: {deadline: 1}}, "
                "{transfer: {}}]")
    shared.ok("status")  # this machine has seen the store
    server.stop()
    plan = shared.ok("plan", "failover", "hq", "--local-journal")
    assert "left out: move waiting applications from hq" in plan.out
    told = shared.say("failover", "hq", "--reason", "x", "--local-journal")
    assert told.code == 2 and "--yes --plan" in told.err, "nobody said that they hold the baton"
    did = acted(shared, "failover", "hq", local_journal=True)
    assert did.code == 11, did
    assert "work items wait for the shared store" in did.out
    assert "hq" not in shared.shares() and "hq" not in shared.shares("applications")
    shown = shared.ok("runs", "list", "--local-journal", "--json").json[0]
    assert shown["state"] == "succeeded_with_exceptions"
    moved = next(step for step in shown["steps"] if step["kind"] == "transfer")
    assert moved["status"] == "skipped" and "wait for the shared store" in moved["reason"]
    assert "wait for the shared store" in shared.ok("report", "--local-journal").out
    server.start()
    assert shared.ok("runs", "import").code == 0
    assert "wait for the shared store" in shared.ok("report", shown["run"]).out
    later = acted(shared, "failover", "hq", reason="the applications")
    assert later.code == 0 and "transfer-hq-acme" in later.out, later


def test_whoever_does_not_hold_the_baton_moves_nothing(shared, server) -> None:
    """At a terminal two questions: whether the plan is right, and whether nobody else acts."""
    shared.ok("status")
    server.stop()
    code, screen = at_terminal(
        shared, ["failover", "hq", "--reason", "x", "--local-journal"], b"y\nn\n")
    assert code == 4 and "Do you hold the baton?" in screen and "nothing was moved" in screen
    assert shared.shares() == {"hq": 100}


@pytest.mark.usefixtures("short_lease")
def test_what_both_sides_moved_is_told(shared, server) -> None:
    """Machine A acts from its local journal while machine B still has the server: the import
    brings A's run in under its own id, tells what both moved, and takes the later for the
    baseline; an id that is taken twice is no obstacle."""
    shared.ok("status")
    gone = "postgresql://ccf@127.0.0.1:1/x"
    shared.ok("plan", "failover", "hq", "--local-journal", LOANS_DATABASE=gone)  # parts here
    assert acted(shared, "failover", "hq", XDG_STATE_HOME=str(shared.policy.parent / "b")).code == 0
    assert acted(shared, "failback", "hq", XDG_STATE_HOME=str(shared.policy.parent / "b")).code == 0
    acted(shared, "failover", "hq", local_journal=True, LOANS_DATABASE=gone)
    assert "hq" not in shared.shares()
    said = shared.ok("runs", "import", "--json").json
    (came,) = said["imported"][0]["runs"]
    assert came["run"].startswith("r1-") and came["how"] == "new"
    told = " ".join(said["imported"][0]["overlaps"])
    assert "loan_calls" in told and "neither knowing of the other" in told
    runs = {run["run"]: run for run in shared.ok("runs", "list", "--json").json}
    assert len(runs) == 3 and came["run"] in runs
    assert shared.ok("journal", "verify").code == 0
    calls = next(q for q in shared.ok("status", "--json").json["queues"]
                 if q["queue"] == "loan_calls")
    assert "hq" not in calls["expected"] and came["run"] in calls["moved_by"]
    exported = shared.ok("journal", "export").out
    file = shared.policy.parent / "all.jsonl"
    file.write_text(exported)
    assert shared.ok("journal", "verify", str(file)).code == 0
    assert "nothing to import" in shared.ok("runs", "import", str(file)).out


@pytest.mark.usefixtures("short_lease")
def test_a_local_journal_that_was_changed_is_refused(shared, server) -> None:
    """One byte of one event: nothing of it is imported, and the store stays as it was."""
    shared.ok("status")
    server.stop()
    acted(shared, "failover", "hq", local_journal=True)
    server.start()
    with sqlite3.connect(state(shared, "local.db")) as raw:
        raw.execute("DROP TRIGGER journal_is_append_only_u")
        raw.execute("UPDATE journal SET text = replace(text, 'loan_calls', 'loan_cells') "
                    "WHERE stream LIKE 'run:%' AND seq = 1")
    raw.close()
    said = shared.say("runs", "import")
    assert said.code == 8 and "changed" in said.err
    assert shared.ok("runs", "list", "--json").json == []


def test_a_local_journal_is_for_a_shared_store_that_is_gone(shared, world, server) -> None:
    """Refused while the server answers, without a mirror, and where the store is a file."""
    answers = shared.say("failover", "hq", "--reason", "x", "--local-journal")
    assert answers.code == 4 and "answers" in answers.err and "Not done" in answers.err
    server.stop()
    never = shared.say("failover", "hq", "--reason", "x", "--local-journal",
                       XDG_STATE_HOME=str(shared.policy.parent / "elsewhere"))
    assert never.code == 8 and "mirror" in never.err and "Try:" in never.err
    file = shared.say("status", "--local-journal", "--json",
                      CCFAILOVER_STORE=str(shared.policy.parent / "file.db"))
    assert file.code in (2, 8), file


# --- the server came back with less than it had


def test_a_lost_tail_is_refused_and_brought_back(shared, server) -> None:
    """An older copy of the data directory is put back: every verb says which events are missing
    and since when, `check` is UNKNOWN, nothing acts; the import brings them back whole."""
    assert acted(shared, "failover", "hq").code == 0
    copy = copied(server)
    assert acted(shared, "failback", "hq").code == 0
    before = shared.ok("runs", "list", "--json").json
    (Path(shared.policy).parent / "had.jsonl").write_text(shared.ok("journal", "export").out)
    put_back(server, copy)
    for words, code in ((["status"], 8), (["check"], 3), (["failover", "hq", "--reason", "x"], 8),
                        (["runs", "list"], 8)):
        said = shared.say(*words)
        assert said.code == code, said
        assert "lost events" in said.out + said.err and "runs import" in said.err
        assert re.search(r"runs: \d events, the first of 20\d\d-", said.out + said.err)
    verified = shared.say("journal", "verify")
    assert verified.code == 8 and "has lost what this machine saw there: runs: " in verified.out
    said = shared.ok("runs", "import")
    assert "events" in said.out
    assert shared.ok("journal", "verify").code == 0
    after = shared.ok("runs", "list", "--json").json
    assert [(run["run"], run["state"]) for run in after] == [
        (run["run"], run["state"]) for run in before]
    calls = next(q for q in shared.ok("status", "--json").json["queues"]
                 if q["queue"] == "loan_calls")
    assert calls["expected"] == {"hq": 100}
    assert "nothing to import" in shared.ok("runs", "import").out
    assert acted(shared, "failover", "hq").code == 0, "work goes on"


def test_a_new_server_gets_the_whole_journal_back(shared, server) -> None:
    """The database is gone with its disk, and an empty one is in its place: refused as another
    store; the import fills it from this machine's mirror, every run under its own id."""
    assert acted(shared, "failover", "hq").code == 0
    assert acted(shared, "failback", "hq").code == 0
    before = shared.ok("runs", "list", "--json").json
    shared.environment["LOANS_DATABASE"] = server.new_database()
    said = shared.say("status")
    assert said.code == 8 and "not the store that this machine worked with" in said.err
    assert [run["how"] for run in
            shared.ok("runs", "import", "--json").json["imported"][0]["runs"]] == ["new", "new"]
    assert [run["run"] for run in shared.ok("runs", "list", "--json").json] == [
        run["run"] for run in before]
    assert shared.ok("journal", "verify").code == 0
    assert acted(shared, "failover", "hq").code == 0, "work goes on"


def test_a_run_that_lost_its_last_events_gets_them_back_and_goes_on(shared, server) -> None:
    """Killed in its step; the server has only the run's beginning: after the import, resume ends
    it, with a fence above every one that was seen."""
    shared.fault("ack_only")
    victim = in_a_step(shared, "failover", "hq")
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    copy = copied(server)
    again = start(shared, "resume", "--yes")
    again.communicate(timeout=90)  # the liar: the run pauses
    fence = _fence(shared)
    put_back(server, copy)
    shared.fault("none")
    assert shared.say("resume", "--yes").code == 8
    said = shared.ok("runs", "import", "--json").json
    assert [run["how"] for run in said["imported"][0]["runs"]] == ["extended"]
    finished(shared)
    assert _fence(shared) > fence
    assert "hq" not in shared.shares()
    assert shared.ok("journal", "verify").code == 0


def _fence(world) -> int:
    store = open_store(world.environment["LOANS_DATABASE"], SystemRuntime())
    try:
        return int(store._db.query("SELECT max(fence) FROM run")[0][0])
    finally:
        store.close()


# --- the mirror cannot be kept


@pytest.mark.parametrize("place", ["/proc/none/m.db", "full"])
def test_a_mirror_that_cannot_be_written_stops_nothing(shared, place, tmp_path) -> None:
    """A folder that cannot be made, a full disk: the run ends as it should, and it is said."""
    mounted = None
    if place == "full":
        mounted = tmp_path / "full"
        mounted.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(mounted)],
                          capture_output=True).returncode:
            pytest.skip("a file system of our own cannot be mounted here")
        place = str(mounted / "m.db")
        with pytest.raises(OSError, match="No space"):
            (mounted / "rest").write_bytes(bytes(100_000))
    try:
        said = acted(shared, "failover", "hq", CCFAILOVER_MIRROR=place)
        assert said.code == 0, said
        assert "mirror" in said.err and "Warning" in said.err
        assert "mirror" in shared.say("check", CCFAILOVER_MIRROR=place).out
        found = shared.say("doctor", "--json", CCFAILOVER_MIRROR=place).json["findings"]
        assert [each["level"] for each in found if each["check"] == "mirror"] == ["bad"]
        assert "hq" not in shared.shares()
    finally:
        if mounted is not None:
            subprocess.run(["umount", str(mounted)], check=True)


def test_doctor_knows_the_mirror(shared) -> None:
    """There and fresh, or switched off: both are said; the file is for its owner alone."""
    shared.ok("status")
    for value, level in ((None, "ok"), ("off", "advice")):
        more = {"CCFAILOVER_MIRROR": value} if value else {}
        found = shared.say("doctor", "--json", **more).json["findings"]
        assert [each["level"] for each in found if each["check"] == "mirror"] == [level]
    assert state(shared, "mirror.db").stat().st_mode & 0o077 == 0
    assert json.loads(json.dumps(found))
