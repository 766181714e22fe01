#!/usr/bin/env python3
"""A Nagios plugin: does a SIP server answer OPTIONS?   check_sip.py ADDRESS [PORT] [SECONDS]

0: it answered with anything but a server's failure. 2: it did not, or with 5xx or 6xx. 3: it
could not be asked. One question, asked a second time halfway, because UDP may lose one.
"""

import errno
import os
import socket
import sys
import time

GOOD, BAD, UNKNOWN = 0, 2, 3


def ask(address: str, port: int, seconds: float) -> tuple[int, str]:
    began = time.monotonic()
    tag = os.urandom(8).hex()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect((address, port))
        own, own_port = line.getsockname()
        said = (f"OPTIONS sip:{address}:{port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {own}:{own_port};branch=z9hG4bK{tag};rport\r\n"
                f"From: <sip:check@{own}>;tag={tag}\r\nTo: <sip:{address}>\r\n"
                f"Call-ID: {tag}\r\nCSeq: 1 OPTIONS\r\nContact: <sip:check@{own}:{own_port}>\r\n"
                "Max-Forwards: 5\r\nContent-Length: 0\r\n\r\n").encode()
        for half in (0.5, 1.0):
            try:
                line.send(said)
                while (left := began + seconds * half - time.monotonic()) > 0:
                    line.settimeout(left)
                    answer = line.recv(4096).decode("utf-8", "replace")
                    # An answer to somebody else's question, or to an older one of ours, is none.
                    if tag not in answer or not answer.startswith("SIP/2.0 "):
                        continue
                    status = answer[8:11]
                    spent = time.monotonic() - began
                    if not status.isdigit() or status[0] in "56":
                        return BAD, f"{address} answered {status}|time={spent:.4f}s"
                    return GOOD, f"{address} answered {status}|time={spent:.4f}s"
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                return BAD, f"{address} refuses: nothing listens on port {port}"
            except OSError as error:
                if error.errno == errno.ENETUNREACH:  # that is our own line
                    return UNKNOWN, f"no way to {address} from here"
                return BAD, f"{address} cannot be reached: {error.strerror}"
    return BAD, f"{address} did not answer within {seconds:g} s"


def main() -> int:
    try:
        address = sys.argv[1]
        port = int(sys.argv[2]) if len(sys.argv) > 2 else 5060
        seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 2.0
    except (IndexError, ValueError):
        print("check_sip.py ADDRESS [PORT] [SECONDS]")
        return UNKNOWN
    code, said = ask(address, port, seconds)
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
