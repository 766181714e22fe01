"""Where the applications are: counts, and the proof that none is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ccfailover.errors import Exit, ProviderError, UsageError
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.plan import Json, Mode
from ccfailover.model.policy import Queue
from ccfailover.operations import runs
from ccfailover.operations.books import accounts
from ccfailover.operations.desk import Desk
from ccfailover.operations.find_item import whereabouts
from ccfailover.providers import BacklogMeasure
from ccfailover.reports.work import RECONCILED
from ccfailover.runbooks.run import Run, StepRecord
from ccfailover.transfer.account import Account, account
from ccfailover.transfer.differences import Difference
from ccfailover.transfer.reconcile import Measures, Reconciliation, reconcile
from ccfailover.transfer.rows import application, is_copy

KEPT = 1000
"""So many differences and ids go into the journal with a reconciliation; all are printed."""


# --- where everything is ------------------------------------------------------------------------


def status(desk: Desk) -> list[dict[str, Any]]:
    """One row for each queue with backlogs: what its sites count, and what the ledger says."""
    return [_queue(desk, queue) for queue in desk.policy.by_priority() if queue.backlogs]


def _queue(desk: Desk, queue: Queue) -> dict[str, Any]:
    latest: dict[str, LedgerRow] = {}
    for row in desk.store.items(queue=queue.name):
        old = latest.get(row.item_id)
        # A returned row says only that a later move took it, and that one has its own.
        if old is None or (row.state is not ItemState.RETURNED, row.at) >= (
                old.state is not ItemState.RETURNED, old.at):
            latest[row.item_id] = row
    at: dict[str, int] = {}
    open_points = dict.fromkeys(("in_doubt", "not_deleted", "stranded", "quarantined"), 0)
    names = {ItemState.CLAIMED: "in_doubt", ItemState.DELIVERED: "not_deleted",
             ItemState.STRANDED: "stranded", ItemState.QUARANTINED: "quarantined"}
    for row in latest.values():
        if row.state in names:
            open_points[names[row.state]] += 1
        if row.state is not ItemState.CLAIMED and not is_copy(row):
            place = whereabouts(row)
            at[place] = at.get(place, 0) + 1
    counted = {site: _measure(desk, queue, site) for site in queue.backlogs}
    return {
        "queue": queue.name,
        "sites": [{"site": site, **_told(found)} for site, found in counted.items()],
        "known": len(latest), "last_seen_at": at, **open_points,
        "providers": [_followed(each, counted[each.site]) for each in accounts(desk, queue)],
        "possible_duplicates": len({application(row) for row in latest.values()
                                    if row.possible_duplicate}),
    }


def _followed(found: Account, counted: BacklogMeasure | str) -> dict[str, Json]:
    """What became of the work that went to a provider: to its end, by its own word, or as far as
    its queue tells."""
    told = found.to_json()
    told["differences"] = len(found.differences)
    waiting = None if isinstance(counted, str) else counted.depth
    return {**told, "waiting": waiting, "says": found.sentence}


def _measure(desk: Desk, queue: Queue, site: str) -> BacklogMeasure | str:
    """What the site's platform counts, or why it does not say."""
    lever = queue.backlog(site)
    if lever is None:
        return "the policy has no backlog there"
    try:
        return desk.kinds.levers(Mode.SHADOW).backlog_view(lever).measure()
    except ProviderError as error:
        return str(error)


def _told(found: BacklogMeasure | str) -> dict[str, Json]:
    if isinstance(found, str):
        return {"waiting": None, "hidden": None, "oldest_s": None, "error": found}
    return {"waiting": found.visible, "hidden": found.hidden, "oldest_s": found.oldest_s,
            "error": None}


# --- the proof ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proof:
    """One queue's reconciliation. `verdict` is a word for people; `exit` its code:

    DONE: balanced; EXCEPTIONS: balanced, and something is left for a person; UNKNOWN: it cannot
    be told; PAUSED: it does not balance, a person must look. `accounts`: of
    each provider that is part of it, over all runs.
    """

    found: Reconciliation
    verdict: str
    exit: Exit
    detail: str
    accounts: tuple[Account, ...] = ()

    def to_json(self) -> dict[str, Json]:
        return {**self.found.to_json(), "verdict": self.verdict, "exit_code": int(self.exit),
                "detail": self.detail, "accounts": [each.to_json() for each in self.accounts]}


def prove(desk: Desk, *, queue: str | None, run: str | None) -> list[Proof]:
    """Reconcile every move of a run (None: for each queue, the newest run that moved it) with
    what source and target count now, and write what was found into the journal.

    Only looks at the platforms. Raises UsageError when there is nothing to reconcile.
    """
    if queue is not None and queue not in desk.policy.queues:
        raise UsageError(f"there is no queue {queue!r} in the policy",
                         hint=f"one of: {', '.join(desk.policy.queues)}")
    chosen = _chosen(desk, queue, run)
    if not chosen:
        what = f"run {run} has" if run else "no run has"
        raise UsageError(f"{what} moved no work items" if run else f"{what} moved work items",
                         not_done="nothing was reconciled", hint="ccfailover runs list")
    proofs = []
    for moved, step, earlier in chosen:
        proof = _prove(desk, moved, step, earlier)
        proofs.append(proof)
        desk.store.append("automation", RECONCILED, _record(proof), actor=str(desk.actor))
    return proofs


def _chosen(desk: Desk, queue: str | None,
            prefix: str | None) -> list[tuple[Run, StepRecord, tuple[str, ...]]]:
    """(run, its transfer step, the runs that it superseded), for each move to account for."""
    wanted = [desk.store.find_run(prefix)] if prefix else list(reversed(desk.store.run_ids()))
    done: set[str] = set()
    out = []
    for run_id in wanted:
        run = runs.load(desk, run_id)
        steps = [step for step in run.steps.values()
                 if step.spec.kind == "transfer" and "target" in step.spec.params
                 and step.started_at is not None and run.plan.mode is Mode.REAL
                 and step.spec.params["queue"] in desk.policy.queues]
        for step in steps:
            name = str(step.spec.params["queue"])
            if name not in done and queue in (None, name):
                out.append((run, step, _superseded(desk, run)))
        if not prefix:
            done |= {str(step.spec.params["queue"]) for step in steps}
    return out


def _superseded(desk: Desk, run: Run) -> tuple[str, ...]:
    """The runs whose work this one carried on, the first one first."""
    found: list[str] = []
    for run_id in run.plan.supersedes:
        earlier = runs.load(desk, run_id)
        found += [*_superseded(desk, earlier), earlier.id]
    return tuple(dict.fromkeys(found))


def _prove(desk: Desk, run: Run, step: StepRecord, earlier: tuple[str, ...]) -> Proof:
    queue = desk.policy.queues[str(step.spec.params["queue"])]
    source, target = str(step.spec.params["source"]), str(step.spec.params["target"])
    first = _first_snapshot(desk, earlier, queue.name, source, target) or step.snapshot
    here, there = _measure(desk, queue, source), _measure(desk, queue, target)
    runs_ = [*earlier, run.id]
    of = {name: account(desk.store, queue, desk.policy.sites[name], now=desk.runtime.now())
          for name in (source, target) if name != queue.home and name in desk.policy.sites}
    word = of.get(target)
    tells = word is not None and word.tells
    found = reconcile(
        desk.store, runs_, queue.name, source=source, target=target,
        measures=Measures(
            present=_depth(first, "source"), target_before=_depth(first, "target"),
            source_now=None if isinstance(here, str) else here,
            target_now=None if isinstance(there, str) else there,
            completed_ids=word.done if word and tells else None,
            returned_ids=word.gave_back if word and tells else None,
            worked_at_source=_worked_off(desk, runs_, queue, of.get(source))))
    left = [Difference(each.name, f"a canary of run {each.run} may still wait at {each.site}: it "
                       "is no application", f"have {each.site} delete it, or resume the run")
            for site in (source, target)
            for each in desk.store.canaries(queue=queue.name, site=site)]
    found = replace(found, differences=(*found.differences, *left))
    proof = _judge(found, excuse=_excuse(desk, run, queue, source, found))
    told = tuple(each for each in of.values() if each.sent or each.differences)
    if proof.exit is Exit.DONE and any(each.differences for each in told):
        proof = replace(proof, verdict="balanced, with exceptions", exit=Exit.EXCEPTIONS)
    return replace(proof, accounts=told)


def _worked_off(desk: Desk, runs_: Sequence[str], queue: Queue,
                source: Account | None) -> int | None:
    """How many of the items that these runs left at a provider it says it has done since."""
    if source is None or not source.tells:
        return None
    left = {application(row) for run in runs_ for row in desk.store.items(
        run=run, queue=queue.name, states=[ItemState.LEFT]) if row.source == source.site}
    return len(left & source.done)


def _first_snapshot(desk: Desk, earlier: Sequence[str], queue: str, source: str,
                    target: str) -> Json:
    for run_id in earlier:
        for step in runs.load(desk, run_id).steps.values():
            params = step.spec.params
            if (params.get("queue"), params.get("source"), params.get("target")) == (
                    queue, source, target) and step.has_snapshot:
                return step.snapshot
    return None


def _depth(snapshot: Json, role: str) -> int | None:
    shown = snapshot.get(role, {}) if isinstance(snapshot, dict) else {}
    return int(shown["visible"]) + int(shown["hidden"]) if "visible" in shown else None


def _excuse(desk: Desk, run: Run, queue: Queue, source: str,
            found: Reconciliation) -> str | None:
    """Why items that the ledger left at the source may rightly be gone; None: no reason.

    A shortfall there proves a loss only while nobody works there and no other move takes from it.
    """
    if not any(check.name == "source" and check.holds is False for check in found.checks):
        return None
    others = [step for step in run.steps.values()
              if step.spec.kind == "transfer" and step.spec.params.get("source") == source
              and step.spec.params.get("target") not in (None, found.target)
              and step.spec.params.get("queue") == queue.name and step.started_at]
    if others:
        return f"another step of {run.id} took items from {source}, too"
    later = [row.run for row in desk.store.items(queue=queue.name)
             if row.source == source and row.run not in found.runs]
    if later:
        return f"run {later[-1]} took items from {source}, too"
    gate = queue.consumers.get(source)
    if gate is None:
        return f"{source} may have worked them off: the policy names no consumers to ask there"
    try:
        is_open = desk.kinds.levers(Mode.SHADOW).gate_view(gate).is_open()
    except ProviderError as error:
        return f"{source} may have worked them off: its consumers do not answer ({error})"
    return f"{source}'s consumers are at work and may have worked them off" if is_open else None


def _judge(found: Reconciliation, *, excuse: str | None) -> Proof:
    failed = [check.name for check in found.checks if check.holds is False]
    if found.balanced is False and excuse and failed == ["source"]:
        open_ = replace(found, balanced=None, detail=f"{found.detail}; {excuse}")
        return Proof(open_, "cannot be told", Exit.UNKNOWN, open_.detail)
    if found.balanced is False:
        return Proof(found, "DOES NOT BALANCE", Exit.PAUSED, found.detail)
    if found.balanced is None:
        return Proof(found, "cannot be told", Exit.UNKNOWN, found.detail)
    if found.differences or found.possible_duplicates:
        return Proof(found, "balanced, with exceptions", Exit.EXCEPTIONS, found.detail)
    return Proof(found, "balanced", Exit.DONE, found.detail)


def _record(proof: Proof) -> dict[str, Json]:
    """For the journal: whole in its counts, bounded in its lists, which say how long they were."""
    told = proof.to_json()
    for part, name in ((told, "differences"), (told, "possible_duplicates"),
                       (told, "sent_again"),
                       *((each, "differences") for each in told["accounts"])):
        part[f"{name}_in_all"] = len(part[name])
        part[name] = part[name][:KEPT]
    return told


def exit_of(proofs: Sequence[Proof]) -> Exit:
    """The worst of them: what does not balance before what cannot be told."""
    for code in (Exit.PAUSED, Exit.UNKNOWN, Exit.EXCEPTIONS):
        if any(proof.exit is code for proof in proofs):
            return code
    return Exit.DONE
