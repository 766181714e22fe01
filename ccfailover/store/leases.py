"""Who may act: runs, the scopes they hold, and the fence that rises with every holder.

A run's lease is one row (fence, holder, until when); its scopes are rows that name the run. So
whoever takes a scope over ends the former run's right to write in the same transaction, and an
unfinished run keeps its scopes although its lease has run out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ccfailover.errors import Fenced, UsageError
from ccfailover.model.journal import Actor, Lease, Record
from ccfailover.runtime import SECOND
from ccfailover.store import chain, holder
from ccfailover.store.db import Database, Transaction, one_write
from ccfailover.store.lease_words import fenced, lease_held, some
from ccfailover.store.record import head_in, insert

if TYPE_CHECKING:
    from ccfailover.model.plan import Plan


class Leases:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    @one_write
    def create_run(
        self, plan: Plan, *, actor: Actor, ttl: float, supersedes: tuple[str, ...] = ()
    ) -> tuple[str, Lease]:
        """Start a run: its scopes (all or none), its number, its first events, in one write.

        `ttl` is the lease time in seconds. `supersedes` names unfinished runs: each ends as
        `superseded`, and the new run holds their scopes beside its own, even if a holder is
        still at work: then the first event says `doubt_until` (µs), and before that nothing may
        be done. Raises LeaseHeld naming the run in the way, UsageError when one of `supersedes`
        is not an unfinished run.
        """
        with self._db.transaction(f"start run {plan.runbook} {plan.subject}") as tx:
            taken: set[str] = set()
            doubt = 0
            # Before a run that has just been superseded by another is missed: that other one is
            # what stands in the way.
            _refuse_held(tx, plan.scopes, ours=supersedes)
            for earlier in supersedes:
                row = _unfinished(tx, earlier, not_done="no run was started")
                taken |= set(_scopes(tx, earlier))
                at_work = tx.now + int(ttl * SECOND) if _may_be_at_work(row, actor) else 0
                doubt = max(doubt, at_work, _doubt_until(tx, earlier))
            number = int(tx.execute("SELECT coalesce(max(number), 0) + 1 FROM run")[0][0])
            run = f"r{number}-{self._db.runtime.new_id()}"
            scopes = tuple(dict.fromkeys((*plan.scopes, *sorted(taken))))
            fence = _next_fence(tx)
            for earlier in supersedes:
                why = {"pre_empted": True} if earlier in plan.pre_empts else {}
                insert(tx, chain.run_stream(earlier), "run.superseded", {"by": run, **why},
                       actor=str(actor), fence=fence)
                _close(tx, earlier, "superseded", actor=str(actor), fence=fence)
            expires = tx.now + int(ttl * SECOND)
            tx.execute(
                "INSERT INTO run (number, id, ended, fence, holder, since, expires_at, ttl) "
                "VALUES (:number, :id, NULL, :fence, :holder, :since, :expires, :ttl)",
                {"number": number, "id": run, "fence": fence, "holder": _text(actor),
                 "since": tx.now, "expires": expires, "ttl": int(ttl * SECOND)},
            )
            _take(tx, run, scopes)
            waits = {"doubt_until": doubt} if doubt > tx.now else {}
            planned = insert(
                tx, chain.run_stream(run), "run.planned",
                {"plan": plan.to_json(), "actor": actor.to_json(), "scopes": list(scopes),
                 "supersedes": list(supersedes), **waits},
                actor=str(actor), fence=fence,
            )
            insert(
                tx, chain.RUNS, "run.created",
                {"run": run, "number": number, "plan_hash": plan.hash, "mode": plan.mode.value,
                 "runbook": plan.runbook, "subject": plan.subject, "planned": planned.hash},
                actor=str(actor), fence=fence,
            )
            return run, Lease(run, fence, scopes, actor.to_json(), tx.now, expires)

    @one_write
    def acquire(
        self, run: str, *, actor: Actor, ttl: float, steal: str = ""
    ) -> tuple[Lease, bool]:
        """Take an unfinished run up again (resume, rollback, abort), with a higher fence.

        Allowed when its lease has run out or was released, when its holder is provably gone, or
        is this very process; else only with a reason to `steal` it, which is journaled as
        `lease.stolen`, with `doubt_until` (µs), in the run and in `automation`. True: the former
        holder may still be at work, so that the caller has to wait one ttl before it acts. Raises
        LeaseHeld, or UsageError when the run is unknown or has ended.
        """
        with self._db.transaction(f"take run {run} up again") as tx:
            row = _unfinished(tx, run, not_done="nothing was changed")
            planned = _planned_scopes(tx, run)
            _refuse_held(tx, planned, ours=(run,))
            former: Mapping[str, Any] | None = json.loads(row[1]) if row[1] else None
            doubtful = _may_be_at_work(row, actor)
            fence, expires = _next_fence(tx), tx.now + int(ttl * SECOND)
            if former is not None and doubtful and row[3] > tx.now:
                if not steal:
                    raise lease_held(run, former, row[2], row[3], tx.now, (), "")
                stolen = {"run": run, "from": holder.describe(former), "reason": steal,
                          "doubt_until": expires}
                for stream in (chain.run_stream(run), chain.AUTOMATION):
                    insert(tx, stream, "lease.stolen", stolen, actor=str(actor), fence=fence)
            tx.execute(
                "UPDATE run SET fence = :fence, holder = :holder, since = :now, "
                "expires_at = :expires, ttl = :ttl WHERE id = :run",
                {"run": run, "fence": fence, "holder": _text(actor), "now": tx.now,
                 "expires": expires, "ttl": int(ttl * SECOND)},
            )
            scopes = tuple(dict.fromkeys((*planned, *_scopes(tx, run))))
            _take(tx, run, scopes)
            return Lease(run, fence, scopes, actor.to_json(), tx.now, expires), doubtful

    @one_write
    def renew(self, lease: Lease, ttl: float) -> Lease:
        """The same lease, `ttl` seconds from now. Raises Fenced."""
        with self._db.transaction(f"renew the lease of run {lease.run}", on=_own(lease)) as tx:
            expires = require_fence(tx, lease, ttl=int(ttl * SECOND),
                                    not_done="the lease was not renewed")
            return replace(lease, expires_at=expires)

    def check_fence(self, lease: Lease, needs: float) -> float:
        """For how many seconds more the lease is ours. Raises Fenced unless for at least `needs`.

        Only one that has lost a third of its time is renewed: every write of a run renews it, so
        that a step which has just been begun needs no write more to go on. One that is borrowed
        never is.
        """
        left, ttl = self._left(lease)
        if lease.borrowed:
            if left < int(needs * SECOND):
                raise Fenced(f"run {lease.run} is not this process's to work for any more",
                             where=f"fence {lease.fence}", not_done="nothing more was begun",
                             hint=f"ccfailover runs show {lease.run}")
            return left / SECOND
        if left < max(int(needs * SECOND), ttl - ttl // 3):
            left = self._lengthen(lease, needs)
        return left / SECOND

    def _left(self, lease: Lease) -> tuple[int, int]:
        """How long the lease lasts, and how long it is when it is new, µs; -1 when not ours."""
        rows = self._db.query(
            "SELECT expires_at - ccf_now(), ttl FROM run "
            "WHERE id = :run AND fence = :fence AND ended IS NULL AND expires_at > ccf_now()",
            {"run": lease.run, "fence": lease.fence})
        return (int(rows[0][0]), int(rows[0][1])) if rows else (-1, 0)

    @one_write
    def _lengthen(self, lease: Lease, needs: float) -> int:
        with self._db.transaction(f"check the lease of run {lease.run}", on=_own(lease)) as tx:
            expires = require_fence(tx, lease, not_done="the next step was not begun")
            if expires - tx.now < int(needs * SECOND):
                raise Fenced(
                    f"the lease lasts {(expires - tx.now) / SECOND:g} s, the step may take "
                    f"{needs:g} s",
                    where=f"run {lease.run}", not_done="the step was not begun",
                    hint="give the run a longer lease than any step's time-out",
                )
            return expires - tx.now

    def fence_is_ours(self, lease: Lease) -> bool:
        """Whether this lease is still in force; renews nothing."""
        return bool(self._db.query(
            "SELECT 1 FROM run WHERE id = :run AND fence = :fence AND ended IS NULL "
            "AND expires_at > ccf_now()", {"run": lease.run, "fence": lease.fence}))

    def holder_alive(self, lease: Lease) -> bool | None:
        """True: the holder's process runs. False: provably gone. None: cannot be told here."""
        return holder.alive(lease.holder)

    @one_write
    def release(self, lease: Lease) -> None:
        """Give the scopes back without ending the run. Raises Fenced when they are not ours."""
        with self._db.transaction(f"release the lease of run {lease.run}") as tx:
            require_fence(tx, lease, not_done="nothing was released")
            tx.execute("DELETE FROM scope WHERE run = :run", {"run": lease.run})
            tx.execute("UPDATE run SET holder = NULL, expires_at = :now WHERE id = :run",
                       {"run": lease.run, "now": tx.now})

    @one_write
    def lapse(self, lease: Lease) -> None:
        """Let go of an unfinished run: it keeps its scopes, and anyone may take it up at once.

        Raises Fenced when the lease is not ours any more.
        """
        with self._db.transaction(f"let go of run {lease.run}", on=_own(lease)) as tx:
            require_fence(tx, lease, not_done="nothing was let go")
            tx.execute("UPDATE run SET holder = NULL, expires_at = :now WHERE id = :run",
                       {"run": lease.run, "now": tx.now})

    def leases(self) -> list[Lease]:
        """One per unfinished run, by number, also those whose time has run out.

        `holder` is empty for a run that was let go, `scopes` for one that was released.
        """
        rows = self._db.query(
            "SELECT r.id, r.fence, r.holder, r.since, r.expires_at, s.name FROM run r "
            "LEFT JOIN scope s ON s.run = r.id "
            "WHERE r.ended IS NULL ORDER BY r.number, s.name"
        )
        found: dict[str, Lease] = {}
        for run, fence, held, since, expires, scope in rows:
            with self._db.readable():
                holder_ = json.loads(held) if held else {}
                lease = found.get(run) or Lease(run, fence, (), holder_, since, expires)
            added = (scope,) if scope is not None else ()
            found[run] = replace(lease, scopes=lease.scopes + added)
        return list(found.values())

    @one_write
    def end_run(
        self, lease: Lease, kind: str, data: Mapping[str, Any], *, actor: str
    ) -> Record:
        """The run's last event, its entry in the chain of runs, and its scopes free, in one
        write. `kind` is `run.<state>`. Raises Fenced."""
        with self._db.transaction(f"end run {lease.run} with {kind}") as tx:
            require_fence(tx, lease, not_done=f"the run was not ended with {kind}")
            record = insert(tx, chain.run_stream(lease.run), kind, data, actor=actor,
                            fence=lease.fence)
            _close(tx, lease.run, kind.removeprefix("run."), actor=actor, fence=lease.fence)
            return record

    def run_ids(self) -> list[str]:
        """Every run, in order of number."""
        return [row[0] for row in self._db.query("SELECT id FROM run ORDER BY number")]

    def open_run_ids(self) -> list[str]:
        """The runs that have not ended, in order of number."""
        return [row[0] for row in self._db.query(
            "SELECT id FROM run WHERE ended IS NULL ORDER BY number")]

    def find_run(self, prefix: str | None) -> str:
        """The run that `r17`, `17` or any unique beginning means; None: the only open one.

        Raises UsageError with the candidates otherwise.
        """
        if prefix is None:
            found = self.open_run_ids()
            if len(found) == 1:
                return found[0]
            what = f"{len(found)} runs are open" if found else "no run is open"
            hint = f"name one: {some(found)}" if found else "ccfailover runs list"
            raise UsageError(what, where=self._db.path, not_done="nothing was done", hint=hint)
        ids = self.run_ids()
        wanted = f"r{prefix}" if prefix.isdecimal() else prefix
        exact = [run for run in ids if run == wanted or run.startswith(wanted + "-")]
        found = exact or [run for run in ids if wanted and run.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        shown = prefix[:60]
        if found:
            raise UsageError(f"{shown!r} means {len(found)} runs", where=self._db.path,
                             not_done="nothing was done", hint=f"name one: {some(found)}")
        raise UsageError(f"there is no run {shown!r}", where=self._db.path,
                         not_done="nothing was done",
                         hint=f"runs: {some(ids)}" if ids else "no run was ever started here")


def _own(lease: Lease) -> str:
    """What a write is `on` that touches nothing but this run."""
    return chain.run_stream(lease.run)


def require_fence(
    tx: Transaction, lease: Lease, *, not_done: str, ttl: int | None = None
) -> int:
    """Renew the lease, by its own or a new ttl (µs); until when it lasts now. Raises Fenced.

    A borrowed one is only looked at: whose own process is dead must not be kept alive by others.
    """
    rows = tx.execute(
        "SELECT expires_at FROM run WHERE id = :run AND fence = :fence AND ended IS NULL "
        "AND expires_at > :now", {"run": lease.run, "fence": lease.fence, "now": tx.now},
    ) if lease.borrowed else tx.execute(
        "UPDATE run SET ttl = coalesce(:ttl, ttl), expires_at = :now + coalesce(:ttl, ttl) "
        "WHERE id = :run AND fence = :fence AND ended IS NULL AND expires_at > :now "
        "RETURNING expires_at",
        {"run": lease.run, "fence": lease.fence, "now": tx.now, "ttl": ttl},
    )
    if rows:
        return int(rows[0][0])
    raise fenced(tx, lease, not_done)


def _refuse_held(tx: Transaction, scopes: Sequence[str], *, ours: tuple[str, ...]) -> None:
    taken: dict[str, list[str]] = {}
    for scope in scopes:
        for (run,) in tx.execute("SELECT run FROM scope WHERE name = :name", {"name": scope}):
            if run not in ours:
                taken.setdefault(run, []).append(scope)
    for run, names in taken.items():
        row = tx.execute("SELECT holder, since, expires_at FROM run WHERE id = :run",
                         {"run": run})[0]
        raise lease_held(run, json.loads(row[0]) if row[0] else {}, row[1], row[2], tx.now, names,
                    ", ".join(other for other in taken if other != run))


def _unfinished(tx: Transaction, run: str, *, not_done: str) -> tuple[Any, ...]:
    """(ended, holder, since, expires_at) of a run that has not ended; else UsageError."""
    rows = tx.execute("SELECT ended, holder, since, expires_at FROM run WHERE id = :run",
                      {"run": run})
    if not rows:
        raise UsageError(f"there is no run {run[:60]!r}", not_done=not_done,
                         hint="ccfailover runs list")
    if rows[0][0] is not None:
        raise UsageError(f"it has ended ({rows[0][0]})", where=f"run {run}",
                         not_done=not_done, hint=f"ccfailover runs show {run}")
    return rows[0]


def _may_be_at_work(row: tuple[Any, ...], actor: Actor) -> bool:
    """Whether somebody else than `actor` may act for a run (a row of `_unfinished`), even though
    its lease has run out."""
    former = json.loads(row[1]) if row[1] else None
    return (former is not None and not holder.same_process(former, actor)
            and holder.alive(former) is not False)


def _doubt_until(tx: Transaction, run: str) -> int:
    """Until when (µs) a call of somebody may be under way from whom this run was taken, or was
    by the one that it superseded; 0: nobody's."""
    rows = tx.execute("SELECT text FROM journal WHERE stream = :stream AND text LIKE :doubt",
                      {"stream": chain.run_stream(run), "doubt": '%"doubt_until":%'})
    return max((int(json.loads(text)["data"].get("doubt_until", 0)) for (text,) in rows),
               default=0)


def _close(tx: Transaction, run: str, state: str, *, actor: str, fence: int) -> None:
    """Write the run's final head into the chain of runs, and free what it held."""
    seq, head = head_in(tx, chain.run_stream(run))
    number = chain.run_number(run)
    insert(tx, chain.RUNS, "run.ended",
           {"run": run, "number": number, "state": state, "head": head, "seq": seq},
           actor=actor, fence=fence)
    tx.execute("UPDATE run SET ended = :state, expires_at = 0 WHERE id = :run",
               {"state": state, "run": run})
    tx.execute("DELETE FROM scope WHERE run = :run", {"run": run})


def _scopes(tx: Transaction, run: str) -> tuple[str, ...]:
    rows = tx.execute("SELECT name FROM scope WHERE run = :run ORDER BY name", {"run": run})
    return tuple(row[0] for row in rows)


def _planned_scopes(tx: Transaction, run: str) -> tuple[str, ...]:
    """What the run was given at its start, from its first event: it may have been released."""
    rows = tx.execute("SELECT text FROM journal WHERE stream = :stream AND seq = 1",
                      {"stream": chain.run_stream(run)})
    return tuple(json.loads(rows[0][0])["data"]["scopes"])


def _take(tx: Transaction, run: str, scopes: Sequence[str]) -> None:
    for scope in scopes:
        tx.execute(
            "INSERT INTO scope (name, run) VALUES (:name, :run) "
            "ON CONFLICT (name) DO UPDATE SET run = excluded.run",
            {"name": scope, "run": run},
        )


def _next_fence(tx: Transaction) -> int:
    """Rows of `run` are never deleted, so the largest fence ever is always there."""
    return tx.next_fence(int(tx.execute("SELECT coalesce(max(fence), 0) FROM run")[0][0]))


def _text(actor: Actor) -> str:
    from ccfailover.model.plan import canonical

    return canonical(actor.to_json())
