"""Two hosts, a store and a switch in network namespaces; the store is cut off from one host.

Run by `test_two_hosts.py` as root inside a network namespace of its own, which is the middle of
everything: `unshare --net python two_hosts.py FOLDER cable|replies POSTGRES`, the last being the
folder of PostgreSQL's programs. Prints what was seen, as JSON.

Every host reaches the store and the switch by a wire of its own each. `cable`: the wire to the
store is pulled, and the switch stops answering that host, so that it has a call under way, which
it would try again. `replies`: what the host says still arrives at the store, and no answer
comes back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.servers.postgres import Postgres  # noqa: E402

LEASE = 5.0
TOKEN = "only-for-tests"
STORE, SWITCH = "10.99.8.1", "10.99.9.1"
WIRES = {"a": {"store": "10.99.1", "switch": "10.99.2"},
         "b": {"store": "10.99.3", "switch": "10.99.4"}}
ADDRESS = {"store": STORE, "switch": SWITCH}

POLICY = f"""\
version: 1
name: two_hosts
timezone: UTC
store: {{path: "env:SHARED_STORE", location: elsewhere, lease: {LEASE:g}s}}
probe_defaults: {{every: 1s, timeout: 1s, fall: 2, rise: 1}}
sites:
  hq:
    kind: in_house
    location: head_office
    probes: [{{kind: http, url: "@SWITCH/truth"}}]
    staff: {{loan_calls: {{agents: 10, handle_time: 300s}}}}
  acme:
    kind: outsourced
    location: acme_campus
    probes: [{{kind: http, url: "@SWITCH/truth"}}]
    staff: {{loan_calls: {{agents: 20, handle_time: 300s}}}}
providers:
  edge:
    kind: http
    url: "@SWITCH"
    auth: {{bearer: "env:SWITCH_TOKEN"}}
    timeout: 2s
    destinations: {{hq: hq, acme: acme, callback: callback}}
    route:
      read: {{path: "/routes/{{ref}}", shares: /shares, version: etag}}
      shift:
        method: PUT
        path: "/routes/{{ref}}"
        if_match: true
        body: '{{"shares": {{{{ shares | tojson }}}}}}'
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: callback
    normal: {{hq: 100}}
    load: {{per_hour: 60, minutes_per_contact: 5}}
    route: {{provider: edge, ref: loan_calls}}
    shift: {{increments: {list(range(10, 101, 10))}, soak: 200ms}}
runbooks:
  full_failover: {{before: [{{confirm: {{}}}}], branch: [{{shift_route: {{deadline: 60}}}}]}}
"""


def run(*words: str) -> None:
    subprocess.run(words, check=True)


class Net:
    """The wires. Everything in the middle goes with the namespace; the hosts' are removed."""

    def __init__(self) -> None:
        self._names = {host: f"ccf{os.getpid()}{host}" for host in WIRES}

    def __enter__(self) -> Net:
        run("ip", "link", "set", "lo", "up")
        for address in ADDRESS.values():
            run("ip", "addr", "add", f"{address}/32", "dev", "lo")
        for host, wires in WIRES.items():
            name = self._names[host]
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            for what, net in wires.items():
                run("ip", "link", "add", f"{host}-{what}", "type", "veth", "peer", "name", what,
                    "netns", name)
                run("ip", "addr", "add", f"{net}.1/24", "dev", f"{host}-{what}")
                run("ip", "link", "set", f"{host}-{what}", "up")
                run("ip", "-n", name, "addr", "add", f"{net}.2/24", "dev", what)
                run("ip", "-n", name, "link", "set", what, "up")
                run("ip", "-n", name, "route", "add", ADDRESS[what], "via", f"{net}.1")
        return self

    def __exit__(self, *error: object) -> None:
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], check=False)

    def cut(self, host: str, how: str) -> None:
        if how == "cable":
            run("ip", "link", "set", f"{host}-store", "down")
        else:
            run("ip", "route", "add", "blackhole", f"{WIRES[host]['store']}.2/32")

    def mend(self, host: str, how: str) -> None:
        if how == "cable":
            run("ip", "link", "set", f"{host}-store", "up")
        else:
            run("ip", "route", "del", "blackhole", f"{WIRES[host]['store']}.2/32")

    def start(self, host: str, folder: Path, environment: dict[str, str],
              *words: str) -> tuple[subprocess.Popen[bytes], Path]:
        """ccfailover on that host, with a terminal, under a host name of its own."""
        log = folder / f"{host}-{words[0]}-{time.monotonic_ns()}.log"
        terminal, inside = os.openpty()
        named = f"echo host-{host} > /proc/sys/kernel/hostname; exec \"$@\""
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._names[host], "unshare", "--uts", "sh", "-c", named,
                 "sh", sys.executable, "-m", "ccfailover", *words],
                stdin=inside, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT,
                env={**environment, "XDG_STATE_HOME": str(folder / f"state-{host}")})
        os.close(inside)
        _TERMINALS.append(terminal)  # open for as long as we live
        return process, log


_TERMINALS: list[int] = []


class Leases(threading.Thread):
    """Looks at the lease all the time: until when each fence was good, by the server's clock,
    which is this machine's."""

    def __init__(self, postgres: Postgres) -> None:
        super().__init__(daemon=True)
        self._postgres, self.over = postgres, threading.Event()
        self.until: dict[int, float] = {}

    def run(self) -> None:
        import psycopg

        with psycopg.connect(self._postgres.dsn("shared"), autocommit=True) as connection:
            while not self.over.wait(0.01):
                for fence, expires in connection.execute(
                        "SELECT fence, expires_at FROM ccfailover.run").fetchall():
                    self.until[fence] = max(self.until.get(fence, 0.0), expires / 1e6)


def ask(port: int, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{SWITCH}:{port}{path}", data,
                                     method="GET" if body is None else "PUT")
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: dict[str, object] = json.loads(answer.read())
        return found


def story(folder: Path, how: str, net: Net, postgres: Postgres, port: int) -> dict[str, object]:
    dsn = postgres.new_database("shared").replace("127.0.0.1", STORE)
    policy = folder / "policy.yaml"
    policy.write_text(POLICY.replace("@SWITCH", f"http://{SWITCH}:{port}"))
    environment = {"PATH": os.environ["PATH"], "CCFAILOVER_POLICY": str(policy),
                   "SHARED_STORE": dsn, "SWITCH_TOKEN": TOKEN, "HOME": str(folder),
                   "CCFAILOVER_ACTOR": "dana", "PYTHONFAULTHANDLER": "1"}
    ask(port, "/truth/loan_calls", {"shares": {"hq": 100}})
    first, first_log = net.start("a", folder, environment, "failover", "hq", "--reason", "INC-1",
                                 "--yes")
    address = WIRES["a"]["switch"] + ".2"

    def arrivals(host: str) -> list[float]:
        wanted = WIRES[host]["switch"] + ".2"
        return [one["at"] for one in ask(port, "/truth")["arrivals"]  # type: ignore[attr-defined]
                if one["from"] == wanted]

    def until(true: object, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not true():  # type: ignore[operator]
            assert time.monotonic() < end, f"{what}: {first_log.read_text()[-1500:]}"
            time.sleep(0.01)

    until(lambda: len(arrivals("a")) >= 3, 30, "host a does not begin")
    watch = Leases(postgres)
    watch.start()
    if how == "cable":
        ask(port, "/truth-stall", {"from": address, "seconds": 30})
        seen = len(arrivals("a"))
        until(lambda: len(arrivals("a")) > seen, 10, "no call is under way")
    net.cut("a", how)
    cut = time.time()
    codes: list[int] = []
    while not codes or codes[-1] == 5:
        second, second_log = net.start("b", folder, environment, "resume", "--yes")
        codes.append(second.wait(60))
        assert len(codes) < 60, second_log.read_text()
    finished = time.time()
    fences = sorted(watch.until)
    net.mend("a", how)
    ended = first.wait(90)
    time.sleep(1.0)
    watch.over.set()
    watch.join()
    truth = ask(port, "/truth")
    return {
        "cut": cut, "a_until": watch.until[fences[0]], "a_writes": arrivals("a"),
        "b_writes": arrivals("b"), "b_codes": codes, "b_finished": finished, "a_code": ended,
        "a_said": first_log.read_text(), "b_said": second_log.read_text(), "fences": fences,
        "shares": truth["routes"], "dsn": postgres.dsn("shared"),
        "verify": _verify(postgres.dsn("shared")),
    }


def _verify(dsn: str) -> list[str]:
    from ccfailover.runtime import SystemRuntime
    from ccfailover.store import open_store

    store = open_store(dsn, SystemRuntime())
    try:
        return [str(problem) for problem in store.verify()]
    finally:
        store.close()


def main(folder: Path, how: str, programs: Path) -> None:
    with Net() as net:
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/servers/switch.py"), "--token", TOKEN, "--host",
             SWITCH], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        postgres = Postgres(programs, beside=STORE)
        try:
            assert server.stdout is not None
            port = int(json.loads(server.stdout.readline())["port"])
            seen = story(folder, how, net, postgres.start(), port)
            sys.stdout.write(json.dumps(seen) + "\n")
        finally:
            server.kill()
            server.wait()
            postgres.discard()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
