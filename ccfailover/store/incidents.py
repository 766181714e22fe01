"""Incidents: their events in `automation`, and an index over them.

The index is two kinds of fact: `incidents` names those that are open and all there ever were,
`incident/ID` the numbers of one's events. So nobody reads a long stream to find a few. It is
written with the event in one transaction, is not journaled, proves nothing, and is compared with
the journal by `verify`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ccfailover.model.journal import Record
from ccfailover.model.plan import canonical
from ccfailover.store import chain
from ccfailover.store.record import insert

if TYPE_CHECKING:
    from ccfailover.store import Store
    from ccfailover.store.db import Transaction

NAMES = "incidents"
PREFIX = "incident/"
KIND = "incident."
DECLARED, CLOSED = "incident.declared", "incident.closed"


def write(store: Store, incident: str, kind: str, data: Mapping[str, Any], *, actor: str,
          expected: int) -> Record | None:
    """Add one event of an incident, durable on return. None, and nothing written, when it has
    another number of events than `expected`: somebody else wrote meanwhile, so look again."""
    return store._db.perform(
        lambda: _write(store, incident, kind, data, actor=actor, expected=expected))


def _write(store: Store, incident: str, kind: str, data: Mapping[str, Any], *, actor: str,
           expected: int) -> Record | None:
    with store._db.transaction(f"{kind} of {incident}", on=chain.AUTOMATION) as tx:
        numbers: list[int] = _fact(tx, PREFIX + incident, [])
        if len(numbers) != expected:
            return None
        record = insert(tx, chain.AUTOMATION, kind, {"incident": incident, **data}, actor=actor,
                        fence=0)
        _keep(tx, PREFIX + incident, [*numbers, record.seq])
        if kind in (DECLARED, CLOSED):
            names = _fact(tx, NAMES, {"open": [], "all": []})
            _keep(tx, NAMES, after({incident: kind}, names))
        return record


def after(kinds: Mapping[str, str], names: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The index of names once each incident had an event of that kind."""
    now, ever = list(names["open"]), list(names["all"])
    for incident, kind in kinds.items():
        if kind == DECLARED:
            now.append(incident)
            ever.append(incident)
        elif kind == CLOSED and incident in now:
            now.remove(incident)
    return {"open": now, "all": ever}


def names(store: Store, *, only_open: bool) -> list[str]:
    """The ids of incidents, in the order in which they were declared."""
    found = store.fact(NAMES) or {"open": [], "all": []}
    return list(found["open" if only_open else "all"])


def events(store: Store, incident: str) -> list[Record]:
    """One incident's events, in order; [] for one that is not known."""
    numbers: list[int] = store.fact(PREFIX + incident) or []
    found: list[Record] = []
    for number in numbers:
        rows = store._db.query(
            "SELECT text, hash FROM journal WHERE stream = :stream AND seq = :seq",
            {"stream": chain.AUTOMATION, "seq": number})
        with store._db.readable():
            found += [Record(**json.loads(text), hash=hash_) for text, hash_ in rows]
    return found


def index_problems(journaled: Mapping[str, Sequence[int]], names_: Mapping[str, list[str]],
                   indexed: Mapping[str, Any]) -> list[str]:
    """Where the index differs from the journal. `journaled`: the numbers of each incident's events,
    `names_`: as `after` makes them of these events; `indexed`: the facts by name."""
    problems = []
    if indexed.get(NAMES, {"open": [], "all": []}) != names_:
        problems.append("the index of incidents names others than the journal")
    said = {name.removeprefix(PREFIX): numbers for name, numbers in indexed.items()
            if name.startswith(PREFIX)}
    problems += [f"incident {name}: the index says events {said.get(name)}, the journal "
                 f"{list(journaled.get(name, ()))}"
                 for name in sorted({*said, *journaled})
                 if said.get(name, []) != list(journaled.get(name, ()))]
    return problems


def _fact(tx: Transaction, name: str, otherwise: Any) -> Any:
    rows = tx.execute("SELECT value FROM fact WHERE name = :name", {"name": name})
    return json.loads(rows[0][0]) if rows else otherwise


def _keep(tx: Transaction, name: str, value: Any) -> None:
    tx.execute("INSERT INTO fact (name, value) VALUES (:name, :value) "
               "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
               {"name": name, "value": canonical(value)})
