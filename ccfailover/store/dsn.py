"""The address of a PostgreSQL store: how it is read, completed, and shown without its password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ccfailover.errors import StoreError

SCHEMA = "ccfailover"
"""Where our tables are, out of the way of everybody else's in that database."""

_FORM = "postgresql://user@host1,host2:5433/database; @ : / in a password as %40 %3A %2F"


@dataclass(frozen=True)
class Address:
    params: dict[str, Any]
    """For `psycopg.connect`."""
    shown: str
    """For people: user, hosts and database."""
    secrets: list[str]
    """What must not occur in any message."""


def read(location: str, *, statement_timeout: float, lock_timeout: float) -> Address:
    """The address that `location` gives, with what makes a store of it; time-outs in seconds.

    A dead server is noticed within about ten seconds (keep-alives, `tcp_user_timeout`), of
    several hosts the one that takes writes is used, and a commit that returns is on its disk.
    Raises StoreError, which quotes nothing of a `location` that cannot be understood.
    """
    given = understood(location)
    timeouts = {
        "synchronous_commit": "on",
        "statement_timeout": f"{int(statement_timeout * 1000)}ms",
        "lock_timeout": f"{int(lock_timeout * 1000)}ms",
        "idle_in_transaction_session_timeout": "15s",
        "default_transaction_isolation": r"read\ committed",
        "search_path": SCHEMA,
    }
    ours = " ".join(f"-c {name}={value}" for name, value in timeouts.items())
    params: dict[str, Any] = {
        "connect_timeout": 5, "keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2,
        "keepalives_count": 3, "tcp_user_timeout": 10_000, "application_name": "ccfailover",
        **given,
        "target_session_attrs": "read-write", "client_encoding": "UTF8",
        "options": f"{given['options']} {ours}" if given.get("options") else ours,
    }
    secrets = [str(given[name]) for name in ("password", "sslpassword") if given.get(name)]
    return Address(params, _shown(given), secrets)


def understood(location: str) -> dict[str, Any]:
    """Its parts. Raises StoreError, which quotes nothing of it, for one that makes no sense or
    that libpq would understand in another way than a person."""
    authority = re.split(r"[/?]", location.partition("://")[2], maxsplit=1)[0]
    try:
        given = conninfo_to_dict(location)
    except psycopg.Error:
        raise _refused() from None
    ports = str(given.get("port") or "")
    hosts = str(given.get("host") or "")
    if (authority.count("@") > 1 or not re.fullmatch(r"[0-9]*(,[0-9]*)*", ports)
            or not re.fullmatch(r"[\w.:%/\[\],@-]*", hosts) or ("@" in hosts and "/" not in hosts)):
        raise _refused()
    return given


def _refused() -> StoreError:
    # Whatever could not be understood may be half of a password.
    return StoreError("the address of the PostgreSQL store cannot be understood",
                      not_done="no store was opened", hint=f"its form: {_FORM}")


def _shown(given: dict[str, Any]) -> str:
    hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
    ports = str(given.get("port") or "").split(",")
    if len(ports) < len(hosts):
        ports = ports * len(hosts) if len(ports) == 1 else [*ports, *[""] * len(hosts)]
    places = [f"{host}:{port}" if port else host
              for host, port in zip(hosts, ports, strict=False)]
    user = f"{given['user']}@" if given.get("user") else ""
    return f"postgresql://{user}{','.join(places)}/{given.get('dbname') or ''}"
