"""Contacts at a steady rate, each by a connection of its own, and what became of every one.

By a fixed address, or by SRV records that are looked up anew when their TTL is over and no sooner.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

Where = Callable[[], tuple[str, int]]


@dataclass(frozen=True)
class Contact:
    """`path` names it at the site; `site` is who answered, None: nobody. Monotonic seconds."""

    path: str
    sent: float
    site: str | None


class Load:
    """Begins with the first `with`, ends with its end; by then every contact has its result."""

    def __init__(self, name: str, rate: float, where: Where) -> None:
        self._name, self._pause, self._where = name, 1 / rate, where
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.contacts: list[Contact] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def one(self, path: str) -> Contact:
        sent = time.monotonic()
        site = None
        try:
            host, port = self._where()
            connection = http.client.HTTPConnection(host, port, timeout=8)
            try:
                connection.request("GET", path)
                reply = connection.getresponse()
                body = reply.read(100).decode()
                site = body if reply.status == 200 else None
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            site = None
        found = Contact(path, sent, site)
        self.contacts.append(found)
        return found

    def since(self, moment: float) -> list[Contact]:
        return [each for each in self.contacts if each.sent >= moment]

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        with ThreadPoolExecutor(24) as pool:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                pool.submit(self.one, f"/{self._name}/{number}")
                number, due = number + 1, due + self._pause


class Resolver:
    """SRV by RFC 2782, with a cache that keeps to the TTL."""

    def __init__(self, port: int, name: str) -> None:
        self._port, self._name = port, name
        self._lock = threading.Lock()
        self._chance = random.Random(7)
        self._kept: dict[tuple[str, str], tuple[float, list[str]]] = {}

    def __call__(self) -> tuple[str, int]:
        with self._lock:
            records = [each.split() for each in self._look(self._name, "SRV")]
            first = min(int(each[0]) for each in records)
            best = [each for each in records if int(each[0]) == first]
            record = self._chance.choices(best, [int(each[1]) or 0.01 for each in best])[0]
            return self._look(record[3], "A")[0], int(record[2])

    def _look(self, name: str, kind: str) -> list[str]:
        until, found = self._kept.get((name, kind), (0.0, []))
        if time.monotonic() < until:
            return found
        asked = time.monotonic()
        reply = self._asked(name, kind)
        rrset = next(each for each in reply.answer
                     if each.rdtype == dns.rdatatype.from_text(kind))
        found = [each.to_text() for each in rrset]
        self._kept[name, kind] = (asked + rrset.ttl, found)
        return found

    def _asked(self, name: str, kind: str) -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        for _ in range(4):
            with contextlib.suppress(dns.exception.Timeout):
                return dns.query.udp(query, "127.0.0.1", port=self._port, timeout=1)
        raise OSError("the name server is silent")
