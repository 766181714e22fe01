"""Connecting, and psycopg's errors as ours. Only codes are shown: messages can quote a row."""

from __future__ import annotations

from typing import Any

import psycopg

from ccfailover.errors import ProviderError, Rejected, StoreError, Unavailable
from ccfailover.runtime import Runtime
from ccfailover.store import dsn
from ccfailover.store.postgres_link import Link

_BUSY = ("53", "40001", "40P01", "55P03", "57P03", "57014")
"""Classes and codes of what passes by itself: no room, a lost race, a lock, just starting, or a
statement that the server was told to stop. None of them leaves anything written."""
_GONE = ("57P01", "57P02", "08")
_OURS = ("28", "3D000", "42501")
_WRONG_TABLE = {"42P01": "there is no such table", "3F000": "there is no such schema",
                "42703": "the table lacks a column that is needed"}
BUSY_SECONDS = 1.0
DatabaseError = psycopg.Error


def connect(address: str, provider: str, runtime: Runtime, *, timeout: float) -> Link:
    """Raises Rejected for an address or a login that will never do, else Unavailable."""
    try:
        given: dict[str, Any] = dsn.understood(address)
    except StoreError:
        # Whatever could not be understood may be half of a password.
        raise Rejected("the address of the database cannot be understood", provider=provider,
                       where="connect", not_done="nothing was sent",
                       hint="postgresql://user:password@host:5432/database") from None
    milliseconds = max(1, int(timeout * 1000))
    options = (f"-c statement_timeout={milliseconds}ms -c lock_timeout={milliseconds}ms "
               r"-c default_transaction_isolation=read\ committed")
    if given.get("options"):
        options = f"{given['options']} {options}"
    try:
        link = Link.connect(**{
            "connect_timeout": max(2, int(min(timeout, 5.0))), "keepalives_idle": 5,
            "keepalives_interval": 2, "keepalives_count": 3,
            "tcp_user_timeout": milliseconds, "application_name": "ccfailover", **given,
            "client_encoding": "UTF8", "options": options}, autocommit=True)
    except psycopg.Error as error:
        raise as_provider_error(error, provider, "connect", writes=False) from None
    link.runtime, link.longest, link.grace = runtime, timeout, min(timeout, link.grace)
    link.prepare_threshold = 2
    return link


def as_provider_error(error: psycopg.Error, provider: str, where: str, *,
                      writes: bool) -> ProviderError:
    """Rejected when the same call will fail again, Unavailable when it may not."""
    code = error.sqlstate or ""
    if code in _WRONG_TABLE:
        return Rejected(f"{_WRONG_TABLE[code]} ({code})", provider=provider, where=where,
                        hint="compare the lever's `ref`, `keys` and `columns` with the database")
    if code.startswith(_OURS):
        return Rejected(f"the database refuses this login ({code})", provider=provider, where=where,
                        hint="ccfailover providers list says which rights it needs")
    if code.startswith(_BUSY):
        return Unavailable(f"the database has no room for it now ({code})", in_doubt=False,
                           provider=provider, where=where, retry_after=BUSY_SECONDS)
    if not code or code.startswith(_GONE):
        said = f"the connection was lost ({code or type(error).__name__})"
        return Unavailable(said, in_doubt=writes, provider=provider, where=where)
    return Rejected(f"the database refuses it ({code})", provider=provider, where=where)
