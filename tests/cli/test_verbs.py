"""The verbs as people and cron say them: text, JSON, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ccfailover.commands import run
from tests.cli.conftest import World

pytestmark = pytest.mark.server("roto-server")


def test_a_policy_heads_what_is_said(world: World) -> None:
    """Name, environment and hash come first, whoever asks for what."""
    heading = world.ok("plan", "failover", "hq", "--json").json["policy"]
    assert heading.startswith("local_centre (demo) ")
    for words in (["status"], ["runs", "list"], ["providers", "test"], ["outbox"], ["ack"],
                  ["plan", "failover", "hq"], ["stop", "--all"], ["automation", "on"],
                  ["adopt", "loan_calls"], ["transfer", "status"], ["doctor"]):
        assert world.say(*words).out.splitlines()[0].startswith(heading), words


def test_validate_says_every_problem_with_its_place(world: World) -> None:
    """Exit 3, and one file:line:col for each."""
    assert world.ok("validate").out.rstrip().splitlines()[-1].count("valid") == 1
    world.edit("priority: 1", "priority: one")
    world.edit("hold: 500ms", "hold: 2")
    said = world.say("validate")
    assert said.code == 3
    found = [line for line in said.err.splitlines() if line.startswith(f"{world.policy}:")]
    assert len(found) == 2
    for words in (["status"], ["failover", "hq", "--reason", "x"], ["execute-due"]):
        refused = world.say(*words)
        assert refused.code == 3 and "Not done:" in refused.err, words
    told = world.say("validate", "--json")
    assert told.code == 3 and [p["severity"] for p in told.json["problems"]] == ["error"] * 2


def test_init_writes_a_policy_that_validates(world: World, tmp_path: Path) -> None:
    """A newcomer's first two commands work, and nothing is ever written over."""
    path = tmp_path / "mine.yaml"
    assert f"ccfailover validate {path}" in world.ok("init", str(path), "--name", "mine").out
    assert "mine (staging)" in world.ok("validate", str(path)).out
    again = world.say("init", str(path))
    assert again.code == 2 and "Not done: nothing was written" in again.err


def test_policy_schema_is_the_schema(world: World) -> None:
    """What editors get is JSON Schema 2020-12."""
    schema = json.loads(world.ok("policy", "schema").out)
    assert schema["$schema"].endswith("2020-12/schema") and "queues" in schema["properties"]
    assert world.ok("policy", "path").out.strip() == str(world.policy)


def test_the_policy_may_be_named_before_or_after_the_verb(world: World, tmp_path: Path) -> None:
    """The nearer one counts."""
    other = tmp_path / "other.yaml"
    world.ok("init", str(other), "--name", "other")
    assert world.ok("--policy", str(other), "policy", "path").out.strip() == str(other)
    said = world.ok("--policy", "/nowhere", "policy", "path", "--policy", str(other))
    assert said.out.strip() == str(other)


def test_without_a_terminal_a_move_needs_a_plan(world: World) -> None:
    """It is told what to say, moves nothing before, and moves when it is said."""
    said = world.say("failover", "hq", "--reason", "INC-1")
    assert said.code == 2 and "Not done: nothing was moved" in said.err
    words = said.err.partition("--yes --plan ")[2].split()
    assert words and world.shares() == {"hq": 100}
    assert world.say("failover", "hq", "--reason", "INC-1", "--yes").code == 2
    done = world.say("failover", "hq", "--reason", "INC-1", "--yes", "--plan", words[0])
    assert done.code == 0 and "NEXT: ccfailover failback hq" in done.out
    assert "hq" not in world.shares()


def test_a_move_needs_a_reason(world: World) -> None:
    """The journal never asks why afterwards."""
    said = world.say("failover", "hq")
    assert said.code == 2 and "reason" in said.err


def test_a_saved_plan_is_refused_when_what_it_rests_on_changed(
        world: World, tmp_path: Path) -> None:
    """Exit 4 with what changed: the policy, the shares; and 2 for a file that was edited."""
    path = tmp_path / "hq.plan"
    world.ok("plan", "failover", "hq", "--out", str(path))
    kept = json.loads(path.read_text())
    words = ["failover", "hq", "--reason", "x", "--yes", "--plan", str(path)]

    kept["plan"]["shares_after"]["loan_calls"] = {"acme": 100}
    edited = tmp_path / "edited.plan"
    edited.write_text(json.dumps(kept))
    said = world.say(*words[:-1], str(edited))
    assert said.code == 2 and "was changed after it was made" in said.err

    world.move({"hq": 60, "acme": 40})
    said = world.say(*words)
    assert said.code == 4 and "hq 60 % · acme 40 %" in said.err
    world.move({"hq": 100})

    world.edit("priority: 2", "priority: 3")
    said = world.say(*words)
    assert said.code == 4 and "the policy was" in said.err
    assert world.shares() == {"hq": 100} and world.ok("runs", "list", "--json").json == []


def test_a_runsheet_tells_a_person_what_to_do_by_hand(world: World) -> None:
    """Every lever with where it is, its aim, and how it was."""
    sheet = world.ok("plan", "failover", "hq", "--runsheet").out
    assert "[ ] 1." in sheet and world.centre.url("switch") in sheet and "UNDO" in sheet


def test_nothing_to_do_is_done(world: World) -> None:
    """A second failover of an empty site exits 0, says so, and makes no run."""
    assert world.act("failover", "hq").code == 0
    runs = world.ok("runs", "list", "--json").json
    said = world.ok("failover", "hq", "--reason", "again")
    assert "nothing to do" in said.out
    assert world.ok("failover", "hq", "--reason", "again", "--json").json["nothing_to_do"]
    assert world.ok("runs", "list", "--json").json == runs


def test_an_overflow_of_a_queue_that_home_can_serve_is_nothing_to_do(world: World) -> None:
    """Exit 0: the surplus is nought."""
    assert "nothing to do" in world.ok("overflow", "loan_calls", "--reason", "peak").out
    assert world.ok("runs", "list", "--json").json == []


def test_a_missing_secret_is_named_where_it_matters(world: World) -> None:
    """`providers test` says which reference leads nowhere, and nothing of a policy's line 0."""
    world.edit(f"file:{world.centre.token_file}", "env:NO_SUCH_SECRET")
    said = world.say("providers", "test")
    assert said.code == 9 and "NO_SUCH_SECRET" in said.out and ":0:0" not in said.out


def test_a_queue_that_cannot_move_is_not_nothing_to_do(world: World) -> None:
    """Exit 4: the work is still at the dead site, and the only backup is closed."""
    world.edit("    kind: outsourced\n", '    kind: outsourced\n    hours: "Feb 29 00:00-00:01"\n')
    said = world.say("failover", "hq", "--queue", "applications", "--reason", "x")
    assert said.code == 4 and "nothing to do" not in said.out


def test_a_drill_writes_nothing_and_says_that_it_is_one(world: World) -> None:
    """The switch counts no write; output, journal and list are stamped DRILL."""
    before = [world.centre.get("switch", f"/routes/{name}") for name in
              ("loan_calls", "applications")]
    said = world.ok("drill", "failover", "hq")
    assert said.out.startswith("DRILL") and "rehearsed" in said.err
    assert before == [world.centre.get("switch", f"/routes/{name}") for name in
                      ("loan_calls", "applications")]
    assert "DRILL full_failover hq" in world.ok("runs", "list").out
    assert world.ok("runs", "show", "r1").out.startswith("DRILL")
    assert "DRILL" in world.ok("report", "r1").out
    assert world.ok("status", "--json").json["queues"][0]["moved_by"] is None


def test_runs_are_listed_shown_and_noted(world: World) -> None:
    """The newest first, step by step."""
    world.act("failover", "hq", reason="power")
    world.act("failback", "hq", reason="power is back")
    listed = world.ok("runs", "list", "--json").json
    assert [(run["runbook"], run["state"]) for run in listed] == [
        ("failback", "succeeded"), ("full_failover", "succeeded")]
    shown = world.ok("runs", "show", "r1").out
    assert "SUCCEEDED" in shown and "loan_calls/2-shift_route" in shown
    assert world.say("note", "r1", "too late").code == 2, "an ended run's journal is closed"
    assert world.shares() == {"hq": 100}


def test_check_warns_of_a_switch_moved_by_hand_until_it_is_adopted(world: World) -> None:
    """Somebody else's move is drift; `adopt` makes it the baseline."""
    world.move({"hq": 70, "acme": 30})
    warned = world.say("check")
    assert warned.code == 1
    assert "hq 70 % · acme 30 %" in warned.out and "adopt loan_calls" in warned.out
    status = world.ok("status").out
    assert "DRIFT" in status and "NEXT: ccfailover reassert loan_calls" in status
    world.ok("adopt", "loan_calls", "--reason", "carrier did it")
    world.check_until(lambda said: said.code == 0)
    assert "DRIFT" not in world.ok("status").out


def test_a_reading_from_before_a_move_is_no_drift(world: World) -> None:
    """Right after a failover nobody is told to adopt what the last check saw."""
    world.check_until(lambda said: said.code == 0)
    assert world.act("failover", "hq").code == 0
    facts = world.ok("status", "--json").json
    assert [queue["drift"] for queue in facts["queues"]] == [None, None]
    assert "adopt" not in facts["next"]
    assert "adopt" not in world.say("check").out


def test_an_ack_and_the_automation_switch_are_told(world: World) -> None:
    """`status` shows that automation is off; a bad duration changes nothing."""
    world.ok("ack", "--reason", "for good")
    assert world.say("automation", "off", "--for", "soon").code == 2
    assert "OFF" not in world.ok("status").out
    world.ok("automation", "off", "--for", "90m", "--reason", "maintenance")
    assert "automation is OFF, by dana" in world.ok("status").out
    world.ok("automation", "on")
    assert "OFF" not in world.ok("status").out


def test_a_failed_step_pauses_and_a_skip_makes_an_exception(world: World) -> None:
    """6, then a skip with a reason, then 11; the skip shows in the report."""
    world.fault("ack_only")
    paused = world.act("failover", "hq")
    assert paused.code == 6 and "NEXT: ccfailover resume" in paused.out
    assert "hq" not in world.shares("applications"), "the other branch goes on"
    assert world.say("check").code == 2, "a paused run is critical"
    asked = world.ok("stop", "--all", "--reason", "wait")
    assert "r1-" in asked.out
    assert world.say("failback", "hq", "--reason", "x", "--yes", "--plan",
                     world.say("plan", "failback", "hq", "--json").json["hash"]).code == 5
    assert world.say("skip", "--reason", "").code == 2
    assert world.say("skip", "--step", "nope", "--reason", "x").code == 2
    for _ in range(2):  # two increments, each stopped by the same liar
        world.ok("skip", "--reason", "set by the carrier, by phone")
        ended = world.say("resume", "--yes")
        if ended.code == 11:
            break
    assert ended.code == 11 and "skipped" in ended.out
    assert "by phone" in world.ok("report", "r1").out


def test_a_paused_run_is_resumed_once_the_switch_obeys(world: World) -> None:
    """Resume looks before it repeats, and ends as if nothing had been."""
    world.fault("error500")
    assert world.act("failover", "hq").code == 6
    world.ok("note", "r1", "carrier ticket 4711")
    assert "carrier ticket 4711" in world.ok("journal", "log", "r1").out
    assert world.say("note", "r1", " ").code == 2
    world.fault("none")
    assert world.say("resume").code == 2, "without a terminal it wants --yes"
    assert world.say("resume", "--yes").code == 0
    assert "hq" not in world.shares()


def test_a_rollback_puts_everything_back(world: World) -> None:
    """Exit 7, and the shares as they were."""
    world.fault("error500")
    assert world.act("failover", "hq").code == 6
    world.fault("none")
    said = world.say("rollback", "--yes", "--reason", "wrong site")
    assert said.code == 7 and world.shares("applications") == {"hq": 100}


def test_an_abort_leaves_things_as_they_are(world: World) -> None:
    """Exit 4; the scope is free again, and nothing was undone."""
    world.fault("error500")
    assert world.act("failover", "hq").code == 6
    world.fault("none")
    assert world.say("abort", "--yes", "--reason", "by hand").code == 0
    assert world.shares() == {"hq": 100} and "hq" not in world.shares("applications")
    assert world.say("abort", "--yes").code == 2
    assert world.act("failover", "hq").code == 0


def test_nobody_approves_their_own_request(world: World) -> None:
    """The run waits; the requester's own yes is refused, another person's counts."""
    world.edit("  full_failover:\n    before: [{confirm: {}}]",
               "  full_failover:\n    before: [{confirm: {}}, {approve: {within: 1}}]")
    assert world.act("failover", "hq").code == 6
    own = world.say("approve")
    assert own.code == 4 and "cannot approve" in own.err
    assert "approved by miguel" in world.ok("approve", CCFAILOVER_ACTOR="miguel").out
    assert world.say("resume", "--yes").code == 0 and "hq" not in world.shares()
    world.act("failback", "hq")
    assert world.act("failover", "hq", "--override", "flap_block", "--override-reason",
                     "a test").code == 6
    said = world.ok("approve", "--decline", "not now", CCFAILOVER_ACTOR="miguel")
    assert "declined" in said.out
    assert world.say("resume", "--yes").code != 0 and world.shares() == {"hq": 100}


def test_an_approval_that_nobody_asked_for_is_refused(world: World) -> None:
    """A yes to a run that waits for none would look like one later."""
    world.fault("error500")
    world.act("failover", "hq")
    assert world.say("approve", CCFAILOVER_ACTOR="miguel").code == 2


def test_the_journal_is_exported_and_verified_anywhere(world: World, tmp_path: Path) -> None:
    """Without a policy, offline; one flipped byte is exit 8."""
    world.act("failover", "hq")
    text = world.ok("journal", "export").out
    assert "intact" in world.ok("journal", "verify").out
    path = tmp_path / "journal.jsonl"
    path.write_text(text)
    assert world.ok("journal", "verify", str(path), CCFAILOVER_POLICY="").code == 0
    path.write_text(text.replace("power", "peace").replace("INC-1", "INC-2", 1))
    said = world.say("journal", "verify", str(path), "--json")
    assert said.code == 8 and not said.json["intact"] and said.json["problems"]
    one = world.ok("journal", "export", "r1").out.splitlines()
    assert 0 < len(one) < len(text.splitlines())


def test_the_outbox_lists_and_delivers(world: World) -> None:
    """What runs put there reaches the inbox, once."""
    world.fault("error500")
    world.act("failover", "hq")
    listed = world.ok("outbox", "--list", "--json").json
    assert listed["sent"] == 0 and len(listed["waiting"]) == 1
    assert world.ok("outbox", "--json").json["sent"] == 1
    assert world.ok("outbox", "--json").json["waiting"] == []


def test_providers_are_listed_and_read(world: World) -> None:
    """A dead platform is exit 9, and the others are read all the same."""
    kinds = {row["kind"] for row in world.ok("providers", "list", "--json").json}
    assert {"http", "sqs"} <= kinds
    assert all(row["ok"] for row in world.ok("providers", "test", "--json").json)
    world.centre.kill("hq")
    said = world.say("providers", "test", "--json")
    assert said.code == 9
    assert {row["ok"] for row in said.json} == {True, False}


def test_check_speaks_nagios(world: World, tmp_path: Path) -> None:
    """OK and CRITICAL by what is so; UNKNOWN, 3, for every reason why nothing could be told."""
    fine = world.check_until(lambda said: said.code == 0)
    assert fine.out.startswith("CCFAILOVER OK") and " | " in fine.out
    # On a busy machine the very first probe may have been late: then the next look contradicts it.
    world.check_until(lambda said: said.out == "", "--quiet")
    world.centre.kill("hq")
    bad = world.check_until(lambda said: said.code == 2)
    assert bad.out.startswith("CCFAILOVER CRITICAL - hq down")
    assert 'site.hq.state == "down"' in world.say("check", "--explain").out

    for words in (["check", "--nonsense"], ["check", "--policy", "/nowhere"],
                  ["--policy", "/nowhere", "check"]):
        said = world.say(*words)
        assert said.code == 3 and said.out.startswith("UNKNOWN: "), words
    world.edit("version: 1", "version: none")
    said = world.say("check")
    assert said.code == 3 and said.out.startswith("UNKNOWN: ")


def test_check_without_a_store_is_unknown(world: World) -> None:
    """A store that cannot be opened is never taken for health."""
    world.store.write_bytes(b"this is no database, and never was one" * 200)
    said = world.say("check")
    assert said.code == 3 and said.out.startswith("UNKNOWN: ")
    assert world.say("status").code == 8


def test_execute_due_fails_over_by_itself_when_two_observers_agree(world: World) -> None:
    """`mode: automatic`: check decides, execute-due runs, nobody is asked."""
    world.edit("mode: approve", "mode: automatic")
    world.check_until(lambda said: said.code == 0)
    world.centre.kill("hq")
    world.check_until(lambda said: "will run" in said.out or "full_failover hq" in said.out)
    assert world.shares() == {"hq": 100}, "check itself moves nothing"
    said = world.ok("execute-due", "--json")
    (done,) = said.json["executed"]
    assert (done["trigger"], done["state"]) == ("hq_down", "succeeded")
    assert "hq" not in world.shares()
    assert world.ok("execute-due", "--json").json["executed"] == []


def test_execute_due_leaves_alone_what_a_person_must_decide(world: World) -> None:
    """`mode: approve`, and automation switched off: nothing runs by itself."""
    world.check_until(lambda said: said.code == 0)
    world.centre.kill("hq")
    world.check_until(lambda said: "awaits approval" in said.out)
    assert world.ok("execute-due", "--json").json["executed"] == []
    assert world.shares() == {"hq": 100}


@pytest.mark.parametrize("words", [
    ["failover", "nope", "--reason", "x"], ["failover", "hq", "--reason", "x", "--queue", "no"],
    ["failover", "hq", "--reason", "x", "--to", "no"], ["overflow", "no", "--reason", "x"],
    ["failover", "hq", "--reason", "x", "--override", "daily_cost"],
    ["failover", "hq", "--reason", "x", "--yes", "--plan", "0000"],
    ["failover", "hq", "--reason", "x", "--supersede", "r9"], ["plan", "no", "hq"],
    ["plan", "failover", "hq", "--out", "/nowhere/x"], ["plan", "failover", "hq", "--yes"],
    ["resume"], ["rollback"], ["abort"], ["skip"], ["approve"], ["stop"], ["runs", "show", "r9"],
    ["note", "r9", "x"], ["adopt", "no"], ["drill", "failover", "no"], ["report"],
    ["journal", "export", "r9"], ["journal", "verify", "/nowhere"], ["validate", "/nowhere"],
    ["init", "/nowhere/x.yaml"], ["init", "/tmp/x.yaml", "--name", "A b"],
    ["status", "--policy", "/nowhere"], ["transfer", "reconcile"],
])
def test_every_refusal_says_what_was_not_done_and_what_to_do(
        world: World, words: list[str]) -> None:
    """Exit 2, three lines, no traceback; as JSON the same facts."""
    said = world.say(*words)
    assert said.code == 2, said
    for start in ("Error: ", "Not done: ", "Try: "):
        assert any(line.startswith(start) for line in said.err.splitlines()), (start, said.err)


def test_misuse_is_json_for_those_who_asked_for_json(world: World) -> None:
    """Machines never have to read click's prose."""
    for words in (["status", "--nonsense"], ["failover"], ["nonsense"]):
        said = world.say(*words, "--json")
        assert said.code == 2 and said.json["exit_code"] == 2 and said.json["not_done"], words


def test_a_verb_with_a_typo_is_guessed(world: World) -> None:
    """At 3 a.m. fingers slip."""
    assert "did you mean 'failover'" in world.say("faliover", "hq").err


def test_narrow_and_plain_output_has_no_colour_codes(world: World) -> None:
    """Without a terminal there is never an escape sequence."""
    for words in (["status"], ["runs", "list"], ["plan", "failover", "hq"]):
        assert "\x1b" not in world.say(*words).out


def test_run_returns_and_never_raises(capsys: pytest.CaptureFixture[str]) -> None:
    """Help and version are exit 0."""
    assert run(["--help"]) == 0 and run(["--version"]) == 0
    assert "ccfailover" in capsys.readouterr().out
    assert os.environ.get("CCFAILOVER_POLICY") is None
