"""How long the program takes to start, beside its peers.

Every command is a process of its own, started in turn (all commands once, in rotating order, then
all again), so that a noisy machine disturbs them alike. Each is compared with the bare process of
its own round: a Python that imports click and nothing else. `status` and `check` work on a
real policy, with a real store, against servers on loopback, some minutes after a failover: there
is a run to tell of, and every `check` has both sites to probe.

    python benchmarks/startup.py                 print the table
    python benchmarks/startup.py --write         and put it into benchmarks/RESULTS.md
    python benchmarks/startup.py --ours          without the peers (which `make bench` installs)

Exits 1 when a bar is missed or a command did not run, 0 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.results import ROOT, machine, write

WARM_UP = 2

POLICY = """\
version: 1
name: startup
environment: benchmark
timezone: America/Chicago
store: {store}
sites:
  hq:
    kind: in_house
    probes: [{{kind: http, url: "{url}/health", every: 1s}}]
    staff: {{loan_calls: {{agents: 40, handle_time: 300s}}, applications: {{per_hour: 90}}}}
  acme:
    kind: outsourced
    hours: "24/7"
    probes: [{{kind: tcp, host: 127.0.0.1, port: {port}, every: 1s}}]
    staff: {{loan_calls: {{agents: 60, handle_time: 330s}}, applications: {{per_hour: 120}}}}
providers:
  edge:
    kind: http
    url: "{url}"
    destinations: {{hq: trunk_1, acme: trunk_7, message: announcement}}
    route:
      read: {{path: "/routes/{{ref}}", shares: /shares, version: etag}}
      shift: {{method: PUT, path: "/routes/{{ref}}", if_match: true,
              body: '{{"shares": {{{{ shares | tojson }}}}}}'}}
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 1
    home_down: message
    normal: {{hq: 100}}
    objectives: {{rto: 15m, mtd: 4h}}
    route: {{provider: edge, ref: loan_calls}}
  applications:
    channel: application
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 2
    home_down: message
    normal: {{hq: 100}}
    objectives: {{rto: 4h, mtd: 24h}}
    route: {{provider: edge, ref: applications}}
triggers:
  hq_down: {{when: 'site.hq.state == "down"', hold: 60s, run: full_failover, mode: advise}}
"""


@dataclass(frozen=True)
class Command:
    """`bar`: at most so many times the bare process. `good`: exit codes that mean it worked.
    `terminal`: its stdout is one, and not nowhere."""

    label: str
    argv: Sequence[str]
    bar: float | None = None
    ours: bool = True
    good: Collection[int] = (0,)
    terminal: bool = False


@dataclass
class Timing:
    command: Command
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    failure: str | None = None

    def ratio(self, bare: Timing) -> float:
        """The median over rounds of this command against the bare process of the same round."""
        return statistics.median(
            mine / theirs for mine, theirs in zip(self.wall, bare.wall, strict=True)
        )


class Switch(http.server.BaseHTTPRequestHandler):
    """A site's health page and a switch's shares: the least that status and check can look at."""

    shares: ClassVar[dict[str, dict[str, int]]] = {}

    def do_GET(self) -> None:
        shares = self.shares.get(self.path, {"trunk_1": 100})
        self._answer(json.dumps({"shares": shares}).encode())

    def do_PUT(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        self.shares[self.path] = json.loads(self.rfile.read(length))["shares"]
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet."""


@contextlib.contextmanager
def world(place: Path) -> Iterator[dict[str, str]]:
    """Servers on loopback, a policy and an environment of its own for the commands."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Switch)
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    policy = place / "policy.yaml"
    policy.write_text(
        POLICY.format(store=place / "store.db", url=f"http://127.0.0.1:{port}", port=port),
        encoding="utf-8",
    )
    try:
        yield {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(place),
            "XDG_CACHE_HOME": str(place / "cache"),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            "CCFAILOVER_POLICY": str(policy),
        }
    finally:
        server.shutdown()
        server.server_close()


def run_once(command: Command, env: Mapping[str, str]) -> tuple[float, float, str | None]:
    """Wall and CPU seconds of one process, and why it does not count, if so."""
    with tempfile.TemporaryFile() as said, (terminal() if command.terminal else
                                            contextlib.nullcontext(subprocess.DEVNULL)) as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            command.argv, env=dict(env), cwd=env["HOME"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=said,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode in command.good:
            return wall, usage.ru_utime + usage.ru_stime, None
        said.seek(0)
        tail = said.read().decode(errors="replace").strip().splitlines()[-1:] or [""]
        return wall, 0.0, f"exit {process.returncode}: {tail[0][:120]}"


@contextlib.contextmanager
def terminal() -> Iterator[int]:
    """Somebody who looks on: what is written is read, so that nobody waits to write."""
    ours, theirs = os.openpty()

    def read() -> None:
        with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
            while os.read(ours, 65_536):
                continue

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        reader.join(10)
        os.close(ours)


def answer(argv: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """What a command prints as JSON. Raises CalledProcessError when it fails."""
    said = subprocess.run(argv, env=dict(env), cwd=env["HOME"], capture_output=True, text=True,
                          timeout=60, check=True)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def fail_over(program: str, env: Mapping[str, str]) -> None:
    """A failover that has ended, so that there is one to tell of. Raises SystemExit if not."""
    plan = answer([program, "plan", "failover", "hq", "--reason", "benchmark", "--json"], env)
    done = subprocess.run(
        [program, "failover", "hq", "--reason", "benchmark", "--yes",
         "--plan", str(plan["hash"])],
        env=dict(env), cwd=env["HOME"], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode not in (0, 11):
        raise SystemExit(f"the failover before the benchmark: exit {done.returncode}\n"
                         f"{done.stderr}")


def measure(commands: Sequence[Command], env: Mapping[str, str], rounds: int) -> list[Timing]:
    """Interleaved; the first command is the bare process. A command that fails is dropped."""
    timings = [Timing(command) for command in commands]
    for turn in range(WARM_UP + rounds):
        shift = turn % len(timings)
        for timing in timings[shift:] + timings[:shift]:
            if timing.failure is not None:
                continue
            try:
                wall, cpu, timing.failure = run_once(timing.command, env)
            except OSError as error:
                timing.failure = f"{error.strerror}: {timing.command.argv[0]}"
                continue
            if turn >= WARM_UP:
                timing.wall.append(wall)
                timing.cpu.append(cpu)
    return timings


def verdicts(timings: Sequence[Timing]) -> list[str]:
    """Every bar that was missed, every command that did not run."""
    bare = timings[0]
    if bare.failure is not None:
        return [f"{bare.command.label}: {bare.failure}"]
    ran = [timing for timing in timings if timing.failure is None]
    found = [f"{t.command.label}: {t.failure}" for t in timings if t.failure is not None]
    for timing in ran:
        ratio = timing.ratio(bare)
        if timing.command.bar is not None and ratio > timing.command.bar:
            found.append(f"{timing.command.label}: {ratio:.2f} times, the bar is "
                         f"{timing.command.bar:g}")
    # Like with like: what the peers are asked here is to say what they can do.
    for greeting in (timing for timing in ran if timing.command.label == "ccfailover --help"):
        found += [
            f"{greeting.command.label} is slower than {peer.command.label}"
            for peer in ran
            if not peer.command.ours and greeting.ratio(bare) >= peer.ratio(bare)
        ]
    return found


def table(timings: Sequence[Timing], rounds: int, where: str) -> str:
    bare = timings[0]
    lines = [
        f"`benchmarks/startup.py` · {rounds} interleaved rounds · {where} · {versions(timings)}",
        "",
        "| command | median ms | CPU ms | times the bare process | bar |",
        "|---|---:|---:|---:|---:|",
    ]
    for timing in timings:
        command = timing.command
        label = f"**`{command.label}`**" if command.ours and timing is not bare else (
            f"`{command.label}`")
        bar = f"{command.bar:g}" if command.bar is not None else ""
        if timing.failure is not None:
            lines.append(f"| {label} | – | – | not measured: {timing.failure} | {bar} |")
            continue
        lines.append(
            f"| {label} | {statistics.median(timing.wall) * 1000:.0f} "
            f"| {statistics.median(timing.cpu) * 1000:.0f} | {timing.ratio(bare):.2f} | {bar} |"
        )
    missed = verdicts(timings)
    lines += ["", "Every bar is met." if not missed else "Missed: " + "; ".join(missed) + "."]
    return "\n".join(lines)


def versions(timings: Sequence[Timing]) -> str:
    """Which peers were measured, from their own environment's metadata."""
    peers = [timing.command for timing in timings if not timing.command.ours]
    return peer_versions() if peers else "no peers"


def peer_versions() -> str:
    python = ROOT / ".venv-bench" / "bin" / "python"
    script = ("from importlib.metadata import version; "
              "print(*(n + ' ' + version(n) for n in "
              "('chaostoolkit', 'patroni', 'ansible-core')), sep=', ')")
    done = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or "peers of unknown version"


def commands(ours: Path, peers: Path | None) -> list[Command]:
    """`ours` and `peers` are the bin folders of the two environments."""
    program = str(ours / "ccfailover")
    listed = [
        Command("python -c 'import click'", [str(ours / "python"), "-c", "import click"]),
        Command("ccfailover --help", [program, "--help"], bar=1.5),
        Command("ccfailover status --json", [program, "status", "--json"], bar=3.0),
        Command("ccfailover status, into a pipe", [program, "status"], bar=3.0),
        Command("ccfailover status, at a terminal", [program, "status"], bar=4.5, terminal=True),
        # 0, 1 and 2 are verdicts; 3 would mean that it could not look.
        Command("ccfailover check", [program, "check"], good=(0, 1, 2)),
    ]
    if peers is not None:
        listed += [
            Command("chaos --help", [str(peers / "chaos"), "--help"], ours=False),
            Command("patronictl --help", [str(peers / "patronictl"), "--help"], ours=False),
            Command("ansible --version", [str(peers / "ansible"), "--version"], ours=False),
        ]
    return listed


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure start-up beside other tools.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    options = parser.parse_args()
    peers = ROOT / ".venv-bench" / "bin"
    listed = commands(Path(sys.executable).parent, None if options.ours else peers)
    look = next(command for command in listed if command.label == "ccfailover check")
    where = machine()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="ccfailover-bench-"))
        env = stack.enter_context(world(Path(place)))
        run_once(look, env)  # so that there is a stamp and an observation, as there always is
        fail_over(look.argv[0], env)
        timings = measure(listed, env, max(1, options.rounds))
    text = table(timings, max(1, options.rounds), where)
    print(text)
    if options.write:
        write("startup", text)
    return 1 if verdicts(timings) else 0


if __name__ == "__main__":
    sys.exit(main())
