"""Prompts at a real terminal, and output that nobody reads: real processes."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tests.cli.conftest import World

pytestmark = pytest.mark.server("roto-server")

PROGRAM = [sys.executable, "-m", "ccfailover"]

OWN_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that ^C is a signal
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def environment(world: World) -> dict[str, str]:
    return {**os.environ, **world.environment, "TERM": "xterm", "COLUMNS": "100"}


def at_terminal(world: World, words: list[str], typed: bytes) -> tuple[int, str]:
    """Run with a terminal of its own, type once the question is there; code and screen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, "-m", "ccfailover", *words], stdin=theirs,
        stdout=theirs, stderr=theirs, env=environment(world))
    os.close(theirs)
    seen, end = b"", time.monotonic() + 40
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                got = os.read(ours, 65_536)
            except OSError:
                break
            if not got:
                break
            seen += got
        if typed and b"[y/N]" in seen:
            os.write(ours, typed)
            typed = b""
    os.close(ours)
    return process.wait(10), seen.decode(errors="replace")


def test_a_yes_moves_and_the_question_names_the_policy(world: World) -> None:
    """Heading, before and after first; then the question; then it is done."""
    code, screen = at_terminal(world, ["failover", "hq", "--reason", "INC-1"], b"y\n")
    assert code == 0 and "hq" not in world.shares()
    question = next(line for line in screen.splitlines() if "[y/N]" in line)
    assert question.startswith("local_centre (demo) ") and "full_failover hq" in question


@pytest.mark.parametrize("typed", [b"n\n", b"\n", b"\x03", b"\x04"],
                         ids=["no", "return", "interrupt", "end of input"])
def test_anything_but_yes_moves_nothing(world: World, typed: bytes) -> None:
    """Exit 4, and it says so."""
    code, screen = at_terminal(world, ["failover", "hq", "--reason", "INC-1"], typed)
    assert code == 4 and "nothing was moved" in screen
    assert world.shares() == {"hq": 100}


def test_a_terminal_that_closes_at_the_question_is_no_yes(world: World) -> None:
    """Under nohup the hang-up kills nobody: the question has no answer then, and nothing moves."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
         + OWN_TERMINAL, "-m", "ccfailover", "failover", "hq", "--reason", "INC-1"],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment(world))
    os.close(theirs)
    assert process.stderr is not None
    said = b""
    while b"[y/N]" not in said:
        assert select.select([process.stderr], [], [], 30)[0], said
        said += os.read(process.stderr.fileno(), 65_536)
    os.close(ours)
    said += process.stderr.read()
    assert process.wait(20) == 4 and b"nothing was moved" in said and b"bug" not in said
    process.stderr.close()
    assert world.shares() == {"hq": 100}


def test_colour_is_for_terminals_that_want_it(world: World) -> None:
    """`NO_COLOR` is obeyed."""
    assert "\x1b[32m" in healthy(world)
    world.environment = {**world.environment, "NO_COLOR": "1"}
    assert "\x1b[32m" not in healthy(world)


def healthy(world: World) -> str:
    """`status` at a terminal, within the second for which what `check` saw is fresh here."""
    for _ in range(10):
        world.say("check")
        _, text = at_terminal(world, ["status"], b"")
        if "healthy" in text:
            return text
    raise AssertionError(text)


def test_a_reader_that_leaves_stops_no_run(world: World) -> None:
    """`ccfailover failover … | head -0`: the run goes on, and its exit code is told."""
    plan = world.ok("plan", "failover", "hq", "--json").json["hash"]
    process = subprocess.Popen(
        [*PROGRAM, "failover", "hq", "--reason", "x", "--yes", "--plan", plan],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(world))
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert process.wait(40) == 0 and "hq" not in world.shares()


def test_a_closed_stdin_is_no_terminal(world: World) -> None:
    """Some schedulers give none at all: a usage error, not a crash."""
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *PROGRAM, "failover", "hq",
                           "--reason", "x"], env=environment(world), capture_output=True,
                          text=True, timeout=40)
    assert done.returncode == 2 and "no terminal" in done.stderr
