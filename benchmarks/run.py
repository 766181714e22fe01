"""A whole run as one process, beside a Chaos Toolkit experiment and an Ansible playbook.

Six steps each, none of which waits. Ours: `ccfailover switchover` with a recipe of four steps that
only look and two that set a route of a switch on loopback and read it back; it also reads a
policy, probes two sites and the switch, plans, leases and journals, and all of it is on disk
before the next step begins. `chaos run`: six actions that call a function of the standard library;
it writes once, at its end. `ansible-playbook`: six `command: /bin/true` on localhost, without
gathering facts, each a process, as every module is that acts.

From the same runs: how long until the first step is begun and that is on disk, against a Python
that imports click and nothing else. Counted until the transaction after that of `step.started`
begins, since that is when it certainly is on disk.

    python benchmarks/run.py [--write] [--rounds 15]

Every process in turn, in rotating order; Ansible every fifth round only. Exits 1 when a bar is
missed or a process did not run, 0 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import startup
from benchmarks.results import ROOT, machine, rows, write
from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store

RUNBOOK = """\
runbooks:
  switchover:
    before: [confirm, confirm]
    branch: [shift_route]
    after: [confirm, confirm]
"""
"""Six steps with the two queues of `startup.POLICY`."""

PLAYBOOK = """\
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
""" + 6 * """\
    - ansible.builtin.command: /bin/true
"""

EVERY = 5
"""Ansible takes part in one round of so many."""

BARE, FIRST, OURS, CHAOS, ANSIBLE = (
    "python -c 'import click'", "until its first step is begun", "ccfailover switchover",
    "chaos run", "ansible-playbook")

BARS = ((FIRST, BARE, 5.0), (OURS, CHAOS, 1.0), (OURS, ANSIBLE, 1 / 8))
"""What may take at most so many times what."""


@dataclass
class Taken:
    """Seconds of one process by round; `failure` when it did not do what it should."""

    wall: dict[int, float] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)
    failure: str | None = None

    def ratio(self, other: Taken) -> float:
        """The median over the rounds in which both took part."""
        return statistics.median(
            self.wall[turn] / other.wall[turn] for turn in sorted(self.wall.keys() & other.wall))


def measure(rounds: int) -> dict[str, Taken]:
    program = str(Path(sys.executable).parent / "ccfailover")
    peers = ROOT / ".venv-bench" / "bin"
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix="ccfailover-bench-")))
        env = {**stack.enter_context(startup.world(place)), "ANSIBLE_LOCALHOST_WARNING": "0",
               "ANSIBLE_HOME": str(place / "ansible")}
        policy = place / "policy.yaml"
        policy.write_text(policy.read_text() + RUNBOOK)
        experiment, playbook = place / "experiment.json", place / "playbook.yaml"
        experiment.write_text(json.dumps({
            "title": "six", "description": "six actions that do nothing", "method": [
                {"type": "action", "name": f"step {number}", "provider": {
                    "type": "python", "module": "platform", "func": "node"}}
                for number in range(6)]}))
        playbook.write_text(PLAYBOOK)
        # What stands there every day: a policy that cron's check has found valid, and a store.
        startup.run_once(startup.Command("check", [program, "check"], good=(0, 1, 2)), env)
        plan = startup.answer([program, "plan", "switchover", "hq", "--reason", "bench", "--json"],
                              env)["hash"]
        listed = [
            startup.Command(BARE, [sys.executable, "-c", "import click"]),
            startup.Command(OURS, [program, "switchover", "hq", "--reason", "bench", "--yes",
                                   "--plan", str(plan)]),
            startup.Command(CHAOS, [str(peers / "chaos"), "--no-version-check", "run",
                                    str(experiment)], ours=False),
            startup.Command(ANSIBLE, [str(peers / "ansible-playbook"), "-i", "localhost,",
                                      str(playbook)], ours=False),
        ]
        return interleaved(listed, env, rounds, place / "store.db")


def interleaved(listed: Sequence[startup.Command], env: Mapping[str, str], rounds: int,
                store: Path) -> dict[str, Taken]:
    taken = {name: Taken() for name in (BARE, FIRST, OURS, CHAOS, ANSIBLE)}
    for turn in range(startup.WARM_UP + rounds):
        shift = turn % len(listed)
        for command in [*listed[shift:], *listed[:shift]]:
            mine = taken[command.label]
            if mine.failure or (command.label == ANSIBLE and (turn - startup.WARM_UP) % EVERY):
                continue
            startup.Switch.shares.clear()  # so that there is something to move
            began = time.time_ns() // 1000
            try:
                wall, cpu, mine.failure = startup.run_once(command, env)
            except OSError as error:
                mine.failure = f"{error.strerror}: {command.argv[0]}"
                continue
            if turn < startup.WARM_UP:
                continue
            mine.wall[turn], mine.cpu[turn] = wall, cpu
            if command.label == OURS and mine.failure is None:
                taken[FIRST].wall[turn] = (first_step(store) - began) / 1e6
    return taken


def first_step(path: Path) -> int:
    """When the first step of the newest run was on disk as begun, µs."""
    store = open_store(str(path), SystemRuntime())
    records = store.read(f"run:{store.run_ids()[-1]}")
    store.close()
    if records[-1].kind != "run.succeeded" or sum(
            record.kind == "step.succeeded" for record in records) != 6:
        raise SystemExit(f"not a run of six steps that succeeded: {records[-1].kind}")
    begun = next(index for index, record in enumerate(records) if record.kind == "step.started")
    return records[begun + 1].at


def verdicts(taken: Mapping[str, Taken]) -> list[str]:
    """Every bar that was missed, every process that did not run."""
    found = [f"{name}: {one.failure}" for name, one in taken.items() if one.failure]
    for name, other, bar in BARS:
        if not taken[name].wall or not taken[other].wall:
            found.append(f"{name} was not measured against {other}")
        elif taken[name].ratio(taken[other]) > bar:
            found.append(f"{name}: {taken[name].ratio(taken[other]):.3f} times {other}, the bar "
                         f"is {bar:g}")
    return found


def table(taken: Mapping[str, Taken]) -> str:
    bars = {(name, other): bar for name, other, bar in BARS}

    def against(name: str, other: str) -> str:
        one, two = taken[name], taken[other]
        if name == other or not one.wall.keys() & two.wall.keys():
            return ""
        bar = bars.get((name, other))
        return f"{one.ratio(two):.3f}" + (f" (bar {bar:g})" if bar else "")

    body = []
    for name, one in taken.items():
        label = f"**`{name}`**" if name == OURS else f"{name} of the same" if name == FIRST \
            else f"`{name}`"
        wall = f"{statistics.median(one.wall.values()) * 1000:.0f}" if one.wall else "–"
        cpu = f"{statistics.median(one.cpu.values()) * 1000:.0f}" if one.cpu else ""
        body.append((label, wall, cpu, against(name, BARE), against(name, CHAOS),
                     against(name, ANSIBLE)))
    return rows(("process, six steps each", "ms", "CPU ms", "times the bare process",
                 "times chaos", "times ansible"), body)


def main() -> int:
    parser = argparse.ArgumentParser(description="A whole run beside its peers.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    options = parser.parse_args()
    where = machine()
    taken = measure(max(1, options.rounds))
    missed = verdicts(taken)
    text = (f"`benchmarks/run.py` · {options.rounds} interleaved rounds, Ansible in every "
            f"{EVERY}th · {where} · {startup.peer_versions()}\n\n{table(taken)}\n\n"
            + ("Every bar is met." if not missed else f"Missed: {'; '.join(missed)}."))
    print(text)
    if options.write:
        write("run", text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
