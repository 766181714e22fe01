"""The runtime API: one line of commands a connection, and text until HAProxy closes it.

There are no codes. What was done answers with an empty line, what was not with a sentence. Its
sentences quote names, so that only those known here are told, in our words.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.runtime import Runtime

REPLY_CAP: Final = 4 * 1_048_576
"""Bytes of one reply: `show stat` of some thousand servers."""
LINE_CAP: Final = 8000
"""Bytes of one line of commands: half of HAProxy's buffer (tune.bufsize, 16384)."""
_REFUSALS: Final = {
    "Can't find backend.": "there is no such backend",
    "No such backend.": "there is no such backend",
    "No such proxy.": "there is no such backend",
    "No such server.": "the backend has no such server",
    "Permission denied": "the socket's level does not allow it",
    "Backend is using a static LB algorithm":
        "the backend's algorithm is static and takes no weights",
}
_HINTS: Final = {
    "Permission denied": "give the stats socket `level admin`",
    "Backend is using a static LB algorithm": "say `static: true` in the policy",
}


class Link:
    def __init__(self, provider: str, address: str, runtime: Runtime, *, timeout: float) -> None:
        self.provider = provider
        self._address = address
        self._runtime = runtime
        self._timeout = timeout

    def until(self) -> float:
        """When a call that begins now has to be over, however many exchanges it takes."""
        return self._runtime.monotonic() + self._timeout

    def read(self, *commands: str, where: str, until: float) -> list[str]:
        """A reply for each command. Raises Rejected or Unavailable, which is never in doubt."""
        told = self._exchange("; ".join(commands), where, until, write=False)
        self._raise_refusal(told, where)
        replies = told.split("\n\n")
        if len(replies) != len(commands) + 1 or replies.pop():
            raise Rejected("the reply makes no sense: it is not what HAProxy says",
                           provider=self.provider, where=where)
        return replies

    def write(self, stages: Sequence[Sequence[str]], where: str, until: float) -> None:
        """Carry the commands out in this order, in as few lines as will do. HAProxy goes on with
        a line after a command that it refused: a stage begins only when those before it are done.

        Raises Rejected for a known refusal, and else Unavailable in doubt: the commands before it
        may be done."""
        done, whole = 0, sum(map(len, stages))
        for stage in stages:
            left = stage
            while left:
                count = _fitting(left)
                try:
                    self._tell(left[:count], where, until)
                except Unavailable as error:
                    if done:
                        error.what += f", after {done} of {whole} commands"
                        error.in_doubt = True
                    raise
                except Rejected as error:
                    if done:
                        error.not_done = f"only {done} of {whole} commands were done"
                    raise
                done += count
                left = left[count:]

    def _tell(self, commands: Sequence[str], where: str, until: float) -> None:
        told = self._exchange("; ".join(commands), where, until, write=True)
        if told.strip("\n") or len(told) != len(commands):
            self._raise_refusal(told, where)
            raise Unavailable("the reply makes no sense: it is not what HAProxy says",
                              in_doubt=True, provider=self.provider, where=where)

    def _raise_refusal(self, told: str, where: str) -> None:
        for line in told.splitlines()[:1000]:
            for start, meaning in _REFUSALS.items():
                if line.startswith(start):
                    raise Rejected(f"HAProxy refuses: {meaning}", provider=self.provider,
                                   where=where, hint=_HINTS.get(start))

    def _exchange(self, line: str, where: str, until: float, *, write: bool) -> str:
        sent = False
        with self._connected(where, until - self._runtime.monotonic()) as sock:
            try:
                sent = write  # from here on it may have been heard
                sock.sendall(line.encode("ascii") + b"\n")
                told = bytearray()
                while True:
                    left = until - self._runtime.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    sock.settimeout(left)
                    part = sock.recv(65_536)
                    if not part:
                        break
                    told += part
                    if len(told) > REPLY_CAP:
                        raise Unavailable(f"the reply is longer than {REPLY_CAP} bytes",
                                          in_doubt=sent, provider=self.provider, where=where)
            except OSError as error:
                raise Unavailable(f"no answer ({type(error).__name__})", in_doubt=sent,
                                  provider=self.provider, where=where) from None
        if not told:
            raise Unavailable("the connection ended without an answer", in_doubt=sent,
                              provider=self.provider, where=where)
        return told.decode("latin-1")

    def _connected(self, where: str, left: float) -> socket.socket:
        """Raises Unavailable, not in doubt; Rejected where this user may not use the socket."""
        try:
            if left <= 0:
                raise TimeoutError
            if not self._address.startswith("/"):
                host, _, port = self._address.rpartition(":")
                return socket.create_connection((host.strip("[]"), int(port)), left)
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.settimeout(left)
                sock.connect(self._address)
            except OSError:
                sock.close()
                raise
            return sock
        except PermissionError:
            raise Rejected(f"{self._address} is closed to this user", provider=self.provider,
                           where=where, not_done="nothing was sent",
                           hint="see `mode` and `group` of the stats socket") from None
        except (OSError, ValueError, OverflowError) as error:
            raise Unavailable(f"{self._address} cannot be reached ({type(error).__name__})",
                              in_doubt=False, provider=self.provider, where=where) from None


def _fitting(commands: Sequence[str]) -> int:
    size = count = 0
    for command in commands:
        size += len(command) + 2
        if count and size > LINE_CAP:
            break
        count += 1
    return count
