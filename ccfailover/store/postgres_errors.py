"""What PostgreSQL or libpq said, in plain words, without a password or a row's contents."""

from __future__ import annotations

import psycopg

from ccfailover.errors import StoreError
from ccfailover.store.db import Unwritten

LONGEST = 400
"""Characters of a server's own words that are passed on."""


_ASK = "see its log, then: ccfailover status"

_REASONS: dict[str, tuple[str, str]] = {
    "25P03": ("this process stood still in the middle of a write, and the server gave it up",
              "see what stopped this process, then: ccfailover status"),
    "25006": ("this server only takes readers now: it is no primary any more",
              "name every host that may become primary in the store's address"),
    "40001": ("another write was in the way", "try again"),
    "40P01": ("another write was in the way", "try again"),
    "42501": ("the database user may not do this",
              "let its owner grant it all on the schema `ccfailover`, and CREATE on the database "
              "for `ccfailover db upgrade`"),
    "53100": ("the server's disk is full", "make room there, then: ccfailover status"),
    "53300": ("the server takes no more connections",
              "see who holds them: select * from pg_stat_activity"),
    "55P03": ("another process has kept the store locked for too long",
              "see who holds it: select * from pg_stat_activity where state like 'idle in%'"),
    "57014": ("the server took too long", _ASK),
    "57P01": ("the server was stopped, or ended this connection", _ASK),
    "57P02": ("the server crashed", _ASK),
    "57P03": ("the server is starting up or shutting down", "try again in a moment"),
}

_PASSING = frozenset(("25P03", "25006", "40001", "40P01", "53300", "55P03", "57P01", "57P02",
                      "57P03"))

_LOST = ("the database does not answer",
         "see that it runs and can be reached from this machine: ccfailover doctor")
_OTHER = ("the store could not do this", "ccfailover journal verify")


def explain(error: psycopg.Error, path: str, not_done: str, secrets: list[str]) -> StoreError:
    """The StoreError for `error`; `Unwritten` for what passes, which only holds when nothing
    was committed."""
    state = error.sqlstate or ""
    lost = not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    reason, hint = _REASONS.get(
        state, _LOST if lost or state.startswith("08") else _OTHER)
    kind = Unwritten if lost or state in _PASSING or state.startswith("08") else StoreError
    # Only the first line of what a server says: its details quote rows.
    said = error.diag.message_primary or str(error)
    return kind(f"{reason} ({scrubbed(said, secrets)})", where=path, not_done=not_done, hint=hint)


def scrubbed(text: str, secrets: list[str]) -> str:
    """One line of bounded length, in which no secret occurs."""
    for secret in secrets:
        text = text.replace(secret, "***")
    line = "; ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= LONGEST else line[:LONGEST] + "…"
