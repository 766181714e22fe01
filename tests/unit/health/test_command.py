"""probes/command.py with real, and really bad, plugins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ccfailover.health import ProbeJob
from ccfailover.health.probes.command import CommandProbe
from ccfailover.model.health import Outcome, Reading
from ccfailover.runtime import SystemRuntime

Job = Callable[..., ProbeJob]
UNKNOWN = Outcome.UNKNOWN


def ask(runtime: SystemRuntime, *jobs: ProbeJob, budget: float = 10.0,
        at_once: int = 8) -> dict[str, Reading]:
    probe = CommandProbe(runtime, resolve=lambda name: f"secret of {name}", at_once=at_once)
    return {seen.key: seen for seen in probe.read_many(jobs, runtime.monotonic() + budget)}


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def is_alive(pid: int) -> bool:
    """A zombie that nobody has reaped yet is dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_dead(runtime: SystemRuntime, pid: int) -> bool:
    for _ in range(100):
        if not is_alive(pid):
            return True
        runtime.sleep(0.02)
    return False


@pytest.mark.parametrize(("code", "outcome"), [
    (0, Outcome.GOOD), (1, Outcome.WARN), (2, Outcome.BAD), (3, UNKNOWN), (4, UNKNOWN),
    (127, UNKNOWN),
])
def test_the_exit_code_decides(runtime: SystemRuntime, job: Job, code: int,
                               outcome: Outcome) -> None:
    """0 1 2 3 are GOOD WARN BAD UNKNOWN; any other end is UNKNOWN."""
    seen = ask(runtime, job("command", "k", argv=sh(f"echo 'LOAD said | load=0.5'; exit {code}")))
    assert seen["k"].outcome is outcome
    if code < 4:
        assert seen["k"].detail == "LOAD said"
        assert seen["k"].values == {"load": 0.5}


def test_a_plugin_that_dies_of_a_signal_is_unknown(runtime: SystemRuntime, job: Job) -> None:
    """A crash of the observer says nothing about the site."""
    seen = ask(runtime, job("command", "k", argv=sh("kill -SEGV $$")))["k"]
    assert seen.outcome is UNKNOWN
    assert "signal 11" in seen.detail


@pytest.mark.parametrize("argv", [["/nonexistent/check_x"], ["/etc/passwd"], ["/bin/echo", "a\0b"]])
def test_a_plugin_that_cannot_be_run_is_unknown(runtime: SystemRuntime, job: Job,
                                                argv: list[str]) -> None:
    """Missing, not executable, or an argument that no program can get."""
    seen = ask(runtime, job("command", "k", argv=argv))["k"]
    assert seen.outcome is UNKNOWN
    assert "cannot run the plugin" in seen.detail


def test_no_shell_is_used(runtime: SystemRuntime, job: Job, tmp_path: Path) -> None:
    """Arguments are passed as they are."""
    target = tmp_path / "made"
    seen = ask(runtime, job("command", "k", argv=["/bin/echo", f"$(touch {target}); x"]))["k"]
    assert seen.detail == f"$(touch {target}); x"
    assert not target.exists()


def test_a_hanging_plugin_is_killed_with_its_children(runtime: SystemRuntime, job: Job,
                                                      tmp_path: Path) -> None:
    """A plugin that ignores SIGTERM, and its child that does so too, are both gone."""
    pids = tmp_path / "pids"
    script = (f"trap '' TERM; sh -c \"trap '' TERM; echo \\$\\$ >> {pids}; "
              f"while :; do sleep 0.1; done\" & echo $$ >> {pids}; while :; do sleep 0.1; done")
    began = runtime.monotonic()
    seen = ask(runtime, job("command", "k", argv=sh(script), timeout=0.5))["k"]
    assert runtime.monotonic() - began < 0.5 + 1.0
    assert seen.outcome is UNKNOWN
    assert "did not end in time" in seen.detail
    found = [int(pid) for pid in pids.read_text(encoding="ascii").split()]
    assert len(found) == 2
    assert all(wait_dead(runtime, pid) for pid in found)


def test_a_child_left_behind_holds_nothing_up(runtime: SystemRuntime, job: Job,
                                              tmp_path: Path) -> None:
    """The plugin's own end counts, although its child keeps the pipe open; the child is killed."""
    pid = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid}; echo fine; exit 0"
    began = runtime.monotonic()
    seen = ask(runtime, job("command", "k", argv=sh(script), timeout=8.0))["k"]
    assert runtime.monotonic() - began < 5.0
    assert (seen.outcome, seen.detail) == (Outcome.GOOD, "fine")
    assert wait_dead(runtime, int(pid.read_text(encoding="ascii")))


@pytest.mark.parametrize("script", ["yes", "yes & exit 0"])
def test_endless_output_is_cut(runtime: SystemRuntime, job: Job, script: str) -> None:
    """More than 64 KiB ends a plugin; memory and time do not depend on what it writes."""
    seen = ask(runtime, job("command", "k", argv=sh(f"exec 2>/dev/null; {script}")))["k"]
    assert seen.seconds < 5.0
    assert len(seen.detail) <= 200
    assert seen.outcome in (UNKNOWN, Outcome.GOOD)
    if script == "yes":
        assert seen.outcome is UNKNOWN
        assert "64 KiB" in seen.detail


def test_output_is_made_harmless(runtime: SystemRuntime, job: Job) -> None:
    """Escape sequences and bytes that are no text do not reach a terminal or the journal."""
    seen = ask(runtime, job("command", "k", argv=[
        "/usr/bin/printf", r"\033[31mred\007 \377 %0500d| bad=x;; =3 '' ok=1", "0"]))["k"]
    assert seen.detail.isprintable()
    assert len(seen.detail) <= 200
    assert seen.values == {"ok": 1.0}


def test_the_environment_is_the_plugins_own(
    runtime: SystemRuntime, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our environment may hold secrets: a plugin sees PATH and what the policy gives it."""
    monkeypatch.setenv("OPS_NOTIFY_URL", "hush")
    seen = ask(runtime, job("command", "k", env={"A": "env:B", "C": "plain"}, argv=sh(
        'echo "$A/$C/${OPS_NOTIFY_URL-none}/${PATH:+path}"')))["k"]
    assert seen.detail == "secret of env:B/plain/none/path"


def test_at_most_so_many_run_at_once(runtime: SystemRuntime, job: Job, tmp_path: Path) -> None:
    """Plugins are heavy: never more than `at_once` side by side, and all get their turn."""
    script = (f"mkdir {tmp_path}/$1; ls -d {tmp_path}/p* | wc -l >> {tmp_path}/counts; "
              f"sleep 0.15; rmdir {tmp_path}/$1")
    jobs = [job("command", f"k{index}", argv=[*sh(script), "sh", f"p{index}"])
            for index in range(7)]
    found = ask(runtime, *jobs, at_once=3)
    counts = [int(line) for line in (tmp_path / "counts").read_text(encoding="ascii").split()]
    assert all(seen.outcome is Outcome.GOOD for seen in found.values())
    assert len(counts) == 7
    assert max(counts) <= 3


def test_the_poll_ends_at_its_deadline(runtime: SystemRuntime, job: Job) -> None:
    """With every plugin hanging, those that had no turn are told as such, and in time."""
    jobs = [job("command", f"k{index}", argv=sh("exec sleep 60"), timeout=30.0)
            for index in range(5)]
    began = runtime.monotonic()
    found = ask(runtime, *jobs, budget=0.5, at_once=2)
    assert runtime.monotonic() - began < 0.5 + 1.0
    assert len(found) == 5
    assert {seen.outcome for seen in found.values()} == {UNKNOWN}
    assert sum("not asked" in seen.detail for seen in found.values()) == 3


def test_no_process_or_descriptor_is_left(runtime: SystemRuntime, job: Job) -> None:
    """A hundred polls a day for a year must not fill the process table."""
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def children() -> set[str]:
        """Ours, those that ended and were not waited for included; other tests' servers too."""
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    before: Any = descriptors()
    others = children()
    ask(runtime, *[job("command", f"k{index}", argv=["/bin/true"]) for index in range(20)])
    assert descriptors() == before
    assert children() <= others
