"""Approvals between two terminals: two processes, two people."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from ccfailover.store.chain import digest
from tests.cli.conftest import World
from tests.cli.test_terminal import PROGRAM, environment

pytestmark = pytest.mark.server("roto-server")

PEOPLE = "people: {commander: [Mary, dana], operations: [joe, dana]}\n"


def ask_for(world: World, approval: str, *, people: str = "") -> None:
    """Let a failover need this approval, and the policy name these people."""
    world.edit("  full_failover:\n    before: [{confirm: {}}]",
               f"  full_failover:\n    before: [{{confirm: {{}}}}, {{approve: {approval}}}]")
    if people:
        world.policy.write_text(world.policy.read_text() + people)


def begin(world: World, actor: str = "dana") -> subprocess.Popen[str]:
    """A failover in a terminal of its own, which waits for its approval."""
    plan = world.ok("plan", "failover", "hq", "--json").json["hash"]
    process = subprocess.Popen(
        [*PROGRAM, "failover", "hq", "--reason", "INC-1", "--yes", "--plan", plan],
        env={**environment(world), "CCFAILOVER_ACTOR": actor}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + 20
    while "approve" not in world.say("runs", "show", "--json").out or not waiting(world):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    return process


def waiting(world: World) -> bool:
    (run,) = world.ok("runs", "list", "--json").json
    return any(step["kind"] == "approve" and step["status"] == "started" for step in run["steps"])


def second(world: World, *words: str, actor: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=40,
                          env={**environment(world), "CCFAILOVER_ACTOR": actor})


def test_the_second_person_lets_the_run_go_on(world: World) -> None:
    """The first terminal waits and moves nothing; the second one's yes, and nobody else's, lets
    it go on; who said it, for what, and until when stands in the journal and in a message."""
    ask_for(world, "{within: 30, role: commander}", people=PEOPLE)
    process = begin(world)
    assert world.shares() == {"hq": 100}
    assert "approve" in world.ok("status").out.splitlines()[-1]
    for actor, why in (("dana", "cannot approve it"), ("DANA", "cannot approve it"),
                       ("joe", "has not the role commander"), ("eve", "who may: mary")):
        refused = second(world, "approve", actor=actor)
        assert refused.returncode == 4 and why in refused.stderr, refused.stderr
        assert "Not done:" in refused.stderr
    assert world.shares() == {"hq": 100} and process.poll() is None
    said = second(world, "approve", actor="mary")
    assert said.returncode == 0, said.stderr
    assert "acme is healthy; if it gets worse, the approval is void" in said.stdout
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert "hq" not in world.shares()
    with sqlite3.connect(world.store) as store:
        ((body,),) = store.execute("SELECT body FROM outbox WHERE event = 'run.approval_wanted'")
    assert "who may: mary\n" in body and "NEXT: ccfailover approve r1" in body
    (given,) = (line for line in world.ok("outbox", "--list", "--json").json["waiting"]
                if line["event"] == "run.approval_given")
    assert "mary@" in str(given)
    report = " ".join(world.ok("report").out.split())
    assert "Approval given mary@" in report and "as commander, under policy" in report
    assert "with acme healthy, until 20" in report


@pytest.mark.parametrize("variable", ["SUDO_USER", "USER"])
def test_sudo_makes_nobody_another_person(world: World, variable: str) -> None:
    """Whoever asked as dana is dana under sudo, too."""
    ask_for(world, "{within: 0.2}")
    assert world.act("failover", "hq").code == 6
    said = world.say("approve", **{"USER": "root", variable: "Dana"})
    assert said.code == 4 and "dana asked for run" in said.err


def test_a_no_stops_the_run_and_needs_a_reason(world: World) -> None:
    """Exit 6 in the first terminal, which says who declined and why; nothing was moved."""
    ask_for(world, "{within: 30, people: 1}")
    process = begin(world)
    empty = second(world, "approve", "--decline", " ", actor="mary")
    assert empty.returncode == 2 and "a no needs a reason" in empty.stderr
    said = second(world, "approve", "--decline", "the carrier works on it", actor="mary")
    assert said.returncode == 0 and "declined by mary" in said.stdout
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 6
    assert "declined by mary: the carrier works on it" in out
    assert world.shares() == {"hq": 100}
    events = [line["event"] for line in world.ok("outbox", "--list", "--json").json["waiting"]]
    assert "run.approval_declined" in events


def test_two_people_are_two(world: World) -> None:
    """The same person twice, from two hosts' worth of spellings, is one of two."""
    ask_for(world, "{within: 30, people: 2}")
    process = begin(world)
    assert second(world, "approve", actor="mary").returncode == 0
    assert second(world, "approve", actor="MARY").returncode == 0
    time.sleep(1.5)
    assert process.poll() is None and world.shares() == {"hq": 100}
    assert second(world, "approve", actor="joe").returncode == 0
    process.communicate(timeout=30)
    assert process.returncode == 0 and "hq" not in world.shares()


@pytest.mark.parametrize(("ending", "code", "state"), [
    ("refuse", 4, "aborted"), ("escalate", 6, "paused"),
    ("proceed", 11, "succeeded_with_exceptions")])
def test_silence_does_what_the_runbook_says(world: World, ending: str, code: int,
                                            state: str) -> None:
    """Refuse ends the run, escalate pauses it and tells people, proceed goes on as an exception
    that the report shows."""
    ask_for(world, f"{{within: 0.2, on_timeout: {ending}}}")
    said = world.act("failover", "hq")
    (run,) = world.ok("runs", "list", "--json").json
    assert (said.code, run["state"]) == (code, state)
    assert ("hq" not in world.shares()) is (ending == "proceed")
    events = [line["event"] for line in world.ok("outbox", "--list", "--json").json["waiting"]]
    assert "run.approval_wanted" in events
    assert ("run.paused" in events) is (ending == "escalate")
    if ending == "proceed":
        assert "approve failed and was passed over" in world.ok("report").out


def test_an_old_approval_does_not_count_on_a_late_resume(world: World) -> None:
    """Given while the run stood still, and expired when it is taken up again."""
    ask_for(world, "{within: 0.3, valid: 1}")
    assert world.act("failover", "hq").code == 6
    world.ok("approve", CCFAILOVER_ACTOR="mary")
    time.sleep(1.1)
    said = world.say("resume", "--yes")
    assert said.code == 6 and world.shares() == {"hq": 100}
    assert "the approval by mary is void: it was given at" in said.out and "expired" in said.out
    assert "NEXT: ccfailover approve" in said.out
    world.ok("approve", CCFAILOVER_ACTOR="mary")
    assert world.say("resume", "--yes").code == 0 and "hq" not in world.shares()


def test_a_used_approval_that_ran_out_is_asked_for_again(world: World) -> None:
    """The run had its approval, stopped on the way, and is resumed after it expired."""
    ask_for(world, "{within: 2, valid: 3}")
    world.fault("error500")
    process = begin(world)
    world.ok("approve", CCFAILOVER_ACTOR="mary")
    process.communicate(timeout=30)
    assert process.returncode == 6
    world.fault("none")
    time.sleep(3)
    said = world.say("resume", "--yes")
    assert said.code == 6 and "expired" in said.out and world.shares() == {"hq": 100}
    world.ok("approve", CCFAILOVER_ACTOR="mary")
    assert world.say("resume", "--yes").code == 0 and "hq" not in world.shares()


def test_a_receiver_that_dies_voids_the_approval_and_home_does_not(world: World) -> None:
    """Home may die in the meantime; acme may not."""
    ask_for(world, "{within: 2, valid: 60}")
    assert world.act("failover", "hq").code == 6
    world.ok("approve", CCFAILOVER_ACTOR="mary")
    world.centre.kill("acme")
    try:
        said = world.say("resume", "--yes")
        assert said.code == 6 and "acme was healthy when it was given, and is down" in said.out
    finally:
        world.centre.restart("acme")
    world.centre.kill("hq")
    assert world.say("resume", "--yes").code == 0 and "hq" not in world.shares()


def test_another_policy_voids_it_and_refuses_a_new_one(world: World) -> None:
    """Approved under one file, resumed under another: no."""
    ask_for(world, "{within: 0.3}")
    assert world.act("failover", "hq").code == 6
    world.ok("approve", CCFAILOVER_ACTOR="mary")
    world.edit("priority: 2", "priority: 3")
    said = world.say("resume", "--yes")
    assert said.code == 6 and "it was given under policy" in said.out
    again = world.say("approve", CCFAILOVER_ACTOR="joe")
    assert again.code == 4 and "the policy has changed since run" in again.err
    assert world.shares() == {"hq": 100}


def test_an_approval_that_nobody_can_give_is_no_policy(world: World) -> None:
    """A role that is not there, or has too few people: found by `validate`, at its place."""
    ask_for(world, "{role: comander}", people=PEOPLE)
    said = world.say("validate")
    assert said.code == 3 and "did you mean" in said.err and "comander" in said.err
    world.edit("{role: comander}", "{role: commander, people: 3}")
    said = world.say("validate")
    assert said.code == 3 and "3 people are to approve, and role commander has 2" in said.err


def test_a_store_changed_after_an_approval_shows_against_its_message(
        world: World, tmp_path: Path) -> None:
    """Somebody with the file in hand makes the approval his own and every hash fit: intact by
    itself, and not with the head that went out with the message."""
    ask_for(world, "{within: 0.3}")
    assert world.act("failover", "hq").code == 6
    told = world.ok("approve", CCFAILOVER_ACTOR="mary").out
    (head,) = re.findall(r"journal head (\d+:[0-9a-f]{64})", told)
    with sqlite3.connect(world.store) as store:
        ((body,),) = store.execute("SELECT body FROM outbox WHERE event = 'run.approval_given'")
    assert f"journal head {head}" in body and "head of all runs" in body
    assert world.ok("journal", "verify", "--head", head).out.endswith(
        "intact, with 1 head known from elsewhere\n")
    with sqlite3.connect(world.store) as store:
        store.execute("DROP TRIGGER journal_is_append_only_u")
        (stream, seq, text), = store.execute(
            "SELECT stream, seq, text FROM journal WHERE text LIKE '%\"kind\":\"approval.given\"%'")
        forged = text.replace('"actor":"mary@', '"actor":"joe@')
        assert forged != text
        store.execute("UPDATE journal SET text = ?, hash = ? WHERE stream = ? AND seq = ?",
                      (forged, digest(forged), stream, seq))
    store.close()
    assert "intact" in world.ok("journal", "verify").out
    said = world.say("journal", "verify", "--head", head)
    assert said.code == 8 and "does not occur" in said.out
    export = tmp_path / "journal.jsonl"
    export.write_text(world.ok("journal", "export").out)
    assert world.ok("journal", "verify", str(export)).code == 0
    assert world.say("journal", "verify", str(export), "--head", head).code == 8
