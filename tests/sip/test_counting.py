"""How the SIP lab counts: lines of its taps → what became of each call. And its probe."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from siplab import calls, tap

from tests.conftest import ROOT

CARRIER, HQ, ACME = "10.77.0.2", "10.77.0.11", "10.77.0.12"
CHECK = ROOT / "examples" / "sip-lab" / "check_sip.py"


def edge(*seen: tuple[float, str, str, str, str]) -> list[str]:
    return [f"{round(at * 1e9)}\t{way}\t{other}\t{what}\t{method}\tloan_calls-1-9@x"
            for at, way, other, what, method in seen]


OFFERED = (0.0, "I", CARRIER, "INVITE", "INVITE")
SENT = (0.1, "O", HQ, "INVITE", "INVITE")
ANSWERED = [OFFERED, SENT, (0.2, "I", HQ, "200", "INVITE"), (0.3, "O", CARRIER, "200", "INVITE")]
HUNG_UP = (5.0, "I", CARRIER, "BYE", "BYE")


def one(*seen: tuple[float, str, str, str, str]) -> calls.Call:
    (found,) = calls.calls(edge(*seen))
    return found


def test_a_call_that_was_seen_through() -> None:
    call = one(*ANSWERED, HUNG_UP, (5.1, "O", CARRIER, "200", "BYE"))
    assert (call.site, call.answered, call.ended) == ("hq", 0.3, 5.1)
    assert not call.lost and not call.dropped and not call.rerouted
    assert call.in_progress(1.0) and not call.in_progress(0.25) and not call.in_progress(5.05)


@pytest.mark.parametrize("end", [
    [], [HUNG_UP], [HUNG_UP, (6.0, "O", CARRIER, "408", "BYE")],
])
def test_a_call_without_a_regular_end_was_dropped(
    end: list[tuple[float, str, str, str, str]]
) -> None:
    """No hang-up, nobody who answers it, or an edge that says that nobody does."""
    call = one(*ANSWERED, *end)
    assert call.dropped and call.failed and not call.lost
    assert call.in_progress(1.0)


@pytest.mark.parametrize("end", [
    [], [(1.0, "O", CARRIER, "100", "INVITE")], [(1.0, "O", CARRIER, "503", "INVITE")],
    # A site whose answer does not reach the caller has answered nobody.
    [(1.0, "I", HQ, "200", "INVITE")],
])
def test_a_call_that_nobody_answered_was_lost(
    end: list[tuple[float, str, str, str, str]]
) -> None:
    call = one(OFFERED, SENT, *end)
    assert call.lost and call.failed and not call.dropped and not call.in_progress(9.0)


def test_a_refusal_is_not_made_good_by_a_late_answer() -> None:
    call = one(OFFERED, SENT, (1.0, "O", CARRIER, "503", "INVITE"),
               (2.0, "O", CARRIER, "200", "INVITE"))
    assert call.lost


def test_rerouted_and_repeated() -> None:
    """The second site counts, a repeated INVITE is no new try, and a ghost's answer is none."""
    call = one(OFFERED, SENT, (0.6, "O", HQ, "INVITE", "INVITE"),
               (1.1, "O", ACME, "INVITE", "INVITE"), (1.2, "I", ACME, "200", "INVITE"),
               (1.3, "O", CARRIER, "200", "INVITE"), (4.0, "I", HQ, "200", "INVITE"), HUNG_UP,
               (5.1, "O", CARRIER, "200", "BYE"))
    assert [site for site, _ in call.tries] == ["hq", "acme"]
    assert call.site == "acme" and call.rerouted and not call.failed
    found = calls.phase("detect", [call], 0.0, 1.0)
    assert (found.new, found.rerouted, found.lost, found.answered["acme"]) == (1, 1, 0, 1)
    assert found.slowest == pytest.approx(1.3)
    assert [(held.site, held.calls, held.dropped) for held in calls.held([call], 2.0)] \
        == [("hq", 0, 0), ("acme", 1, 0), ("message", 0, 0)]


def packet(body: bytes, port: int = 5060) -> bytes:
    ip = b"\x45" + bytes(8) + b"\x11" + bytes(2) + socket.inet_aton(CARRIER) \
        + socket.inet_aton(HQ)
    return bytes(12) + b"\x08\x00" + ip + struct.pack("!HHHH", port, port, len(body) + 8, 0) + body


INVITE = b"INVITE sip:1@x SIP/2.0\r\nCall-ID: loan_calls-1-9@x\r\nCSeq: 1 INVITE\r\n\r\n"
AT = struct.pack("qq", 12, 345)


def test_the_tap_reads_a_message() -> None:
    assert tap.line(packet(INVITE), tap.HOST, AT) \
        == f"12000000345\tI\t{CARRIER}\tINVITE\tINVITE\tloan_calls-1-9@x"
    assert tap.line(packet(INVITE.replace(b"INVITE sip:1@x SIP/2.0", b"SIP/2.0 200 OK")),
                    tap.OUTGOING, AT) == f"12000000345\tO\t{HQ}\t200\tINVITE\tloan_calls-1-9@x"


@pytest.mark.parametrize("data", [
    b"", bytes(60), packet(INVITE, 5061), packet(b""), packet(b"\x00"),
    packet(INVITE.replace(b"Call-ID", b"Other")), packet(INVITE.replace(b"CSeq", b"Other")),
    packet(INVITE)[:43], packet(INVITE)[:60],
])
def test_the_tap_passes_over_what_is_no_sip(data: bytes) -> None:
    assert tap.line(data, tap.HOST, AT) is None


@contextmanager
def answering(*replies: bytes) -> Iterator[int]:
    """A SIP server that gives these answers to the first question; `TAG` is the question's own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)

        def serve() -> None:
            question, asker = server.recvfrom(4096)
            tag = question.split(b"Call-ID: ")[1].split(b"\r\n")[0]
            for reply in replies:
                server.sendto(reply.replace(b"TAG", tag), asker)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            thread.join(11)


def checked(port: int, seconds: str = "5") -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-I", "-S", str(CHECK), "127.0.0.1", str(port), seconds],
                          capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout


GOOD = b"SIP/2.0 200 OK\r\nCall-ID: TAG\r\n\r\n"


def test_the_probe_believes_only_an_answer_to_its_own_question() -> None:
    with answering(b"SIP/2.0 503 Other\r\nCall-ID: somebody\r\n\r\n", b"\xff\x00TAG", GOOD) as port:
        code, said = checked(port)
    assert code == 0 and "answered 200|time=" in said


@pytest.mark.parametrize("status, code", [(b"404", 0), (b"486", 0), (b"503", 2), (b"600", 2)])
def test_the_probe_tells_a_failing_server(status: bytes, code: int) -> None:
    with answering(GOOD.replace(b"200", status)) as port:
        assert checked(port)[0] == code


def test_the_probe_gives_up_by_itself() -> None:
    """Silence is BAD, not a plugin that hangs; so is a port on which nothing listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert checked(port, "0.2") == (2, "127.0.0.1 did not answer within 0.2 s\n")
    code, said = checked(port, "0.2")
    assert code == 2 and "refuses" in said
    assert checked(0, "x")[0] == 3
