"""How long it takes to plan a failover of 50 queues, and to validate a policy of 400 lines.

Planning is `operations.prepare` on a picture of the world at hand: shares and steps of every
queue, guards, capacity, hash; nothing is probed. Validating finds every problem with its place:
YAML with places, JSON Schema, names, CEL, opening hours, rules; beside it, what PyYAML's C loader
takes only to read the same text.

    python benchmarks/plan.py [--write] [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.results import machine, rows, write
from ccfailover.model.health import Assessment, QueueView, State, World
from ccfailover.model.policy import Policy
from ccfailover.operations.desk import Desk
from ccfailover.operations.prepare import prepare
from ccfailover.policy.load import check
from ccfailover.runbooks.plan import Request
from ccfailover.runtime import SystemRuntime
from ccfailover.wiring.assemble import assemble
from ccfailover.wiring.kinds import Schemas

HEAD = """\
version: 1
name: many
timezone: America/Chicago
store: {place}/store.db
sites:
  hq:
    kind: in_house
    probes: [{{kind: http, url: "http://127.0.0.1:9/health"}}]
    staff:
{hq}
  acme:
    kind: outsourced
    hours: "Mo-Fr 07:00-19:00; Sa 09:00-13:00; PH off"
    holidays: US
    probes: [{{kind: tcp, host: 127.0.0.1, port: 9}}]
    staff:
{acme}
    price: {{per_minute: 0.85}}
providers:
  edge:
    kind: http
    url: "http://127.0.0.1:9"
    destinations: {{hq: trunk_1, acme: trunk_7, message: announcement}}
    route:
      read: {{path: "/routes/{{ref}}", shares: /shares}}
      shift: {{method: PUT, path: "/routes/{{ref}}",
              body: '{{"shares": {{{{ shares | tojson }}}}}}'}}
queues:
"""
STAFF = "      calls_{n}: {{agents: 40, handle_time: 300s}}\n"
QUEUE = """\
  calls_{n}:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    priority: {n}
    home_down: message
    normal: {{hq: 100}}
    objectives: {{rto: 15m, mtd: 4h}}
    load: {{per_hour: 300, minutes_per_contact: 5}}
    route: {{provider: edge, ref: calls_{n}}}
"""


def policy_text(queues: int, place: str) -> str:
    staff = "".join(STAFF.format(n=number) for number in range(1, queues + 1)).rstrip("\n")
    return HEAD.format(place=place, hq=staff, acme=staff) + "".join(
        QUEUE.format(n=number) for number in range(1, queues + 1))


def hq_down(policy: Policy, now: int) -> World:
    states = {"hq": State.DOWN, "acme": State.HEALTHY}
    return World(
        now, {name: Assessment("site", name, state, now, "benchmark", ("controller",))
              for name, state in states.items()},
        {}, {name: QueueView(name, queue.normal, {}, {}, now)
             for name, queue in policy.queues.items()})


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median; one round before does not count."""
    took = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


def planning(place: Path, queues: int, rounds: int) -> float:
    path = place / f"{queues}.yaml"
    path.write_text(policy_text(queues, str(place)))
    desk: Desk = assemble(str(path), environ={"CCFAILOVER_STORE": ":memory:"})
    world = hq_down(desk.policy, desk.runtime.now())

    def plan() -> None:
        made = prepare(desk, Request("full_failover", "hq", "benchmark"), world=world).plan
        if len(made.branches) != queues:
            raise SystemExit(f"{len(made.branches)} of {queues} queues were planned")

    took = seconds(plan, rounds)
    desk.store.close()
    return took


def validating(place: Path, rounds: int) -> tuple[int, float, float]:
    """Lines, seconds to validate, seconds to read only."""
    text = policy_text(29, str(place))
    path = place / "lines.yaml"
    path.write_text(text)
    now = SystemRuntime().now()

    def validate() -> None:
        policy, problems = check(str(path), Schemas(), now=now)
        if policy is None:
            raise SystemExit("; ".join(map(str, problems)))

    only = seconds(lambda: yaml.load(text, Loader=yaml.CSafeLoader), rounds)
    return text.count("\n"), seconds(validate, rounds), only


def main() -> int:
    parser = argparse.ArgumentParser(description="Planning and validating.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    options = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory(prefix="ccfailover-bench-") as place:
        one = planning(Path(place), 1, options.rounds)
        fifty = planning(Path(place), 50, options.rounds)
        lines, whole, only = validating(Path(place), options.rounds)
    text = f"`benchmarks/plan.py` · {options.rounds} rounds · {where}\n\n" + rows(
        ("", "ms", "times"), [
            ("plan a failover of 1 queue", f"{one * 1000:.1f}", "1.00"),
            ("**plan a failover of 50 queues**", f"{fifty * 1000:.1f}",
             f"{fifty / one:.1f} (50 would be linear)"),
            (f"read {lines} lines, PyYAML's C loader", f"{only * 1000:.1f}", "1.00"),
            (f"**validate {lines} lines**", f"{whole * 1000:.1f}", f"{whole / only:.1f}"),
        ])
    print(text)
    if options.write:
        write("plan", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
