"""examples/asterisk: the program and the policy, on a stand-in for the manager interface."""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.policy import load as policy_load
from ccfailover.providers import Route
from ccfailover.providers.command import CommandProvider
from ccfailover.runtime import SystemRuntime
from ccfailover.wiring.kinds import Schemas

HERE = Path(__file__).resolve().parents[3] / "examples" / "asterisk"
MOVED = Shares({"acme": 70, "message": 30})


class Manager(socketserver.ThreadingTCPServer):
    """Login, DBGet and DBPut, packets as documented; `cut` hangs up when it has put."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.values = {"8005550199": "hq=100"}
        self.cut = False
        self.port = int(self.server_address[1])


class Session(socketserver.StreamRequestHandler):
    server: Manager

    def handle(self) -> None:
        self.wfile.write(b"Asterisk Call Manager/9.0.0\r\n")
        known = False
        while packet := self.packet():
            action = packet["Action"]
            if action == "Login":
                known = (packet["Username"], packet["Secret"]) == ("ccfailover", "ami-5ecret")
                self.say("Response: Success", "Message: Authentication accepted") if known else \
                    self.say("Response: Error", "Message: Authentication failed")
                self.say("Event: FullyBooted", "Status: Fully Booted")
            elif not known:
                self.say("Response: Error", "Message: Permission denied")
            elif action == "DBGet" and packet["Key"] not in self.server.values:
                self.say("Response: Error", "Message: Database entry not found")
            elif action == "DBGet":
                self.say("Response: Success", "Message: Result will follow")
                self.say("Event: DBGetResponse", f"Family: {packet['Family']}",
                         f"Key: {packet['Key']}", f"Val: {self.server.values[packet['Key']]}")
                self.say("Event: DBGetComplete", "EventList: Complete")
            elif action == "DBPut":
                self.server.values[packet["Key"]] = packet["Val"]
                if self.server.cut:
                    return
                self.say("Response: Success", "Message: Updated database successfully")

    def packet(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while line := self.rfile.readline(1000).decode().rstrip("\r\n"):
            name, _, value = line.partition(": ")
            found[name] = value
        return found

    def say(self, *lines: str) -> None:
        self.wfile.write("\r\n".join([*lines, "", ""]).encode())


@pytest.fixture
def manager() -> Iterator[Manager]:
    with Manager() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def route(port: int, secret: str = "ami-5ecret", ref: str = "8005550199") -> Route:
    names = {"hq": "hq", "acme": "acme", "message": "message"}
    argv = [sys.executable, "-I", "-S", str(HERE / "asterisk-lever"), "127.0.0.1", str(port),
            "ccfailover"]
    return CommandProvider(
        ProviderSpec("pbx", "command", {"argv": argv, "env": {"AMI_SECRET": "env:S"},
                                        "destinations": names}),
        resolve={"env:S": secret}.__getitem__, runtime=SystemRuntime()).route(
            LeverSpec("pbx", ref))


def test_shares_are_one_value(manager: Manager) -> None:
    lever = route(manager.port)
    assert lever.read().shares == Shares({"hq": 100})
    lever.shift(MOVED, expected=lever.read(), key="k")
    assert manager.values["8005550199"] == "acme=70&message=30"
    assert lever.read().shares == MOVED


def test_what_fails_is_told_apart(manager: Manager) -> None:
    """A wrong login and an unknown number are refused; a broken line is in doubt after the write,
    and no doubt before."""
    with pytest.raises(Rejected, match="Authentication failed"):
        route(manager.port, secret="wrong-one").read()
    with pytest.raises(Rejected, match="Database entry not found"):
        route(manager.port, ref="1").read()
    manager.values["2"] = "nonsense"
    with pytest.raises(Rejected, match="none of ours"):
        route(manager.port, ref="2").read()
    manager.cut = True
    with pytest.raises(Unavailable) as caught:
        route(manager.port).shift(MOVED, expected=None, key="k")
    assert caught.value.in_doubt
    manager.server_close()
    manager.shutdown()
    with pytest.raises(Unavailable, match="come again") as gone:
        route(manager.port).shift(MOVED, expected=None, key="k")
    assert not gone.value.in_doubt


def test_the_policy_is_valid() -> None:
    policy = policy_load.load(str(HERE / "policy.yaml"), Schemas(), now=SystemRuntime().now(),
                              environ={"AMI_SECRET": "x"})
    assert policy.queues["loan_calls"].route is not None
