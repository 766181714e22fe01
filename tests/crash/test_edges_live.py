"""HAProxy and BIND under load: a site dies, work moves, work comes back, counted at the sites."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import server_or_skip
from tests.servers.bind import SECRET, ZONE, Bind
from tests.servers.edge_load import Contact, Load, Resolver
from tests.servers.haproxy import Haproxy

HOSTS = {"hq": "127.0.0.11", "acme": "127.0.0.12"}
SRV = "_calls._tcp.edge"
TTL = 1
WEB, CALLS = 60, 40
"""Contacts a second."""
SLACK = 0.3
"""Seconds that a contact may be on its way to a lever: the machine has more to do."""
SITE = Path(__file__).resolve().parents[1] / "servers" / "edge_site.py"

POLICY = """\
version: 1
name: edges
timezone: UTC
store: {store}
probe_defaults: {{every: 2s, timeout: 2s, fall: 1, rise: 1}}
sites:
  hq:
    kind: in_house
    probes: [{{kind: http, url: "http://{hq}/health"}}]
    staff: {{calls: {{agents: 40, handle_time: 300s}}, applications: {{per_hour: 900}}}}
  acme:
    kind: outsourced
    probes: [{{kind: http, url: "http://{acme}/health"}}]
    staff: {{calls: {{agents: 60, handle_time: 300s}}, applications: {{per_hour: 900}}}}
providers:
  web:
    kind: haproxy
    address: {socket}
    zero: drain
    destinations: {{hq: hq1, acme: acme1}}
  names:
    kind: dns
    server: 127.0.0.1
    port: {dns}
    zone: {zone}
    key: {{name: ccf, secret: "env:TSIG"}}
    ttl: {ttl}
    destinations: {{hq: "hq.cc.test:{hq_port}", acme: "acme.cc.test:{acme_port}"}}
queues:
  calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 1
    home_down: hold
    normal: {{hq: 100}}
    load: {{per_hour: 60, minutes_per_contact: 5}}
    route: {{provider: names, ref: {srv}}}
  applications:
    channel: application
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 2
    home_down: hold
    normal: {{hq: 100}}
    load: {{per_hour: 60}}
    intake: {{provider: web, ref: sites}}
runbooks:
  full_failover: {{before: [{{confirm: {{}}}}], branch: [
    {{redirect_intake: {{}}}}, {{shift_route: {{}}}}, {{verify: {{interval: 0.1}}}}]}}
  failback: {{before: [{{confirm: {{}}}}], branch: [
    {{redirect_intake: {{}}}}, {{shift_route: {{}}}}, {{verify: {{interval: 0.1}}}}]}}
"""


class Sites:
    """Two processes that answer, and write down each contact that reaches them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {}
        for name, host in HOSTS.items():
            with socket.create_server((host, 0)) as held:
                self.ports[name] = int(held.getsockname()[1])
            self.log(name).touch()

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def start(self, name: str) -> None:
        host, port = HOSTS[name], self.ports[name]
        self._running[name] = subprocess.Popen(
            [sys.executable, str(SITE), name, host, str(port), str(self.log(name))])
        until(lambda: _connects(host, port))

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def saw(self, name: str) -> Counter[str]:
        return Counter(self.log(name).read_text().splitlines())


class Moments:
    """When each lever was first seen elsewhere, looked at past the program every 20 ms."""

    def __init__(self, proxy: Haproxy, primary: Bind) -> None:
        self._ask: dict[str, Callable[[], bool]] = {
            "web": lambda: proxy.weights("sites")["acme1"] > 0,
            "calls": lambda: "acme" in "".join(primary.records(SRV, "SRV")[1])}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.at: dict[str, list[tuple[float, float]]] = {"web": [], "calls": []}
        """Of each change, in turn (to acme, back to hq): when it was last seen as before, and
        first as after."""

    def __enter__(self) -> Moments:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        last = dict.fromkeys(self.at, time.monotonic())
        while not self._stop.wait(0.02):
            for name, away in self._ask.items():
                asked = time.monotonic()
                if away() != bool(len(self.at[name]) % 2):
                    self.at[name].append((last[name], time.monotonic()))
                last[name] = asked


class Program:
    """ccfailover as a process of its own."""

    def __init__(self, policy: Path) -> None:
        self._environment = {**os.environ, "CCFAILOVER_POLICY": str(policy), "TSIG": SECRET,
                             "HOME": str(policy.parent)}

    def act(self, *words: str) -> None:
        plan = json.loads(self._say("plan", *words, "--reason", "a test", "--json"))
        self._say(*words, "--reason", "a test", "--yes", "--plan", plan["hash"])

    def _say(self, *words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "ccfailover", *words], capture_output=True,
                              text=True, timeout=60, env=self._environment)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def until(fn: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not fn():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    made = Sites(tmp_path)
    try:
        for name in HOSTS:
            made.start(name)
        yield made
    finally:
        made.stop()


@pytest.fixture
def proxy(sites: Sites) -> Iterator[Haproxy]:
    server = Haproxy(server_or_skip("haproxy"), f"""\
backend sites
    option httpchk GET /health
    timeout check 3s
    default-server check inter 200ms fall 2 rise 1
    server hq1 {HOSTS["hq"]}:{sites.ports["hq"]} weight 100
    server acme1 {HOSTS["acme"]}:{sites.ports["acme"]} weight 0
""")
    try:
        yield server.start()
    finally:
        server.discard()


def lost(contacts: Sequence[Contact]) -> list[Contact]:
    return [each for each in contacts if each.site is None]


def at(site: str, contacts: Sequence[Contact]) -> set[str]:
    return {each.path for each in contacts if each.site == site}


@pytest.mark.slow
def test_a_site_dies_behind_haproxy_and_behind_the_dns(
        tmp_path: Path, sites: Sites, proxy: Haproxy, bind: Bind, capsys: Any) -> None:
    """hq is killed under load: from the shift on (in the DNS: a TTL later) nothing is lost and
    nothing reaches it; the way back loses nothing, nor what is under way at acme."""
    bind.put(SRV, "SRV", [f"10 100 {sites.ports['hq']} hq.cc.test."], ttl=TTL)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(
        store=tmp_path / "store.db", socket=proxy.socket, dns=bind.port, zone=ZONE, ttl=TTL,
        srv=SRV, hq_port=sites.ports["hq"], acme_port=sites.ports["acme"],
        hq=f"{HOSTS['hq']}:{sites.ports['hq']}", acme=f"{HOSTS['acme']}:{sites.ports['acme']}"))
    program = Program(policy)
    with (Load("web", WEB, lambda: ("127.0.0.1", proxy.front)) as web,
          Load("calls", CALLS, Resolver(bind.port, f"{SRV}.{ZONE}.")) as calls,
          Moments(proxy, bind) as moments):
        until(lambda: min(len(web.contacts), len(calls.contacts)) > 50)
        assert not lost(web.contacts) and not lost(calls.contacts)
        assert not sites.saw("acme")

        dead = time.monotonic()
        sites.kill("hq")
        program.act("failover", "hq")
        until(lambda: all(moments.at.values()))
        web_away, calls_away = moments.at["web"][0][1], moments.at["calls"][0][1]
        settled = calls_away + TTL
        until(lambda: time.monotonic() > settled + 1)

        sites.start("hq")
        until(lambda: "hq1 127.0.0.11 2" in proxy.ask("show servers state sites"))
        long = [threading.Thread(target=load.one, args=(f"/slow/{n}{load is web}",))
                for n in range(5) for load in (web, calls)]
        for each in long:
            each.start()
        until(lambda: sum(path.startswith("/slow/") for path in sites.saw("acme")) == 10)
        program.act("failback", "hq")
        until(lambda: all(len(each) == 2 for each in moments.at.values()))
        web_back, calls_back = moments.at["web"][1], moments.at["calls"][1]
        home = max(web_back[1], calls_back[1] + TTL)
        for each in long:
            each.join()
        until(lambda: time.monotonic() > home + 1)
    with capsys.disabled():
        print(f"\nweb: {len(web.contacts)} contacts, {len(lost(web.contacts))} lost in the "
              f"{web_away - dead:.2f} s before the shift; calls: {len(calls.contacts)}, "
              f"{len(lost(calls.contacts))} lost in {calls_away - dead:.2f} s and a TTL of {TTL} s")

    # Between the fault and the shift something is lost, or the test has shown nothing.
    assert lost(calls.contacts)
    assert not lost(web.since(web_away)), "behind HAProxy: none from the shift on"
    assert not lost(calls.since(settled)), "in the DNS: none from a TTL after the shift on"

    # All that the callers were told, the sites have: once.
    for site in HOSTS:
        told = at(site, [*web.contacts, *calls.contacts])
        seen = sites.saw(site)
        assert told <= set(seen), f"{site} answered what it never saw"
    everything = sites.saw("hq") + sites.saw("acme")
    assert max(everything.values()) == 1, [p for p, n in everything.items() if n > 1]
    away = [each for each in [*web.since(web_away), *calls.since(settled)]
            if each.sent < min(web_back[0], calls_back[0]) - SLACK]
    assert len(away) > 100 and {each.site for each in away} == {"acme"}
    back = [*web.since(home), *calls.since(home)]
    assert len(back) > 50 and {each.site for each in back} == {"hq"}
    assert sum(path.startswith("/slow/") for path in at("acme", web.contacts)) == 5
    assert sum(path.startswith("/slow/") for path in at("acme", calls.contacts)) == 5
