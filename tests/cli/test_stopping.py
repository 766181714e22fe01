"""Stopping a run that is under way: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ccfailover.model.shares import Shares
from tests.cli.conftest import World
from tests.cli.test_terminal import PROGRAM, environment
from tests.cli.test_until import OVERFLOW

pytestmark = pytest.mark.server("roto-server")


def begin(world: World, *words: str, plan: bool = True) -> subprocess.Popen[str]:
    """A verb as a process of its own, under way."""
    extra: list[str] = []
    if plan:
        made = world.ok("plan", *words, "--json").json["hash"]
        extra = ["--reason", "INC-1", "--yes", "--plan", made]
    return subprocess.Popen([*PROGRAM, *words, *extra], env=environment(world), text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def wait_until(true: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def steps(world: World) -> dict[str, str]:
    runs = world.ok("runs", "list", "--json").json
    return {step["id"]: step["status"] for step in runs[0]["steps"]} if runs else {}


def soaking(world: World) -> None:
    """The calls' lever is set, and stays under watch for a long time."""
    world.edit("soak: 0s", "soak: 30s")


def slow(world: World) -> None:
    """A write to the calls' lever lands, and is answered long after everybody gave up."""
    world.centre.put("switch", "/faults/loan_calls", {"mode": "slow", "seconds": 4})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_at_the_next_safe_point(world: World, number: int) -> None:
    """It ends soon, exit 6, and says which queue is at which shares, which steps are done, which
    were never begun, and what to do; the journal says paused, and a resume goes on."""
    soaking(world)
    process = begin(world, "failover", "hq")
    wait_until(lambda: world.shares() != {"hq": 100}, process)
    half = world.shares()
    os.kill(process.pid, number)
    began = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 6 and "Traceback" not in err
    assert "Stopping at the next safe point; ^C again stops now." in err
    assert "paused, as it was asked to stop" in out
    assert f"in effect: loan_calls at {Shares(half)}" in out, out
    assert "in effect: applications at" in out and "  done: " in out and "  not begun: " in out
    assert out.splitlines()[-1].startswith("NEXT: ccfailover resume r1")
    assert world.shares() == half
    assert world.ok("runs", "list", "--json").json[0]["state"] == "paused"
    world.edit("soak: 30s", "soak: 0s")
    assert world.say("rollback", "--yes", "--reason", "x").code == 7
    assert world.shares() == {"hq": 100}


def test_two_signals_stop_now_and_the_journal_says_in_doubt(world: World) -> None:
    """In the middle of a call that is not answered: within a second or two, no traceback, exit 8,
    the step in doubt named; the late write lands, and the resume sees it."""
    slow(world)
    process = begin(world, "failover", "hq", "--queue", "loan_calls")
    wait_until(lambda: any(status == "started" for name, status in steps(world).items()
                           if "shift_route" in name), process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 2.5
    assert process.returncode == 8 and "Traceback" not in err + out
    assert "interrupted, as it was asked to stop" in out
    assert "in effect: loan_calls at not known: hq 100 %" in out
    assert "  in doubt: loan_calls/" in out and "shift_route" in out
    assert "NEXT: ccfailover resume" in out
    run = world.ok("runs", "list", "--json").json[0]
    assert run["state"] == "interrupted" and run["in_doubt"]
    assert "stopped at once by the keyboard" in world.ok("journal", "log", run["run"]).out
    wait_until(lambda: world.shares() != {"hq": 100})
    world.fault("none")
    assert world.say("resume", "--yes").code == 0 and "hq" not in world.shares()
    assert "looked again" in world.ok("report").out


def test_a_second_sigterm_is_the_first_one_again(world: World) -> None:
    """Supervisors repeat themselves; only a person's ^C cuts a run off."""
    slow(world)
    process = begin(world, "failover", "hq", "--queue", "loan_calls")
    wait_until(lambda: any(status == "started" for name, status in steps(world).items()
                           if "shift_route" in name), process)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 6 and err.count("Stopping at the next safe point") == 1, out


def test_json_says_the_same(world: World) -> None:
    """`stopped`, `in_effect` and `in_doubt` are facts for machines, too."""
    soaking(world)
    words = ("failover", "hq")
    made = world.ok("plan", *words, "--json").json["hash"]
    process = begin(world, *words, "--reason", "x", "--yes", "--plan", made, "--json", plan=False)
    wait_until(lambda: world.shares() != {"hq": 100}, process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    told = json.loads(out)
    assert told["stopped"] and told["state"] == "paused" and process.returncode == 6
    assert set(told["in_effect"]) == {"loan_calls", "applications"}


def test_a_signal_before_anything_was_begun(world: World) -> None:
    """^C while the plan is still being made: nothing was moved, exit 8, and where to look."""
    world.centre.put("switch", "/faults/loan_calls", {"mode": "slow", "seconds": 3, "on": "all"})
    process = begin(world, "failover", "hq", "--reason", "x", "--yes", "--plan", "0", plan=False)
    time.sleep(1.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode in (2, 8) and "Traceback" not in err
    assert world.ok("runs", "list", "--json").json == []


def test_stop_all_from_another_terminal(world: World) -> None:
    """Every run that is under way stops at its next safe point; one that stands still already is
    named as such; and a hint that automation may start others."""
    soaking(world)
    process = begin(world, "failover", "hq", "--queue", "loan_calls")
    wait_until(lambda: world.shares() != {"hq": 100}, process)
    said = world.ok("stop", "--all", "--reason", "wrong site", "--json").json
    assert len(said["asked"]) == 1 and said["still"] == {}
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 6 and "in effect: loan_calls at" in out
    again = world.ok("stop", "--all").out
    assert "no run is under way" in again and "stands still already: paused" in again
    world.edit("mode: approve", "mode: automatic")
    assert "ccfailover automation off" in world.ok("stop", "--all").out
    assert "NEXT:" in world.ok("stop", "--all").out.splitlines()[-1]


def test_execute_due_is_stopped_like_a_person_is(world: World) -> None:
    """Cron's own run: SIGTERM lets it pause, and nothing else is begun after it."""
    world.policy.write_text(world.policy.read_text() + OVERFLOW)
    until = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    assert world.act("overflow", "loan_calls", "--percent", "20", "--until", until).code == 0
    time.sleep(3)
    soaking(world)
    process = begin(world, "execute-due", plan=False)
    wait_until(lambda: world.shares() != {"hq": 80, "acme": 20}, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 6
    assert world.ok("runs", "list", "--json").json[0]["state"] == "paused"


def test_a_timed_overflow_comes_home_although_the_first_try_was_killed(world: World) -> None:
    """kill -9 of the process that brings it back: it is interrupted, nothing starts twice, a
    resume ends it, and then there is nothing left to bring back."""
    world.policy.write_text(world.policy.read_text() + OVERFLOW)
    until = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    assert world.act("overflow", "loan_calls", "--percent", "20", "--until", until).code == 0
    time.sleep(3)
    slow(world)
    process = begin(world, "execute-due", plan=False)
    wait_until(lambda: any(status == "started" for name, status in steps(world).items()
                           if "shift_route" in name), process)
    process.kill()
    process.wait()
    world.fault("none")
    again = world.say("execute-due", "--json")
    assert again.code == 5 and again.json["executed"][0]["run"] is None
    assert [run["state"] for run in world.ok("runs", "list", "--json").json] == [
        "interrupted", "succeeded"]
    assert "interrupted" in world.say("check").out
    assert world.say("resume", "--yes").code == 0
    assert world.shares() == {"hq": 100}
    assert world.ok("execute-due", "--json").json["executed"] == []
