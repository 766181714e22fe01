"""A tap on the line of one machine: `ip netns exec NAME python tap.py FILE`.

It writes a line for each SIP message that passes, as the kernel saw it pass, so that a machine
which is frozen, dead or mute is counted at its door all the same:

    nanoseconds since the epoch, I or O, other address, method or status, CSeq's method, Call-ID

It prints "ready" once it listens, ends at SIGTERM, and then writes `# dropped N`: how many the
kernel could not hand over. A count is worth something only where that is 0.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys

ETH_P_ALL = 0x0003
HOST, OUTGOING = 0, 4
"""What passes for this machine, and from it; a bridge may flood it with what is for others."""
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SOL_PACKET, PACKET_STATISTICS = 263, 6
SIP_PORT = 5060
BUFFER = 32 * 1024 * 1024


def line(data: bytes, kind: int, at: bytes) -> str | None:
    """One packet as a line; None: it is no SIP. Hostile or torn packets are no SIP."""
    if len(data) < 42 or data[12:14] != b"\x08\x00" or data[23] != socket.IPPROTO_UDP:
        return None
    start = 14 + (data[14] & 0x0F) * 4
    if SIP_PORT not in struct.unpack_from("!HH", data, start):
        return None
    body = data[start + 8:]
    first = body[:body.find(b"\r\n")].split(b" ")
    call = header(body, b"\r\nCall-ID:")
    cseq = header(body, b"\r\nCSeq:").split(b" ")
    if len(first) < 3 or not call or len(cseq) != 2:
        return None
    what = first[1] if first[0] == b"SIP/2.0" else first[0]
    other = data[30:34] if kind == OUTGOING else data[26:30]
    seconds, nanoseconds = struct.unpack("qq", at)
    return "\t".join((str(seconds * 1_000_000_000 + nanoseconds), "O" if kind == OUTGOING else "I",
                      socket.inet_ntoa(other), what.decode("ascii", "replace"),
                      cseq[1].decode("ascii", "replace"), call.decode("ascii", "replace")))


def header(body: bytes, name: bytes) -> bytes:
    start = body.find(name)
    if start < 0:
        return b""
    start += len(name)
    return body[start:body.find(b"\r\n", start)].strip()


def main() -> None:
    going = True

    def end(*_: object) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap,
          open(sys.argv[1], "w", encoding="ascii", buffering=1 << 16) as out):
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        tap.bind(("eth0", 0))
        tap.settimeout(0.1)
        print("ready", flush=True)
        while going:
            try:
                data, extra, _, address = tap.recvmsg(2048, 64)
            except TimeoutError:
                continue
            except OSError:  # the line went down; it comes up again
                continue
            if address[2] not in (HOST, OUTGOING):
                continue
            at = next((value for level, name, value in extra
                       if level == socket.SOL_SOCKET and name == SO_TIMESTAMPNS), b"")
            if len(at) == 16 and (said := line(data, address[2], at)):
                out.write(said + "\n")
        _, dropped = struct.unpack("II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        out.write(f"# dropped {dropped}\n")


if __name__ == "__main__":
    main()
