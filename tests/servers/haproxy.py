"""A HAProxy of our own on loopback, which can be reloaded: a new process takes over the listeners
and the old one ends when its last session has."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.servers.start import free_port

GLOBAL = """\
global
    stats socket {place}/admin.sock mode 600 level admin expose-fd listeners
    stats socket {place}/look.sock mode 600 level user
    stats socket ipv4@127.0.0.1:{api} level admin
    stats timeout 30s
    maxconn 500
    nbthread 1
    server-state-file {place}/state
    log stdout format raw local0 err
defaults
    mode http
    timeout connect 1s
    timeout client 20s
    timeout server 20s
    retries 2
    option redispatch 1
    load-server-state-from-file global
"""
BACKENDS = """\
backend sites
    balance roundrobin
    server hq1 127.0.0.1:9 weight 100
    server acme1 127.0.0.1:9 weight 0
    server sorry 127.0.0.1:9 weight 0
backend wide
    balance roundrobin
    server hq1 127.0.0.1:9 weight 100
    server hq2 127.0.0.1:9 weight 100
    server acme1 127.0.0.1:9 weight 0
    server acme2 127.0.0.1:9 weight 0
    server acme3 127.0.0.1:9 weight 0
    server other 127.0.0.1:9 weight 0
    server spare 127.0.0.1:9 weight 50 backup
backend fixed
    balance source
    hash-type map-based
    server hq1 127.0.0.1:9 weight 60
    server acme1 127.0.0.1:9 weight 40
"""
"""One server a site; some; and an algorithm that takes no weights."""


class Haproxy:
    """`backends`: their part of the configuration. The front takes HTTP for the first one."""

    def __init__(self, program: str, backends: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="ccfailover-haproxy-"))
        self._program = program
        self._backends = backends
        self._old: list[subprocess.Popen[bytes]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self.socket, self.looking = str(self.place / "admin.sock"), str(self.place / "look.sock")
        self.state = self.place / "state"
        self.state.touch()

    def start(self) -> Haproxy:
        """A port that somebody else took in between costs another try."""
        for _ in range(5):
            self.api, self.front = free_port(), free_port()
            first = self._backends.split("backend ", 1)[1].split(None, 1)[0]
            (self.place / "haproxy.cfg").write_text(
                GLOBAL.format(place=self.place, api=self.api)
                + f"frontend front\n    bind 127.0.0.1:{self.front}\n"
                  f"    default_backend {first}\n{self._backends}")
            self._process = self._spawn()
            if self._up(self._process):
                return self
        raise RuntimeError(f"HAProxy did not come up: {(self.place / 'out').read_text()[-2000:]}")

    def reload(self) -> None:
        """As `systemctl reload` does it: the configuration is read anew."""
        assert self._process is not None
        old = self._process
        self._process = self._spawn("-x", self.socket, "-sf", str(old.pid))
        self._old.append(old)
        end = time.monotonic() + 10
        while f"Pid: {self._process.pid}" not in self._info():
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError((self.place / "out").read_text()[-2000:])
            time.sleep(0.02)

    def ask(self, line: str) -> str:
        """Past the adapter."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(self.socket)
            sock.sendall(line.encode() + b"\n")
            told = b""
            while part := sock.recv(65_536):
                told += part
        return told.decode()

    def weights(self, backend: str) -> dict[str, int]:
        """Of each server, 0 for one in drain or maint; as `show stat` tells it."""
        lines = self.ask(f"show stat {backend} 4 -1").strip().splitlines()
        names = lines[0][2:].split(",")
        rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:]]
        return {row["svname"]: 0 if row["status"].startswith(("MAINT", "DRAIN"))
                else int(row["uweight"]) for row in rows}

    def get(self, path: str = "/", timeout: float = 5.0) -> bytes:
        where = f"http://127.0.0.1:{self.front}{path}"
        with urllib.request.urlopen(where, timeout=timeout) as reply:
            return bytes(reply.read())

    def discard(self) -> None:
        for each in [*self._old, *([self._process] if self._process else [])]:
            each.kill()
            each.wait(10)
        shutil.rmtree(self.place, ignore_errors=True)

    def _spawn(self, *more: str) -> subprocess.Popen[bytes]:
        with (self.place / "out").open("ab") as out:
            return subprocess.Popen(
                [self._program, "-db", "-f", str(self.place / "haproxy.cfg"), *more],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def _info(self) -> str:
        with contextlib.suppress(OSError):
            return self.ask("show info")
        return ""

    def _up(self, process: subprocess.Popen[bytes]) -> bool:
        end = time.monotonic() + 10
        while time.monotonic() < end and process.poll() is None:
            if f"Pid: {process.pid}" in self._info():
                return True
            time.sleep(0.02)
        process.kill()
        process.wait(10)
        return False
