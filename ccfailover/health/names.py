"""Host names to addresses before a poll, so that one dead name server cannot hold it up.

`getaddrinfo` blocks and cannot be called off. Here it runs in threads that are left behind when
time is up, and neither curl nor a socket ever has to wait for a name.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import ip_address

from ccfailover.runtime import Runtime

AT_ONCE = 32
PATIENCE = 2.0
"""Seconds for all names together, at most 40 % of what the poll may take."""


def lookup(
    hosts: Collection[str], runtime: Runtime, deadline: float
) -> dict[str, tuple[str, ...]]:
    """The addresses of each host; none for a name that could not be resolved in time.

    A name that does not resolve says more about the observer's resolver than about the site:
    callers make it UNKNOWN, never BAD.
    """
    found: dict[str, tuple[str, ...]] = {host: (host,)
        for host in hosts if _is_address(host)}
    names = [host for host in hosts if host not in found]
    if names:
        left = max(0.0, deadline - runtime.monotonic())
        until = runtime.monotonic() + min(PATIENCE, 0.4 * left)
        answers = runtime.each_by(_addresses, names, AT_ONCE, until)
        found.update(zip(names, (answer or () for answer in answers), strict=True))
    return found


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(name: str) -> tuple[str, ...]:
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # ValueError: no name at all, such as one too long for IDNA
        return ()
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))[:4]
