"""A lever that a person moves: asked in one terminal, answered in another, and what stays of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ccfailover.commands import run
from tests.cli.conftest import Said
from tests.cli.test_terminal import PROGRAM

POLICY = """\
version: 1
name: tollfree
timezone: America/Chicago
store: {place}/store.db
people: {{telecom: [joe, dana]}}
sites:
  hq:
    kind: in_house
    probes: [{{kind: command, argv: [/bin/true], every: 1s}}]
    staff: {{loan_calls: {{agents: 40, handle_time: 300s}}}}
  acme:
    kind: outsourced
    hours: "24/7"
    probes: [{{kind: command, argv: [/bin/true], every: 1s}}]
    staff: {{loan_calls: {{agents: 60, handle_time: 330s}}}}
providers:
  resporg:
    kind: manual
    role: telecom
    within: {within}
    remind: {remind}
    instruction: |
      Call RespOrg ABC01 and have {{ref}} set to {{shares}}.
      It was {{before}}.
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 1
    home_down: message
    normal: {{hq: 100}}
    objectives: {{rto: 4h, mtd: 8h}}
    route:
      provider: resporg
      ref: 800-555-0199
      destinations: {{hq: CIC 0288, acme: CIC 0222, message: closed}}
      begins: {{hq: 100}}
runbooks:
  full_failover:
    before: [{{confirm: {{}}}}]
    branch: [{{shift_route: {{deadline: 1, soak: 0}}}}]
    after: []
notify: [{{url: "env:OPS"}}]
"""
LEVER = "resporg:800-555-0199"
EVIDENCE = "ticket 4711, test call at 14:05"


@dataclass
class Room:
    """A policy of one lever, moved by people, and a store of its own."""

    place: Path

    def write(self, *, within: str = "2m", remind: str = "1h") -> None:
        (self.place / "policy.yaml").write_text(POLICY.format(
            place=self.place, within=within, remind=remind))

    @property
    def environment(self) -> dict[str, str]:
        return {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "CCFAILOVER_POLICY": str(self.place / "policy.yaml"), "USER": "dana",
                "XDG_STATE_HOME": str(self.place), "OPS": "json://127.0.0.1:9/"}

    def say(self, *words: str, actor: str = "dana") -> Said:
        out, err = io.StringIO(), io.StringIO()
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self.environment, CCFAILOVER_ACTOR=actor)
        try:
            with (contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
                  open(os.devnull) as sys.stdin):
                code = run(list(words))
        finally:
            sys.stdin = sys.__stdin__  # type: ignore[assignment]
            os.environ.clear()
            os.environ.update(before)
        assert code != 1 or words[0] == "check", out.getvalue() + err.getvalue()
        return Said(code, out.getvalue(), err.getvalue())

    def ok(self, *words: str, actor: str = "dana") -> Said:
        said = self.say(*words, actor=actor)
        assert said.code == 0, said
        return said

    def begin(self) -> subprocess.Popen[str]:
        """A failover in a terminal of its own."""
        plan = self.ok("plan", "failover", "hq", "--json").json["hash"]
        process = subprocess.Popen(
            [*PROGRAM, "failover", "hq", "--reason", "INC-1", "--yes", "--plan", plan],
            env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.until(lambda: bool(self.tasks()) or process.poll() is not None)
        return process

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ok("status", "--json").json["by_hand"]
        return found

    def reads(self) -> str:
        (row,) = self.ok("providers", "test", "--json").json
        return str(row["detail"])

    def told(self) -> list[dict[str, Any]]:
        return [message for message in self.ok("outbox", "--list", "--json").json["waiting"]
                if message["event"].startswith("by_hand.")]

    def journal(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.ok("journal", "export").out.splitlines()]
        return [line["record"] for line in lines if "record" in line
                and line["record"]["kind"].startswith("by_hand.")]

    @staticmethod
    def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.1)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    made = Room(tmp_path)
    made.write()
    made.ok("validate")
    made.say("check")
    return made


def test_a_person_is_asked_and_answers_from_another_terminal(room: Room) -> None:
    """The run waits; whoever has the role answers with evidence, and it goes on. Who, when and
    how they know is in the journal and in the messages."""
    process = room.begin()
    (task,) = room.tasks()
    assert task["instruction"] == ("Call RespOrg ABC01 and have 800-555-0199 set to "
                                   "CIC 0222 (acme) 100 %.\nIt was CIC 0288 (hq) 100 %.")
    assert (task["role"], task["expired"], room.reads()) == ("telecom", False, "hq 100 %")
    shown = room.ok("status").out
    assert f"BY HAND {LEVER} (task {task['task']}): to be set to acme 100 %" in shown
    assert "    Call RespOrg ABC01 and have 800-555-0199" in shown
    assert shown.splitlines()[-1] == (
        f'NEXT: ccfailover done {LEVER} --task {task["task"]} --evidence "…"')
    for words, code, why in (
            (("done", "--evidence", " "), 2, "nothing counts as done without evidence"),
            (("done", "mars", "--evidence", "x"), 2, "no lever that a person moves"),
            (("done", "--evidence", "x", "--shares", "hq=60"), 2, "sum to 60"),
            (("done", "--evidence", "x", "--shares", "mars=100"), 2, "no destination mars"),
            (("done", "--evidence", "x", "--shares", "hq"), 2, "as in hq=60"),
            (("done", "--no", " "), 2, "a no needs a reason"),
            (("done", "--no", "x", "--by", "Ann"), 2, "no other answer")):
        refused = room.say(*words)
        assert refused.code == code and why in refused.err, refused
    stranger = room.say("done", "--evidence", EVIDENCE, actor="eve")
    assert stranger.code == 4 and "who may: dana, joe" in stranger.err
    assert process.poll() is None and room.reads() == "hq 100 %"
    said = room.ok("done", LEVER, "--evidence", EVIDENCE, "--by", "Ann of ABC01", actor="joe")
    assert f"{LEVER} stands at acme 100 %, done by Ann of ABC01" in said.out
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert room.reads() == "acme 100 %" and room.tasks() == []
    asked, done = room.journal()
    assert asked["data"]["to"] == {"acme": 100} and asked["actor"].startswith("dana@")
    assert asked["data"]["key"].startswith("r1-") and asked["data"]["role"] == "telecom"
    assert done["data"]["evidence"] == EVIDENCE and done["data"]["by"] == "Ann of ABC01"
    assert done["actor"].startswith("joe@") and not done["data"]["late"]
    assert [message["event"] for message in room.told()] == ["by_hand.asked", "by_hand.answered"]
    assert room.ok("journal", "verify").code == 0
    report = " ".join(room.ok("report").out.split())
    assert f"reads acme 100 %, as Ann of ABC01 says: {EVIDENCE}" in report


def test_a_no_stops_the_run_at_once(room: Room) -> None:
    """Exit 6 with the reason, and nobody waits for the rest of the hours; resume asks anew."""
    process = room.begin()
    said = room.ok("done", "--no", "no record of this number", actor="joe")
    assert "turned down by joe" in said.out
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 6
    assert "turned down by joe: no record of this number" in out
    assert room.tasks() == [] and room.reads() == "hq 100 %"
    assert "resume" in room.ok("status").out.splitlines()[-1]
    again = subprocess.Popen([*PROGRAM, "resume", "--yes"], env=room.environment, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    room.until(lambda: bool(room.tasks()))
    room.ok("done", "loan_calls", "--evidence", EVIDENCE)
    assert "succeeded" in again.communicate(timeout=30)[0] and again.returncode == 0
    assert len([m for m in room.told() if m["event"] == "by_hand.asked"]) == 2


def test_an_answer_survives_the_process_that_asked(room: Room) -> None:
    """Killed while it waits: the answer is taken all the same, and resume finds it done."""
    process = room.begin()
    process.kill()
    process.communicate(timeout=10)
    room.ok("done", "--evidence", EVIDENCE)
    said = room.say("resume", "--yes", "--steal", "--reason", "it was killed")
    assert said.code == 0, said
    assert room.reads() == "acme 100 %"
    assert len([record for record in room.journal() if record["kind"] == "by_hand.asked"]) == 1


def test_a_rollback_of_an_open_task_asks_for_the_old_shares(room: Room) -> None:
    """Somebody may have begun: that it stands as before has to be said by a person, too."""
    process = room.begin()
    (first,) = room.tasks()
    process.kill()
    process.communicate(timeout=10)
    back = subprocess.Popen(
        [*PROGRAM, "rollback", "--yes", "--steal", "--reason", "false alarm"],
        env=room.environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    room.until(lambda: any(task["to"] == {"hq": 100} for task in room.tasks()))
    assert back.poll() is None
    late = room.say("done", "--task", str(first["task"]), "--evidence", EVIDENCE)
    assert late.code == 4 and "waits no longer; now task" in late.err
    assert "asks for hq 100 %" in late.err
    (task,) = room.tasks()
    room.ok("done", "--task", str(task["task"]), "--evidence", "they had not begun")
    out, _ = back.communicate(timeout=30)
    assert back.returncode == 7, out
    assert room.reads() == "hq 100 %" and room.tasks() == []


def test_an_expired_task_pauses_the_run_and_can_be_answered_late(room: Room) -> None:
    """The step's deadline is the task's; reminders come with `check` until then."""
    room.write(within="3s", remind="1s")
    room.say("check")
    process = room.begin()
    room.until(lambda: room.say("check") and
               any(m["event"] == "by_hand.reminder" for m in room.told()))
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 6, out
    assert "is to be set to acme 100 %" in out
    (task,) = room.tasks()
    assert task["expired"] and "EXPIRED" in room.ok("status").out
    last = room.ok("status").out.splitlines()[-1]
    assert last.startswith(f"NEXT: ccfailover done {LEVER}") and "then: ccfailover resume" in last
    room.ok("done", "--evidence", EVIDENCE)
    assert room.journal()[-1]["data"]["late"] is True
    assert room.say("resume", "--yes").code == 0


def test_how_it_stands_can_be_said_without_being_asked(room: Room) -> None:
    """Somebody changed it on their own: it reads so, and is seen as drift."""
    nothing = room.say("done", "--evidence", EVIDENCE)
    assert nothing.code == 2 and "nothing was asked of anybody" in nothing.err
    nothing = room.say("done", LEVER, "--evidence", EVIDENCE)
    assert nothing.code == 2 and f"nothing was asked for {LEVER}" in nothing.err
    other = room.say("done", LEVER, "--shares", "acme=100", "--evidence", EVIDENCE, actor="bob")
    assert other.code != 0 and "bob has not the role telecom" in other.err
    assert room.reads() == "hq 100 %"
    said = room.ok("done", LEVER, "--shares", "hq=60,acme=40", "--evidence", EVIDENCE, "--json")
    assert said.json["shares"] == {"acme": 40, "hq": 60}
    assert room.reads() == "hq 60 % · acme 40 %"
    room.until(lambda: "≠ DRIFT" in room.ok("status", "--probe").out)
