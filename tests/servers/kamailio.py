"""A private Kamailio on loopback, from the configuration that we ship to users.

Ports, paths and the dispatcher's list are its own; `rpc` asks it past the adapter.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from tests.servers.start import free_port
from tests.servers.weather import Sky

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "kamailio"


class Kamailio:
    """`list` is the dispatcher's list file, `socket` its datagram socket; `defines` are NAME=VALUE
    of the configuration."""

    def __init__(self, program: str, *defines: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="ccf-kam-"))
        self.list, self.socket = self.place / "dispatcher.list", self.place / "rpc.sock"
        self.list.write_text((EXAMPLE / "dispatcher.list").read_text())
        self.http_port = self.sip_port = 0
        self._program, self._defines = program, defines
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Kamailio:
        """Returns when it answers. A port that somebody else grabbed costs another try."""
        for _ in range(5):
            self.http_port, self.sip_port = free_port(), _free_udp_port()
            with (self.place / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    process_group=0)
            if self._answers():
                return self
        raise RuntimeError(f"{self._program} did not come up: {self.log()[-2000:]}")

    def command(self, *more: str) -> list[str]:
        defined = [word for each in self._defines for word in ("-A", each)]
        return [self._program, "-f", str(EXAMPLE / "kamailio.cfg"), "-DD", "-E",
                "-m", "64", "-M", "4", "-P", str(self.place / "pid"), "-Y", str(self.place),
                "-A", f'DISPATCHER_LIST="{self.list}"', "-A", f'RPC_SOCKET="{self.socket}"',
                "-A", f"SIP_LISTEN=udp:127.0.0.1:{self.sip_port}",
                "-A", f"RPC_LISTEN=tcp:127.0.0.1:{self.http_port}", *defined, *more]

    def stop(self) -> None:
        """SIGTERM to its main process, which ends the others. Where one of them lets that pass, the
        main process would wait for it for ever: then all get SIGKILL."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)  # by itself it takes a tenth of one
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(60)
            self._process = None
        self.socket.unlink(missing_ok=True)
        (self.place / "pid").unlink(missing_ok=True)

    def discard(self) -> None:
        self.stop()
        shutil.rmtree(self.place, ignore_errors=True)

    def rpc(self, method: str, *params: str | int) -> Any:
        """The result; an error is a RuntimeError."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        reply = json.loads(exchange(self.socket, body.encode()))
        if "error" in reply:
            raise RuntimeError(reply["error"]["message"])
        return reply["result"]

    def destinations(self, number: int) -> dict[str, tuple[str, int]]:
        """URI → state (`AP`, `DX` …) and relative weight."""
        return {target["DEST"]["URI"]: (target["DEST"]["FLAGS"],
                                        target["DEST"].get("ATTRS", {}).get("RWEIGHT", 0))
                for record in self.rpc("dispatcher.list")["RECORDS"]
                if record["SET"]["ID"] == number
                for target in record["SET"]["TARGETS"]}

    def load(self, *lines: str) -> None:
        """The list gets these lines, and the edge loads them."""
        self.list.write_text("".join(f"{line}\n" for line in lines))
        self.rpc("dispatcher.reload")

    def log(self) -> str:
        return (self.place / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        assert self._process is not None
        end = time.monotonic() + 15
        while self._process.poll() is None and time.monotonic() < end:
            try:
                self.rpc("core.uptime")
                self._asked_over_http()
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
            else:
                return True
        self.stop()
        return False

    def _asked_over_http(self) -> None:
        """Its port is open before the processes are there that serve it, and they are forked last:
        one that gets SIGTERM while it begins forgets it, and never ends."""
        line = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=2)
        with contextlib.closing(line):
            line.request("POST", "/RPC", '{"jsonrpc": "2.0", "id": 1, "method": "core.uptime"}',
                         {"Content-Type": "application/json"})
            line.getresponse().read()


class DatagramWeather(Sky):
    """Weather before a datagram socket; `path` is where it stands itself."""

    modes: ClassVar[frozenset[str]] = frozenset({
        "fair", "hang", "lose_reply", "half", "garbage", "cut_reply", "stranger", "nameless",
        "huge", "flood"})

    def __init__(self, upstream: Path) -> None:
        super().__init__()
        self._upstream = upstream
        self._place = Path(tempfile.mkdtemp(prefix="ccf-dg-"))
        self.path = self._place / "rpc.sock"
        self.requests: list[bytes] = []
        self.strikes: Callable[[bytes], bool] = lambda request: True
        self._ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.bind(str(self.path))
        self._ours.settimeout(0.1)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        super().close()
        self._thread.join(5)
        self._ours.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                request, peer = self._ours.recvfrom(65_536)
            except TimeoutError:
                continue
            self.requests.append(request)
            mode = self.coming() if self.strikes(request) else "fair"
            with contextlib.suppress(ConnectionError, TimeoutError):  # it has had enough
                for reply in self._replies(mode, request):
                    self._ours.sendto(reply, peer)

    def _replies(self, mode: str, request: bytes) -> Iterable[bytes]:
        if mode == "flood":  # until the caller goes, or a test has hung
            return itertools.repeat(b'{"jsonrpc": "2.0", "id": "other", "result": 0}', 10**7)
        if mode in ("hang", "garbage", "huge"):
            return {"hang": (), "garbage": (b"\xff<html>",), "huge": (b" " * 200_000,)}[mode]
        if mode == "half":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.sendto(request[:len(request) // 2], str(self._upstream))
            return ()
        reply = exchange(self._upstream, request)
        if mode == "stranger":  # somebody else's answer first
            return (json.dumps({"jsonrpc": "2.0", "id": "other", "result": 0}).encode(), reply)
        if mode == "nameless":
            return (json.dumps({"jsonrpc": "2.0", "result": {}}).encode(),)
        return {"fair": (reply,), "lose_reply": (), "cut_reply": (reply[:-9],)}[mode]


def exchange(path: Path, body: bytes) -> bytes:
    """One datagram there and one back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind("")
        ours.settimeout(5)
        ours.connect(str(path))
        ours.send(body)
        return ours.recv(65_536)


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
