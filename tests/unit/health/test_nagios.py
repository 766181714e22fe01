"""nagios.py: exit code and line of `check`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from ccfailover.health.nagios import refusal, summary
from ccfailover.health.triggers import OpenRun
from ccfailover.model.health import Assessment, Decision, QueueView, State, World
from ccfailover.model.shares import Shares

ITEM = re.compile(r"'(?:[^'=]|'')+'=(?:U|-?\d+(?:\.\d+)?(?:%|s)?)(?:;[^;\s]*){0,4}")


def world(hq: State = State.HEALTHY, acme: State = State.HEALTHY, los: State = State.HEALTHY,
          **more: Any) -> World:
    def place(noun: str, name: str, state: State) -> Assessment:
        return Assessment(noun, name, state, 1_790_000_000_000_000, f"{name} answered 503")

    queues = {"calls": QueueView("calls", Shares({"hq": 100}), {}, {}),
              "loans": QueueView("loans", None, {"hq": 812, "acme": 0}, {"hq": 7.5, "acme": None})}
    return World(1, {"hq": place("site", "hq", hq), "acme": place("site", "acme", acme)},
                 {"los": place("dependency", "los", los)}, **{"queues": queues, **more})


def decision(runbook: str, action: str = "advise", *blockers: str) -> Decision:
    return Decision("t", runbook, "hq", action, 1, ("why",), blockers)


def run(state: str) -> OpenRun:
    return OpenRun("r7-abcd", "full_failover", "hq", state)


@pytest.mark.parametrize(("seen", "decisions", "runs", "code", "says"), [
    (world(), [], [], 0, "2 sites healthy"),
    (world(hq=State.DEGRADED), [], [], 1, "hq degraded since 2026-09-21 14:13:20Z"),
    (world(hq=State.DOWN), [], [], 2, "hq down since"),
    (world(hq=State.UNKNOWN), [], [], 3, "hq unknown (hq answered 503)"),
    (world(hq=State.UNKNOWN, acme=State.DEGRADED), [], [], 1, "hq unknown"),
    (world(hq=State.UNKNOWN, acme=State.DOWN), [], [], 2, "hq unknown"),
    (world(los=State.DOWN), [], [], 2, "dependency los down"),
    (world(treat_only={"calls": ("los",)}), [], [], 2, "calls can only be treated"),
    (world(), [decision("overflow")], [], 1, "overflow hq advised by t"),
    (world(), [decision("full_failover")], [], 2, "full_failover hq advised by t"),
    (world(), [decision("full_failover", "approve")], [], 2, "awaits approval"),
    (world(), [decision("overflow", "advise", "automation is off")], [], 1, "held back: autom"),
    (world(), [], [run("running")], 0, "run r7-abcd (full_failover hq) running"),
    (world(), [], [run("paused")], 2, "paused"),
    (world(), [], [run("interrupted")], 2, "interrupted"),
    (world(), [], [run("stuck")], 2, "stuck"),
])
def test_the_worst_decides_and_everything_is_told(
    scene: Any, seen: World, decisions: list[Decision], runs: list[OpenRun], code: int, says: str
) -> None:
    """0 fine, 1 degraded or overflow, 2 down, failover or a run that needs a person, 3 unknown."""
    found, line = summary(scene.policy, seen, decisions, runs)
    assert found == code
    assert says in line
    assert line.startswith("CCFAILOVER " + ["OK", "WARNING", "CRITICAL", "UNKNOWN"][code] + " - ")


def test_unknown_shares_and_depths_are_unknown(scene: Any) -> None:
    """A queue nobody can see is no reason to say OK."""
    queues = {"calls": QueueView("calls", None, {}, {}),
              "loans": QueueView("loans", None, {"hq": None, "acme": 0}, {})}
    code, line = summary(scene.policy, world(queues=queues), [], [])
    assert code == 3
    assert "shares of calls unknown" in line
    assert "backlog of loans at hq unknown" in line
    assert "'loans depth hq'=U" in line


def test_performance_data_has_the_form_that_nagios_reads(scene: Any) -> None:
    """One `|`, then items with quoted labels, units, and empty thresholds in their places."""
    _, line = summary(scene.policy, world(hq=State.DOWN), [], [run("running")])
    text, bar, data = line.partition(" | ")
    assert bar
    assert "|" not in text + data
    assert "\n" not in line
    assert re.fullmatch(rf"{ITEM.pattern}(?: {ITEM.pattern})*", data)
    for item in ("'down'=1;;;0;3", "'loans depth hq'=812;;;0", "'loans oldest hq'=7.5s;;;0",
                 "'calls share hq'=100%;;;0;100", "'open_runs'=1;;;0"):
        assert item in data


def test_hostile_text_cannot_forge_data_or_lines(scene: Any) -> None:
    """A probe's words with a bar or a line break stay words."""
    seen = world(hq=State.DOWN)
    bad = replace(seen.sites["hq"], reason="x | 'down'=0\nOK - fine")
    _, line = summary(scene.policy, replace(seen, sites={"hq": bad}), [], [])
    assert line.count("|") == 1
    assert "\n" not in line


def test_the_line_fits_what_nagios_keeps(scene: Any) -> None:
    """5,000 sites: cut at 8 KiB, between items, with the worst first."""
    sites = {f"site_{index}": Assessment("site", f"site_{index}", State.DEGRADED, None, "slow")
             for index in range(5000)}
    sites["last"] = Assessment("site", "last", State.DOWN, None, "dead")
    queues = {f"q{index}": QueueView(f"q{index}", None, {"hq": 1}, {}) for index in range(5000)}
    code, line = summary(scene.policy, World(1, sites, {}, queues), [], [])
    assert code == 2
    assert len(line.encode()) <= 8192
    assert line.startswith("CCFAILOVER CRITICAL - last down (dead)")
    assert re.fullmatch(ITEM, line.rpartition(" '")[1].strip() + line.rpartition(" '")[2])


def test_notes_and_refusals(scene: Any) -> None:
    """What the caller adds counts like the rest; no verdict at all is UNKNOWN."""
    code, line = summary(scene.policy, world(), [], [], notes=[(2, "calls: someone moved it")])
    assert (code, "someone moved it" in line) == (2, True)
    assert refusal("the policy cannot be read") == \
        (3, "CCFAILOVER UNKNOWN - the policy cannot be read")
