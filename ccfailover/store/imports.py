"""Bring another journal's runs into a store: a local journal, an export, a mirror's lost tail.

The store's own chains are only ever added to. A run that the store does not know comes in whole,
under its own id and with the next number; one that the store knows up to some event gets the
events that follow; one that went on in both comes in whole under a name of its own. The chain of
runs says where each came from, so that `journal verify` can tell whether it still is what it was.
One transaction a run; what is there already is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccfailover.errors import LeaseHeld, StoreError
from ccfailover.model.plan import canonical
from ccfailover.store import Store, chain, holder
from ccfailover.store.db import Transaction
from ccfailover.store.lease_words import clock
from ccfailover.store.local import FORKED, IMPORTED, scopes_of
from ccfailover.store.mirror import Event, Mirror
from ccfailover.store.record import head_in, insert
from ccfailover.store.verify import ChainCheck, verify_export

EVENT = "event.imported"
"""In `automation`: an event of the other journal's automation, whole, with its hash there."""

_NOT_CARRIED = frozenset((EVENT, IMPORTED, FORKED))
_PASSING = ("plan:", "refused:")
"""Facts that mean nothing in another store."""


@dataclass(frozen=True)
class Source:
    """A journal that was verified. `name` is what to call it."""

    name: str
    heads: Mapping[str, tuple[int, str]]
    events: Callable[[str], Sequence[Event]]

    @property
    def seal(self) -> str:
        return chain.digest(chain.manifest_text(dict(self.heads)))


@dataclass(frozen=True)
class Came:
    """One run that came in. `how` is new | extended | diverged; `first` its first new event."""

    run: str
    origin: str
    how: str
    first: int
    seq: int
    state: str | None
    note: str = ""


# --- where it comes from


def from_lines(name: str, lines: Sequence[bytes]) -> Source:
    """An export. Raises StoreError when it is not as it was written."""
    _refuse(name, verify_export(lines))
    found: dict[str, list[Event]] = {}
    for line in lines[1:]:
        parsed = json.loads(line)
        record = parsed["record"]
        found.setdefault(record["stream"], []).append(
            (record["stream"], record["seq"], canonical(record), parsed["hash"]))
    heads = {stream: (events[-1][1], events[-1][3]) for stream, events in found.items()}
    return Source(name, heads, lambda stream: found.get(stream, []))


def from_store(store: Store) -> Source:
    """A local journal, or any other store in a file. Raises StoreError when it was changed."""
    _refuse(store.path, store.verify())
    heads = {stream: store.head(stream) for stream in store.streams()}
    return Source(store.path, heads, lambda stream: [
        (row[0], row[1], row[2], row[3]) for row in store._pages(stream, heads[stream][0])])


def from_mirror(mirror: Mirror) -> Source:
    """All that this machine saw. Raises StoreError when the file was changed."""
    mirror.required()
    heads, check = mirror.heads(), ChainCheck()
    for stream in heads:
        for _, seq, text, hash_ in mirror.events(stream):
            check.record(f"{stream} event {seq}", text, hash_)
    _refuse(mirror.path, check.finish())
    return Source(mirror.path, heads, lambda stream: list(mirror.events(stream)))


def _refuse(name: str, problems: Sequence[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StoreError(f"this journal was changed, or is damaged: {problems[0]}{more}",
                         where=name, not_done="nothing was imported",
                         hint="ccfailover journal verify FILE says all; import an intact copy")


# --- where it goes


def bring_in(store: Store, source: Source, *, actor: str) -> list[Came]:
    """Every run of `source` that `store` lacks, wholly or in part, in their order there.

    Raises LeaseHeld when one of them is being carried just now.
    """
    known = {stream: store.head(stream) for stream in store.streams()}
    forks = {(origin.run, origin.head) for record in store.read(chain.RUNS)
             if record.kind == "run.imported" and (origin := chain.origin_of(record.data))}
    ends: dict[str, Mapping[str, Any]] = {}
    runs = []
    for _, _, text, _ in source.events(chain.RUNS) if chain.RUNS in source.heads else ():
        body = json.loads(text)
        if body["kind"] == "run.ended":
            ends[body["data"]["run"]] = body["data"]
        elif body["kind"] != "run.extended":
            runs.append(str(body["data"]["run"]))
    if not runs:  # one run, exported alone
        runs = [stream.removeprefix(chain.RUN_PREFIX) for stream in source.heads
                if stream.startswith(chain.RUN_PREFIX)]
    came = []
    for run in runs:
        stream = chain.run_stream(run)
        here, there = known.get(stream), source.heads[stream]
        if here == there or (run, there[1]) in forks:
            continue
        events = source.events(stream)
        if here is None:
            how = "new"
        elif here[0] < there[0] and events[here[0] - 1][3] == here[1]:
            how = "extended"
        elif here[0] > there[0] and _hash_at(store, stream, there[0]) == there[1]:
            continue
        else:
            how = "diverged"
        coming = _Coming(store, source, run, events, _ending(run, events, ends), actor)
        came.append(coming.extend(here[0]) if here and how == "extended" else
                    coming.add(how))
    return came


def _ending(run: str, events: Sequence[Event], ends: Mapping[str, Mapping[str, Any]]) -> str | None:
    if run in ends:
        return str(ends[run]["state"])
    kind = str(json.loads(events[-1][2])["kind"])
    final = ("run.succeeded", "run.succeeded_with_exceptions", "run.rolled_back", "run.aborted",
             "run.superseded")
    return kind.removeprefix("run.") if kind in final else None


def _hash_at(store: Store, stream: str, seq: int) -> str | None:
    rows = store._db.query("SELECT hash FROM journal WHERE stream = :stream AND seq = :seq",
                           {"stream": stream, "seq": seq})
    return rows[0][0] if rows else None


@dataclass(frozen=True)
class _Coming:
    """One run on its way in."""

    store: Store
    source: Source
    run: str
    events: Sequence[Event]
    state: str | None
    actor: str

    def add(self, how: str) -> Came:
        """As a run that this store did not have."""
        db = self.store._db
        with db.transaction(f"import run {self.run}") as tx:
            number = int(tx.execute("SELECT coalesce(max(number), 0) + 1 FROM run")[0][0])
            run = self.run if how == "new" else f"r{number}-{self.run.rpartition('-')[2]}"
            fence = self._fence(tx)
            first = self._write(tx, run)
            seq, head = self.events[-1][1], self.events[-1][3]
            insert(tx, chain.RUNS, "run.imported", {
                "run": run, "number": number, "planned": first, "from": self.source.name,
                "seal": self.source.seal, "origin": {"run": self.run, "seq": seq, "head": head},
            }, actor=self.actor, fence=fence)
            tx.execute(
                "INSERT INTO run (number, id, ended, fence, holder, since, expires_at, ttl) "
                "VALUES (:number, :run, NULL, :fence, NULL, :now, :now, 0)",
                {"number": number, "run": run, "fence": fence, "now": tx.now})
            state, note = self._settle(tx, run, number, fence)
            return Came(run, self.run, how, 1, seq, state, note)

    def extend(self, have: int) -> Came:
        """The events after `have`, to the run that this store has up to there."""
        db, stream = self.store._db, chain.run_stream(self.run)
        with db.transaction(f"import the end of run {self.run}") as tx:
            row = tx.execute("SELECT number, ended, holder, expires_at FROM run WHERE id = :run",
                             {"run": self.run})[0]
            if head_in(tx, stream)[0] != have or row[1] is not None:
                raise StoreError(f"run {self.run} has gone on meanwhile", where=db.path,
                                 not_done="it was not imported", hint="ccfailover runs import")
            carrier = json.loads(row[2]) if row[2] else None
            if carrier and row[3] > tx.now and holder.alive(carrier) is not False:
                raise LeaseHeld(
                    f"{holder.describe(carrier)} carries it, lease until {clock(row[3])}",
                    where=f"run {self.run}", not_done="its lost events were not imported",
                    hint=f"ccfailover stop {self.run} --reason import, then: "
                    "ccfailover runs import")
            for event in self.events[have:]:
                tx.journal(*event)
            fence = self._fence(tx)
            seq, head = self.events[-1][1], self.events[-1][3]
            insert(tx, chain.RUNS, "run.extended", {
                "run": self.run, "after": have, "seq": seq, "head": head,
                "from": self.source.name, "seal": self.source.seal,
            }, actor=self.actor, fence=fence)
            tx.execute("UPDATE run SET fence = :fence, holder = NULL, expires_at = :now "
                       "WHERE id = :run", {"run": self.run, "fence": fence, "now": tx.now})
            state, note = self._settle(tx, self.run, int(row[0]), fence)
            return Came(self.run, self.run, "extended", have + 1, seq, state, note)

    def _fence(self, tx: Transaction) -> int:
        """Above every holder of either journal, so that none of them can write here any more."""
        mirror = self.store.mirror
        seen = [int(tx.execute("SELECT coalesce(max(fence), 0) FROM run")[0][0]),
                mirror.fence if mirror is not None else 0,
                *(int(json.loads(text)["fence"]) for _, _, text, _ in self.events)]
        return max(seen) + 1

    def _write(self, tx: Transaction, run: str) -> str:
        """All events; the hash of the first. Under another name each gets another hash, and can
        be told from the origin's by putting the name back."""
        if run == self.run:
            for event in self.events:
                tx.journal(*event)
            return self.events[0][3]
        stream, prev, first = chain.run_stream(run), chain.GENESIS, ""
        for _, seq, text, _ in self.events:
            renamed = canonical({**json.loads(text), "stream": stream, "prev": prev})
            prev = chain.digest(renamed)
            first = first or prev
            tx.journal(stream, seq, renamed, prev)
        return first

    def _settle(self, tx: Transaction, run: str, number: int,
                fence: int) -> tuple[str | None, str]:
        """End it as it ended there; else it holds its scopes, unless others do by now."""
        state, note = self.state, ""
        ended_at = json.loads(self.events[-1][2])["at"]
        if state is None:
            scopes = scopes_of(tx, run)
            taken = {scope: held[0][0] for scope in scopes if (held := tx.execute(
                "SELECT run FROM scope WHERE name = :name AND run <> :run",
                {"name": scope, "run": run}))}
            if not taken:
                for scope in scopes:
                    tx.execute("INSERT INTO scope (name, run) VALUES (:name, :run) "
                               "ON CONFLICT (name) DO NOTHING", {"name": scope, "run": run})
                return None, "interrupted: resume it, or roll it back"
            note = f"its scope is held by {', '.join(sorted(set(taken.values())))}"
            insert(tx, chain.run_stream(run), "run.aborted",
                   {"reason": f"imported unfinished; {note}"}, actor=self.actor, fence=fence)
            state = "aborted"
        seq, head = head_in(tx, chain.run_stream(run))
        insert(tx, chain.RUNS, "run.ended", {"run": run, "number": number, "state": state,
                                             "head": head, "seq": seq, "ended_at": ended_at},
               actor=self.actor, fence=fence)
        tx.execute("UPDATE run SET ended = :state, expires_at = 0 WHERE id = :run",
                   {"state": state, "run": run})
        tx.execute("DELETE FROM scope WHERE run = :run", {"run": run})
        return state, note


def automation(store: Store, source: Source, *, actor: str) -> int:
    """What the other journal tells of automation and this one lacks, as evidence; how many.

    A fact that was set there later than here counts, so that an `adopt` is not forgotten.
    """
    coming = source.events(chain.AUTOMATION) if chain.AUTOMATION in source.heads else ()
    with store._db.transaction("import what automation did", on=chain.AUTOMATION) as tx:
        rows = tx.execute("SELECT text, hash FROM journal WHERE stream = :stream",
                          {"stream": chain.AUTOMATION})
        known, facts = {hash_ for _, hash_ in rows}, dict[str, tuple[int, Any]]()
        for text, _ in rows:
            body = json.loads(text)
            if body["kind"] == EVENT:
                known.add(body["data"]["hash"])
            elif body["kind"] == "fact.set":
                facts[body["data"]["name"]] = (body["at"], body["data"]["value"])
        brought = 0
        for _, _, text, hash_ in coming:
            body = json.loads(text)
            if hash_ in known or body["kind"] in _NOT_CARRIED:
                continue
            insert(tx, chain.AUTOMATION, EVENT, {"record": body, "hash": hash_,
                                                 "from": source.name}, actor=actor, fence=0)
            brought += 1
            if body["kind"] == "fact.set":
                _fact(tx, body, facts, actor)
    return brought


def _fact(tx: Transaction, body: Mapping[str, Any], facts: Mapping[str, tuple[int, Any]],
          actor: str) -> None:
    name, value = body["data"]["name"], body["data"]["value"]
    at, here = facts.get(name, (0, None))
    if name.startswith(_PASSING):
        return
    if name == "adopted" and isinstance(here, dict) and isinstance(value, dict):
        # One entry a queue: the later one of each.
        value = {queue: max((each[queue] for each in (here, value) if queue in each),
                            key=lambda entry: int(entry["at"])) for queue in {**here, **value}}
    elif body["at"] <= at:
        return
    insert(tx, chain.AUTOMATION, "fact.set", {"name": name, "value": value}, actor=actor, fence=0)
    tx.execute("INSERT INTO fact (name, value) VALUES (:name, :value) "
               "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
               {"name": name, "value": canonical(value)})

