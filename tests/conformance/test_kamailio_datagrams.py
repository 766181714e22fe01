"""The datagram socket of a real Kamailio: whose answer it is, and what is left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route
from ccfailover.providers.kamailio import KamailioProvider
from ccfailover.runtime import SystemRuntime
from tests.servers.kamailio import DatagramWeather, Kamailio


def route(path: Path, timeout: float = 5.0) -> Route:
    params = {"socket": str(path), "destinations": {"hq": 10, "acme": 20, "message": 30},
              "timeout": timeout}
    return KamailioProvider(ProviderSpec("edge", "kamailio", params), resolve=str,
                            runtime=SystemRuntime()).route(LeverSpec("edge", "loan_calls"))


def test_an_answer_to_somebody_else_is_not_taken(kamailio: Kamailio) -> None:
    """It is passed over, and the right one waited for; one without an id says nothing."""
    kamailio.rpc("htable.sets", "split", "loan_calls", "10=100;v=start")
    with DatagramWeather(kamailio.socket) as weather:
        weather.next("stranger", "stranger")
        assert route(weather.path).read().shares == Shares({"hq": 100})
        weather.next("huge")
        with pytest.raises(Rejected, match="cut off"):
            route(weather.path).read()
        weather.next("nameless")
        with pytest.raises(Rejected, match="answers another call"):
            route(weather.path).read()


def test_a_flood_of_strange_answers_ends_in_time(kamailio: Kamailio) -> None:
    """Each of them is passed over, and none of them buys time."""
    with DatagramWeather(kamailio.socket) as weather:
        weather.next("flood")
        with pytest.raises(Unavailable, match="no reply in time"):
            route(weather.path, timeout=0.3).read()


def test_nothing_is_left_behind(kamailio: Kamailio) -> None:
    """No socket stays open, and no file of one."""
    first = route(kamailio.socket)
    first.read()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        first.read()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_socket_that_nobody_reads_or_may_not_be_used(tmp_path: Path) -> None:
    """A file left by an edge that is gone, no file at all, and a file that is no socket: nothing
    was sent."""
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(stale))
    (tmp_path / "file").write_text("")
    for path in (stale, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(Unavailable, match="unreachable: ") as caught:
            route(path).shift(Shares({"acme": 100}), expected=None, key="k")
        assert not caught.value.in_doubt and caught.value.not_done


def test_a_socket_that_is_full_is_given_up_in_time(tmp_path: Path) -> None:
    """An edge that hangs reads nothing: the call ends, and what was not sent is in no doubt."""
    path = tmp_path / "full.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        deaf.bind(str(path))
        filler.connect(str(path))
        filler.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                filler.send(b"x")
        with pytest.raises(Unavailable, match="no room in time") as caught:
            route(path, timeout=0.3).shift(Shares({"acme": 100}), expected=None, key="k")
        assert not caught.value.in_doubt
