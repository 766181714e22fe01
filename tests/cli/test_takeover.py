"""An overflow at work is pre-empted; a run is stolen from one that stands still. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.cli.conftest import Said, World

pytestmark = [pytest.mark.server("roto-server"), pytest.mark.long]

PROGRAM = [sys.executable, "-m", "ccfailover"]
OVERFLOW = """
  overflow: {before: [confirm], branch: [shift_route], after: []}
"""


def overflowing(world: World, soak: str) -> subprocess.Popen[str]:
    """A process that has moved the first of an overflow and watches how it is borne."""
    world.policy.write_text(world.policy.read_text() + OVERFLOW)
    world.edit("soak: 0s", f"soak: {soak}")
    words = ["overflow", "loan_calls", "--percent", "20"]
    plan = world.ok("plan", *words, "--json").json["hash"]
    process = subprocess.Popen(
        [*PROGRAM, *words, "--reason", "peak", "--yes", "--plan", plan], text=True,
        env={**os.environ, **world.environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: process.poll() is not None or world.shares() != {"hq": 100})
    assert process.poll() is None, process.communicate()
    world.edit(f"soak: {soak}", "soak: 0s")  # it has read its policy
    return process


def insisted(world: World, *words: str) -> Said:
    """What a plan rests on may change before it is used, on a busy machine: then make another."""
    for _ in range(3):
        said = world.act(*words)
        if said.code != 4 or "no longer fits" not in said.err:
            break
    return said


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def test_a_failover_pre_empts_an_overflow_at_work(world: World) -> None:
    """The plan says so, the overflow stops within seconds and says why, the failover goes on at
    once, and what was moved by both can be seen in both reports."""
    process = overflowing(world, "60s")
    try:
        plan = world.ok("plan", "failover", "hq")
        assert "pre-empts overflow r1-" in plan.out and "loan_calls" in plan.out
        began = time.monotonic()
        said = insisted(world, "failover", "hq")
        took = time.monotonic() - began
        assert said.code == 0, said.err
        code, text = ended(process)
        assert code == 6, text
    finally:
        process.kill()
    assert took < 20, "one that lets go is not waited out"
    assert "hq" not in world.shares()
    first, second = (" ".join(world.ok("report", run).out.split()) for run in ("r1", "r2"))
    assert "stop.requested: pre-empted by full_failover hq: INC-1" in first
    assert "which pre-empted it" in first and "Superseded by r2-" in first
    assert "Supersedes r1-" in second and "pre-empts overflow r1-" in second
    states = {run["run"][:2]: run["state"] for run in world.ok("runs", "list", "--json").json}
    assert states == {"r1": "superseded", "r2": "succeeded"}
    assert world.say("journal", "verify").code == 0


def test_a_run_that_stands_still_is_stolen(world: World) -> None:
    """SIGSTOP: a resume is refused and names --steal; that needs a reason, waits one lease time,
    goes on; and on SIGCONT the first process learns who took its run, and why."""
    process = overflowing(world, "6s")
    try:
        process.send_signal(signal.SIGSTOP)
        refused = world.say("resume", "r1", "--yes")
        assert refused.code == 5 and "--steal --reason" in refused.err
        assert world.say("resume", "r1", "--yes", "--steal").code == 2
        began = time.monotonic()
        said = world.say("resume", "r1", "--yes", "--steal", "--reason", "its machine hangs",
                         CCFAILOVER_ACTOR="joe")
        assert said.code == 0, said.err
        assert time.monotonic() - began >= 30
        assert world.shares() == {"hq": 80, "acme": 20}
        process.send_signal(signal.SIGCONT)
        code, text = ended(process)
        assert code == 5 and "joe@" in text and "its machine hangs" in text, text
    finally:
        process.kill()
    assert world.shares() == {"hq": 80, "acme": 20}
    assert "lease.stolen" in world.ok("journal", "export", "r1").out
