"""The start-up benchmark measures real processes and tells the truth about failures and bars."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import results, startup
from benchmarks.startup import Command, Timing

BARE = Command("bare", [sys.executable, "-I", "-S", "-c", "pass"])
ENV = {"HOME": "/", "PATH": "/usr/bin:/bin"}


def timing(label: str, *wall: float, bar: float | None = None, ours: bool = True) -> Timing:
    return Timing(Command(label, [], bar=bar, ours=ours), wall=list(wall), cpu=list(wall))


def test_processes_are_really_run_as_often_as_asked(tmp_path: Path) -> None:
    """Each round starts the command once; warm-up rounds are run and not counted."""
    log = tmp_path / "log"
    count = Command("count", ["/bin/sh", "-c", f"echo x >> {log}"])
    bare, counted = startup.measure([BARE, count], ENV, rounds=3)
    assert log.read_text(encoding="utf-8") == "x\n" * (3 + startup.WARM_UP)
    assert len(bare.wall) == len(counted.wall) == 3
    assert all(seconds > 0 for seconds in bare.wall)


def test_a_command_that_fails_is_not_given_a_time() -> None:
    """A program that dies quickly must not look like a fast one."""
    broken = Command("broken", ["/bin/sh", "-c", "echo no such module >&2; exit 7"])
    missing = Command("missing", ["/nonexistent/program"])
    timings = startup.measure([BARE, broken, missing], ENV, rounds=1)
    text = startup.table(timings, 1, "here")
    assert "not measured: exit 7: no such module" in text
    assert "not measured: No such file or directory" in text
    assert any("broken: exit 7" in line for line in startup.verdicts(timings))


def test_exit_codes_that_are_verdicts_count_as_runs() -> None:
    """`check` says CRITICAL with 2: that is a run, 3 is not."""
    critical = Command("critical", ["/bin/sh", "-c", "exit 2"], good=(0, 1, 2))
    unknown = Command("unknown", ["/bin/sh", "-c", "exit 3"], good=(0, 1, 2))
    _, first, second = startup.measure([BARE, critical, unknown], ENV, rounds=1)
    assert first.failure is None
    assert second.failure is not None


def test_a_ratio_is_taken_within_each_round() -> None:
    """A machine that gets slower halfway does not change the verdict."""
    assert timing("x", 2.0, 4.0, 20.0).ratio(timing("bare", 1.0, 2.0, 10.0)) == 2.0


def test_a_missed_bar_and_a_faster_peer_are_told() -> None:
    """Bars and peers are judged from the figures, and each miss is named."""
    timings = [
        timing("bare", 1.0),
        timing("ccfailover --help", 1.6, bar=1.5),
        timing("ccfailover status --json", 2.9, bar=3.0),
        timing("peer --help", 1.4, ours=False),
        timing("other --help", 5.0, ours=False),
    ]
    assert startup.verdicts(timings) == [
        "ccfailover --help: 1.60 times, the bar is 1.5",
        "ccfailover --help is slower than peer --help",
    ]


def test_the_table_replaces_the_former_one_only(tmp_path: Path) -> None:
    """Text around the markers stays; writing twice leaves one table."""
    page = tmp_path / "RESULTS.md"
    page.write_text("head\n<!-- x:begin -->\nold\n<!-- x:end -->\ntail\n", encoding="utf-8")
    results.write("x", "new", page)
    results.write("x", "newer", page)
    text = page.read_text(encoding="utf-8")
    assert text == "head\n<!-- x:begin -->\nnewer\n<!-- x:end -->\ntail\n"


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    """No guess about where a table belongs."""
    page = tmp_path / "RESULTS.md"
    page.write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="markers"):
        results.write("x", "new", page)
    assert page.read_text(encoding="utf-8") == "nothing here\n"


def test_the_results_page_has_its_markers() -> None:
    """Every benchmark that `make bench` runs has somewhere to write."""
    text = results.RESULTS.read_text(encoding="utf-8")
    # rabbit_peers is what rabbit_raw starts in the environment of the peers.
    programs = {path.stem for path in results.RESULTS.parent.glob("*.py")} - {
        "results", "rabbit_peers"}
    assert programs >= {"startup", "poll", "move", "step", "plan"}
    for name in programs:
        assert text.index(f"<!-- {name}:begin -->") < text.index(f"<!-- {name}:end -->")


@pytest.mark.slow
def test_our_own_commands_run_on_the_benchmark_s_policy(tmp_path: Path) -> None:
    """Every measured command works against the world that the benchmark builds."""
    with startup.world(tmp_path) as env:
        listed = startup.commands(Path(sys.executable).parent, None)
        failures = {
            timing.command.label: timing.failure
            for timing in startup.measure(listed, env, rounds=1)
            if timing.failure is not None
        }
    assert failures == {}
