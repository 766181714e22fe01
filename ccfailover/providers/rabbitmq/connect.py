"""Making a link: address, TLS, login, and the limits that both sides keep to."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ccfailover import __version__
from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.providers.rabbitmq import wire
from ccfailover.providers.rabbitmq.address import Address
from ccfailover.providers.rabbitmq.faults import lost
from ccfailover.providers.rabbitmq.link import Link
from ccfailover.runtime import Runtime

_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_US: Final[Mapping[str, str | bool | Mapping[str, bool]]] = {
    "product": "ccfailover", "version": __version__, "platform": "Python",
    "capabilities": {"publisher_confirms": True, "basic.nack": True, "connection.blocked": True,
                     "consumer_cancel_notify": True, "authentication_failure_close": True},
}


def connect(address: Address, provider: str, runtime: Runtime, *, timeout: float,
            heartbeat: int, ca: str | None = None, where: str = "connect") -> Link:
    """A link whose channel is open; the whole of it takes at most `timeout` seconds, the look-up
    of a name apart. Raises Rejected for a login that will never do, else Unavailable; neither is
    in doubt, since nothing was asked of the broker yet."""
    deadline = runtime.monotonic() + timeout
    sock = _socket(address, provider, where, timeout, ca, runtime)
    if isinstance(sock, ssl.SSLSocket):
        link = Link(sock, provider, where, runtime, pending=sock.pending, again=_AGAIN)
    else:
        link = Link(sock, provider, where, runtime)
    try:
        _agree(link, address, heartbeat, deadline, provider, where)
    except (ProviderError, wire.Nonsense, struct.error) as error:
        link.drop()
        if isinstance(error, ProviderError):
            raise
        raise lost(f"the reply makes no sense: {error}", provider, where) from None
    return link


def _socket(address: Address, provider: str, where: str, timeout: float, ca: str | None,
            runtime: Runtime) -> socket.socket:
    shown, deadline = address.shown, runtime.monotonic() + timeout
    try:
        sock = socket.create_connection((address.host, address.port), timeout=timeout)
    except OSError as error:
        raise lost(f"{shown} cannot be reached ({type(error).__name__})", provider,
                   where) from None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not address.tls:
            return sock
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca is not None:
            context = ssl.create_default_context(cadata=Path(ca).read_text(encoding="ascii"))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        sock.setblocking(False)
        wrapped = context.wrap_socket(sock, server_hostname=address.host,
                                      do_handshake_on_connect=False)
        _shake_hands(wrapped, runtime, deadline)
        return wrapped
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise Rejected(f"the certificate of {shown} is not to be trusted ({error.verify_code})",
                       provider=provider, where=where, not_done="no login was sent",
                       hint="name the authority that issued it with `ca`") from None
    except (OSError, ValueError) as error:
        sock.close()
        raise Unavailable(f"no TLS with {shown} ({type(error).__name__})", in_doubt=False,
                          provider=provider, where=where) from None


def _shake_hands(sock: ssl.SSLSocket, runtime: Runtime, deadline: float) -> None:
    """Step by step: a time-out of the socket would begin anew with every byte."""
    poll = select.poll()
    poll.register(sock)
    while True:
        try:
            sock.do_handshake()
            return
        except ssl.SSLWantReadError:
            poll.modify(sock, select.POLLIN)
        except ssl.SSLWantWriteError:
            poll.modify(sock, select.POLLOUT)
        left = deadline - runtime.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError


def _agree(link: Link, address: Address, heartbeat: int, deadline: float, provider: str,
           where: str) -> None:
    start = wire.Reader(link.call(wire.HEADER, wire.START, deadline))
    start.take(2)
    start.long()  # what it says of itself
    if b"PLAIN" not in start.long().split():
        raise Rejected("the broker takes no user name and password (PLAIN)", provider=provider,
                       where=where, not_done="no login was sent",
                       hint="allow PLAIN in its auth_mechanisms")
    login = b"\0" + address.user.encode() + b"\0" + address.password.encode()
    tune = wire.Reader(link.call(
        wire.method(wire.START_OK, wire.table(_US) + wire.short("PLAIN") + wire.long(login)
                    + wire.short("en_US"), 0), wire.TUNE, deadline))
    tune.take(2)
    offered = tune.u32()
    link.largest = min(offered or wire.FRAME_MAX, wire.FRAME_MAX)
    if link.largest < 4096:
        raise wire.Nonsense("its frames are smaller than AMQP allows")
    link.send(wire.tune_ok(link.largest, heartbeat), deadline)
    link.call(wire.method(wire.OPEN, wire.short(address.vhost) + b"\0\0", 0), wire.OPEN_OK,
              deadline)
    link.call(wire.method(wire.CHANNEL_OPEN, b"\0"), wire.CHANNEL_OPEN_OK, deadline)
    link.heartbeat = heartbeat
