"""A line of the journal, and who wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Actor:
    """Who acts: a person's login or `cron`, on which host, as which process.

    `boot` and `started` (clock ticks since boot) tell a process from a later one that got its
    pid again; both are empty where the system does not say.
    """

    name: str
    host: str
    pid: int
    boot: str = ""
    started: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.host}[{self.pid}]"

    def to_json(self) -> dict[str, str | int]:
        return dict(self.__dict__)


LEASE_SECONDS = 30.0
"""How long a run may act after its last word from the store, where the policy does not say."""

BEATS = 6
"""Renewals in the time of one lease: a store that is away for two thirds of it loses no run."""


def person(actor: str) -> str:
    """The login in `name@host[pid]`, or in a bare name, as logins are compared.

    One person on two hosts, in capitals, or with signs that cannot be seen is one person. A name
    may hold an `@` itself.
    """
    name, at, rest = actor.rpartition("@")
    name = name if at and rest.endswith("]") else actor
    if not name.isascii():
        from unicodedata import category, normalize  # most logins need none

        name = "".join(c for c in normalize("NFKC", name) if category(c) != "Cf")
    return name.strip().casefold()


@dataclass(frozen=True)
class Record:
    """One event. `hash` covers the canonical text of everything else and `prev`."""

    stream: str
    seq: int
    at: int
    fence: int
    actor: str
    kind: str
    data: Mapping[str, Any]
    prev: str
    hash: str


@dataclass(frozen=True)
class Lease:
    """Permission to act on `scopes` until `expires_at` (µs). `fence` rises with every holder.

    `borrowed`: by a process that helps the holder. It ends with the holder's own, which alone
    prolongs it.
    """

    run: str
    fence: int
    scopes: tuple[str, ...]
    holder: Mapping[str, Any]
    since: int
    expires_at: int
    borrowed: bool = False
