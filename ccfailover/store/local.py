"""A local journal: an ordinary store in a file that goes on where the mirror ends.

It begins with every event that this machine has seen, verbatim, so that it verifies by itself
and a later import knows where the two journals part. Leases, scopes and facts follow from these
events. The ledger of work items is not in it: items never move without the shared store.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ccfailover.errors import StoreError
from ccfailover.model.journal import Actor
from ccfailover.runtime import Runtime
from ccfailover.store import Store, chain, incidents, open_store
from ccfailover.store.db import Transaction
from ccfailover.store.mirror import Mirror
from ccfailover.store.record import insert

FORKED = "journal.forked"
BATON = "baton.taken"
IMPORTED = "journal.imported"
"""The last event of a local journal, once the shared store has it."""


def current(base: str) -> str | None:
    """The local journal that is not imported yet, of those named `BASE.db`, `BASE.2.db`, …"""
    found = _newest(base)
    return found if found is not None and not _is_imported(found) else None


def vacant(base: str) -> str:
    """The name of the next local journal."""
    number = 1
    while os.path.lexists(_name(base, number)):
        number += 1
    return _name(base, number)


def _newest(base: str) -> str | None:
    number = 1
    while os.path.lexists(_name(base, number)):
        number += 1
    return _name(base, number - 1) if number > 1 else None


def _name(base: str, number: int) -> str:
    return f"{base}.db" if number == 1 else f"{base}.{number}.db"


def _is_imported(path: str) -> bool:
    import sqlite3

    try:
        connection = sqlite3.connect(path)
        try:
            row = connection.execute(
                "SELECT text FROM journal WHERE stream = ? ORDER BY seq DESC LIMIT 1",
                (chain.AUTOMATION,)).fetchone()
        finally:
            connection.close()
        return row is not None and json.loads(row[0])["kind"] == IMPORTED
    except (sqlite3.Error, ValueError, KeyError):
        return False  # whatever it is, it is not done with


def begin(mirror: Mirror, path: str, runtime: Runtime, *, actor: Actor) -> Store:
    """The local journal at `path`, begun from the mirror when it is new (`:memory:` to look only).

    Every run's fence starts at the highest that this machine has seen. Raises StoreError when
    the mirror cannot be read, never saw the store, or does not hold every run whole.
    """
    if path != ":memory:" and os.path.lexists(path):
        store = open_store(path, runtime)
        if store.head(chain.AUTOMATION)[0]:
            return store
        store.close()  # whoever began it was killed before it had anything in it
    mirror.required()
    missing = mirror.missing()
    if not mirror.at or missing:
        said = (f"the mirror does not hold {', '.join(missing[:5])} to the end" if missing
                else "this machine has never seen the shared store")
        raise StoreError(said, where=mirror.path, not_done="no local journal was begun",
                         hint="use a machine that ran `check` with the shared store; or begin "
                         "with an empty journal: CCFAILOVER_STORE=/path/to/new.db ccfailover …")
    store = open_store(path, runtime)
    with store._db.transaction("begin a local journal") as tx:
        if tx.execute("SELECT 1 FROM journal LIMIT 1"):
            return store  # another process was faster
        heads = mirror.heads()
        for stream in heads:
            for event in mirror.events(stream):
                tx.journal(*event)
        _runs(tx, mirror)
        _facts(tx, mirror)
        tx.many("INSERT INTO history (key, at, text) VALUES (:key, :at, :text)",
                [{"key": key, "at": at, "text": text} for key, at, text in mirror.histories()])
        insert(tx, chain.AUTOMATION, FORKED, {
            "from": mirror.source, "seen_at": mirror.at, "fence": mirror.fence,
            "seal": chain.digest(chain.manifest_text(heads)), "host": actor.host,
        }, actor=str(actor), fence=0)
    return store


def _runs(tx: Transaction, mirror: Mirror) -> None:
    """The index of runs and the scopes of those that have not ended; nobody holds them."""
    known: dict[str, int] = {}
    ended: dict[str, str] = {}
    for _, _, text, _ in mirror.events(chain.RUNS):
        body = json.loads(text)
        data = body["data"]
        if body["kind"] in ("run.created", "run.imported"):
            known[data["run"]] = data["number"]
        elif body["kind"] == "run.ended":
            ended[data["run"]] = data["state"]
    for run, number in known.items():
        tx.execute(
            "INSERT INTO run (number, id, ended, fence, holder, since, expires_at, ttl) "
            "VALUES (:number, :id, :ended, :fence, NULL, :now, :expires, 0)",
            {"number": number, "id": run, "ended": ended.get(run), "fence": mirror.fence,
             "now": tx.now, "expires": 0 if run in ended else tx.now})
        if run not in ended:
            for scope in scopes_of(tx, run):
                tx.execute("INSERT INTO scope (name, run) VALUES (:name, :run) "
                           "ON CONFLICT (name) DO UPDATE SET run = excluded.run",
                           {"name": scope, "run": run})


def scopes_of(tx: Transaction, run: str) -> tuple[str, ...]:
    """What a run was given at its start."""
    rows = tx.execute("SELECT text FROM journal WHERE stream = :stream AND seq = 1",
                      {"stream": chain.run_stream(run)})
    return tuple(json.loads(rows[0][0])["data"]["scopes"]) if rows else ()


def _facts(tx: Transaction, mirror: Mirror) -> None:
    from ccfailover.model.plan import canonical

    facts: dict[str, Any] = {}
    names: dict[str, list[str]] = {"open": [], "all": []}
    for _, seq, text, _ in mirror.events(chain.AUTOMATION):
        body = json.loads(text)
        if body["kind"] == "fact.set":
            facts[body["data"]["name"]] = body["data"]["value"]
        elif body["kind"].startswith(incidents.KIND):
            incident = str(body["data"]["incident"])
            names = incidents.after({incident: body["kind"]}, names)
            facts.setdefault(incidents.PREFIX + incident, []).append(seq)
            facts[incidents.NAMES] = names
    tx.many("INSERT INTO fact (name, value) VALUES (:name, :value)",
            [{"name": name, "value": canonical(value)} for name, value in facts.items()])
