"""What runs on the machines of the lab: Kamailio, SIPp as sites and as callers, and the taps."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from siplab.network import HOSTS, Network, stop

LAB = Path(__file__).resolve().parent.parent
EDGE_CONFIG = LAB.parent / "kamailio" / "kamailio.cfg"

SETS: Mapping[str, int] = {"hq": 10, "acme": 20, "message": 30}
"""Site or treatment → its dispatcher set at the edge."""

NUMBERS: Mapping[str, str] = {"loan_calls": "18005550100", "servicing": "18005550111"}
"""Line → the number that its callers dial."""

RPC_PORT = 8060

BUFFER = 4 * 1024 * 1024
"""Bytes of messages that wait until a program reads them, as far as the kernel allows. SIPp's own
64 KB are full within a tenth of a second at 200 calls a second, and what comes then is lost."""

HASTE = ("nice", "-n", "-10")
"""In front of what plays a machine of its own: it shares this one with whatever else runs here, and
a second in which it does not get the processor looks like a site that is silent."""


@dataclass(frozen=True)
class Tally:
    """What SIPp itself counted of its calls."""

    good: int
    failed: int


class Machines:
    """`with Machines(net, folder) as them`: edge, sites and taps are up; afterwards none is."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.net = net
        self.folder = folder
        self.sites: dict[str, subprocess.Popen[bytes]] = {}
        self._generation: dict[str, int] = {}
        self._callers: dict[str, subprocess.Popen[bytes]] = {}
        self._taps: dict[str, subprocess.Popen[bytes]] = {}
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Machines:
        try:
            for host in ("edge", *SETS):
                self._tap(host)
            for site in SETS:
                self.start_site(site)
            self._edge()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Every process that was started here, by its pid; a frozen one too."""
        for process in reversed(self._all):
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)
            stop(process)
        self._all.clear()

    def start(self, host: str, command: Sequence[str], log: str, *,
              piped: bool = False) -> subprocess.Popen[bytes]:
        """A program on one of the machines; what it prints goes to `log`, or with `piped` to us."""
        with open(self.folder / log, "ab") as out:
            process = subprocess.Popen(
                self.net.inside(host, *HASTE, *command), cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else out, stderr=out, process_group=0)
        self._all.append(process)
        return process

    # The edge

    def _edge(self) -> None:
        hosts = self.folder / "dispatcher.list"
        hosts.write_text("".join(f"{number} sip:{HOSTS[site]}:5060 0 0 site={site}\n"
                                 for site, number in SETS.items()))
        defined = {
            "SIP_LISTEN": f"udp:{HOSTS['edge']}:5060", "RPC_LISTEN": f"tcp:127.0.0.1:{RPC_PORT}",
            "RPC_SOCKET": f'"{self.folder}/rpc.sock"', "DISPATCHER_LIST": f'"{hosts}"',
            "PROBE_FROM": f'"sip:edge@{HOSTS["edge"]}"',
            "IN_CALL_WAIT": "5000",  # a call takes seconds here
        }
        edge = self.start("edge", [
            "kamailio", "-f", str(EDGE_CONFIG), "-DD", "-E", "-m", "512", "-M", "8",
            "-b", str(BUFFER),
            "-Y", str(self.folder), "-P", str(self.folder / "kamailio.pid"),
            *(word for name, value in defined.items() for word in ("-A", f"{name}={value}")),
        ], "kamailio.log")
        until = time.monotonic() + 15
        while True:
            try:
                self.rpc("core.uptime")
                break
            except (OSError, ValueError, RuntimeError):
                if edge.poll() is not None or time.monotonic() > until:
                    tail = (self.folder / "kamailio.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"Kamailio did not come up:\n{tail}") from None
                time.sleep(0.05)
        for line, number in NUMBERS.items():
            self.rpc("htable.sets", "queue", number, line)
        # acme has a line of its own, which must not notice that hq fails.
        self.rpc("htable.sets", "split", "servicing", "10=0;20=100;30=0;v=start")

    def spill(self, on: bool) -> None:
        """Whether the edge itself gives another site a call that its own does not take."""
        if on:
            self.rpc("htable.sets", "spill", "loan_calls", "20;30")
        else:
            self.rpc("htable.delete", "spill", "loan_calls")

    def rpc(self, method: str, *params: object) -> object:
        """One JSON-RPC call over the datagram socket, which every namespace can see."""
        own = self.folder / f"rpc-{os.getpid()}.sock"
        own.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.bind(str(own))
            line.settimeout(2.0)
            line.connect(str(self.folder / "rpc.sock"))
            line.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                                  "params": list(params)}).encode())
            answer = json.loads(line.recv(262_144))
        own.unlink(missing_ok=True)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def states(self) -> dict[str, str]:
        """Site → the two flags by which the edge routes to it: AP takes calls, IP is inactive."""
        listed = self.rpc("dispatcher.list")
        by_uri = {f"sip:{HOSTS[site]}:5060": site for site in SETS}
        found: dict[str, str] = {}

        def walk(node: object) -> None:
            if isinstance(node, dict):
                if "URI" in node and "FLAGS" in node:
                    found[by_uri.get(str(node["URI"]), str(node["URI"]))] = str(node["FLAGS"])
                for value in node.values():
                    walk(value)
            elif isinstance(node, list):
                for value in node:
                    walk(value)

        walk(listed)
        return found

    def live(self, site: str) -> int:
        """Calls in progress there, as the edge counts them."""
        return int(str(self.rpc("dlg.profile_get_size", "site", site)))

    def shares(self, line: str) -> dict[str, int]:
        """Site → percent of that line's new calls, as the edge holds it."""
        held = str(self.rpc("htable.get", "split", line))
        return {site: int(found[1]) if (found := re.search(rf"\b{number}=(\d+)", held)) else 0
                for site, number in SETS.items()}

    def live_of(self, line: str, site: str) -> int:
        return int(str(self.rpc("dlg.profile_get_size", "route", f"{line}:{site}")))

    # Sites

    def start_site(self, site: str) -> None:
        number = self._generation[site] = self._generation.get(site, 0) + 1
        self.sites[site] = self.start(site, [
            "sipp", "-sf", str(LAB / "site.xml"), "-i", HOSTS[site], "-p", "5060",
            "-mp", "6000", "-nostdin", "-buff_size", str(BUFFER), "-trace_shortmsg",
            "-shortmessage_file", str(self.folder / f"{site}.{number}.short"),
        ], f"{site}.out")

    def own_count(self, site: str) -> set[str]:
        """Call-IDs of the INVITEs that the site's own program wrote down."""
        seen: set[str] = set()
        for path in self.folder.glob(f"{site}.*.short"):
            for line in path.read_text(errors="replace").splitlines():
                fields = line.split("\t")
                if "R" in fields and any(field.startswith("INVITE ") for field in fields):
                    seen.update(field for field in fields
                                if field.partition("-")[0] in NUMBERS)
        return seen

    # Callers

    def start_caller(self, line: str, cps: int, hold: float) -> None:
        port = 5070 + 10 * len(self._callers)
        self._callers[line] = self.start("carrier", [
            "sipp", f"{HOSTS['edge']}:5060", "-sf", str(LAB / "caller.xml"),
            "-s", NUMBERS[line], "-i", HOSTS["carrier"], "-p", str(port),
            "-mp", str(7000 + 10 * len(self._callers)), "-cid_str", f"{line}-%u-%p@%s",
            "-r", str(cps), "-d", str(round(hold * 1000)), "-l", "15000", "-m", "100000000",
            "-recv_timeout", "15000", "-nostdin", "-buff_size", str(BUFFER), "-trace_stat", "-stf",
            str(self.folder / f"{line}.stat"), "-fd", "1", "-trace_err", "-error_file",
            str(self.folder / f"{line}.err"),
        ], f"{line}.out")

    def hang_up(self, seconds: float) -> dict[str, Tally]:
        """No new calls; those in progress come to their end. Line → what SIPp counted."""
        for process in self._callers.values():
            process.send_signal(signal.SIGUSR1)
        until = time.monotonic() + seconds
        for process in self._callers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
        return {line: self._tally(line) for line in self._callers}

    def _tally(self, line: str) -> Tally:
        with open(self.folder / f"{line}.stat", newline="") as table:
            last = list(csv.DictReader(table, delimiter=";"))[-1]
        return Tally(int(last["SuccessfulCall(C)"]), int(last["FailedCall(C)"]))

    # Taps

    def _tap(self, host: str) -> None:
        tap = self.start(host, [sys.executable, "-I", "-S", str(LAB / "siplab" / "tap.py"),
                                str(self.folder / f"{host}.tap")], f"{host}.tap.out",
                         piped=True)
        assert tap.stdout is not None
        if tap.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the tap at {host} did not start: see {self.folder}")
        self._taps[host] = tap

    def taps(self) -> dict[str, list[str]]:
        """Ends the taps. Host → the lines that it wrote. Raises when one has missed a packet."""
        found = {}
        for host, process in self._taps.items():
            stop(process)
            lines = (self.folder / f"{host}.tap").read_text().splitlines()
            if not lines or lines[-1] != "# dropped 0":
                raise RuntimeError(f"the tap at {host} is not complete: {lines[-1:]}")
            found[host] = lines[:-1]
        return found
