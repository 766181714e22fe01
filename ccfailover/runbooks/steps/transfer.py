"""`transfer`: waiting applications go where the new ones go; stale copies are deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from ccfailover.errors import ProviderError, Refused, Rejected, Unavailable
from ccfailover.model.health import State
from ccfailover.model.items import ItemState, WorkItem
from ccfailover.model.plan import Json, StepSpec
from ccfailover.model.policy import LeverSpec, Queue, Site
from ccfailover.model.shares import Shares
from ccfailover.providers import Backlog
from ccfailover.runbooks.step import Binding, Move, Observed, Step, StepContext, Truth

if TYPE_CHECKING:  # most queues have no backlog, and every plan binds this step
    from ccfailover.transfer.eligibility import Eligibility
    from ccfailover.transfer.mover import Mover, MoveResult
    from ccfailover.transfer.stranded import ClearResult

DEADLINE = 4 * 3600.0
"""Seconds for one transfer; it reports progress and can be stopped at any batch."""
SLICE = 20.0
"""Seconds of work between two looks of the engine; shorter than a lease."""

AT_TARGET = frozenset({ItemState.DELIVERED, ItemState.SETTLED, ItemState.STRANDED})


class OnlyThese:
    """For undo: the items that this very step moved, and none that the target already had."""

    def __init__(self, ids: Collection[str]) -> None:
        self._ids = ids

    def judge(self, item: WorkItem) -> str | None:
        return None if item.item_id in self._ids else "was not moved by this run"


class Transfer(Step):
    """A move from one site's backlog to another's, or (with `clear`) the deletion of copies that
    another site already owns. Mechanics and promises: `transfer.mover`, `transfer.stranded`."""

    kind = "transfer"
    summary = "move waiting applications with a conserved ledger; or clear stranded copies"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "clear": {"type": "boolean"},
            "rate": {"type": "number", "exclusiveMinimum": 0},
            "deadline": {"type": "number", "exclusiveMinimum": 0},
            "on_failure": {"enum": ["pause", "continue", "abort", "undo"]},
        },
    }

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        queue = binding.queue
        if queue is None or not queue.backlogs:
            return []
        deadline = float(binding.params.get("deadline", DEADLINE))
        if binding.params.get("clear"):
            if queue.home not in queue.backlogs:
                return []
            return [StepSpec(
                id=f"{cls.kind}-clear", kind=cls.kind, timeout=SLICE, deadline=deadline,
                params={"queue": queue.name, "source": queue.home, "clear": True},
                title=f"delete {queue.home}'s copies of {queue.name} that others own")]
        moves = [(source, target) for source, target in binding.moves
                 if source in queue.backlogs and target in queue.backlogs]
        return [
            StepSpec(
                id=f"{cls.kind}-{source}-{target}", kind=cls.kind, timeout=SLICE,
                deadline=deadline, title=f"move waiting {queue.name} from {source} to {target}",
                params={"queue": queue.name, "source": source, "target": target,
                        "percent": cls._percent(binding, target),
                        "rate": binding.params.get("rate")})
            for source, target in moves
        ]

    @staticmethod
    def _percent(binding: Binding, target: str) -> int | None:
        """How much of the waiting work goes to `target`; None: all that may go.

        An overflow takes as much of the backlog as of the arrivals; a failover and a failback
        take everything, as nobody would serve it where it is.
        """
        if binding.runbook != "overflow" or binding.after is None:
            return None
        before = binding.before.of(target) if binding.before else 0
        return max(0, binding.after.of(target) - before)

    def __init__(self, spec: StepSpec, ctx: StepContext) -> None:
        super().__init__(spec, ctx)
        self._mover: Mover | None = None
        self._result: MoveResult | None = None
        self._cleared: ClearResult | None = None
        self._resolved: MoveResult | None = None
        self._back: Mover | None = None
        self._undo: MoveResult | None = None
        # A move inherited from a superseded run is undone as that run's own: `run:step`.
        owner, _, step = spec.id.rpartition(":")
        self._owner = (owner or ctx.run, step)

    @property
    def _clears(self) -> bool:
        return bool(self.spec.params.get("clear"))

    @property
    def _queue(self) -> Queue:
        found = self.ctx.policy.queues.get(str(self.spec.params["queue"]))
        if found is None:
            raise Rejected(f"the policy has no queue {self.spec.params['queue']} any more",
                           where=self.spec.id, hint="put it back, or: ccfailover skip")
        return found

    def _site(self, name: str) -> Site:
        found = self.ctx.policy.sites.get(name)
        if found is None:
            raise Rejected(f"the policy has no site {name} any more", where=self.spec.id,
                           hint="put it back, or: ccfailover skip")
        return found

    def _lever(self, role: str) -> LeverSpec:
        lever = self._queue.backlog(str(self.spec.params[role]))
        if lever is None:
            raise Rejected(f"the policy has no backlog of {self._queue.name} at "
                           f"{self.spec.params[role]} any more", where=self.spec.id)
        return lever

    def _backlog(self, role: str) -> Backlog:
        return self.ctx.levers.backlog(self._lever(role))

    def snapshot(self) -> Json:
        """Depths at the beginning, for the report; None where a platform cannot tell."""
        shown: dict[str, Json] = {}
        for role in ("source", "target"):
            if role not in self.spec.params:
                continue
            try:
                found = self.ctx.levers.backlog_view(self._lever(role)).measure()
                shown[role] = {"visible": found.visible, "hidden": found.hidden}
            except Unavailable as error:
                if role == "source" and self.spec.params.get("percent") is not None:
                    raise  # a part of an unknown number is unknown, and never all of it
                # A dead source is no reason not to begin: the move says what it could not reach.
                shown[role] = {"unreachable": str(error)}
        return shown

    def moves(self, snapshot: Json) -> Sequence[Move]:
        return self._move("source", "target")

    def undo_moves(self, snapshot: Json) -> Sequence[Move]:
        return self._move("target", "source")

    def _move(self, source: str, target: str) -> Sequence[Move]:
        params = self.spec.params
        if self._clears:
            return ()
        return (Move(str(params["queue"]), Shares({str(params[source]): 100}),
                     Shares({str(params[target]): 100}), hard_only=True),)

    def holds(self, snapshot: Json) -> Observed:
        if self._clears:
            return self._clear_holds()
        if self._result is not None and self._result.finished:
            return self._seen(self._result)
        if self._nothing_waits():
            return Observed(Truth.YES, f"nothing waits at {self.spec.params['source']}",
                            data={"moved": self._moved()})
        return Observed(Truth.NO, self._result.detail if self._result else "not finished")

    def apply(self, snapshot: Json) -> bool:
        deadline = self.ctx.runtime.monotonic() + self.spec.timeout
        if self._clears:
            source = self._backlog("source")
            # One call, long enough to outlive a dead process's claims: a second one would look
            # at home's own items again. It checks the fence before every batch.
            from ccfailover.transfer.stranded import clear_stranded

            deadline += source.claim_seconds
            self._cleared = clear_stranded(
                self.ctx.store, source, self._queue,
                site=str(self.spec.params["source"]), run=self.ctx.run, lease=self.ctx.lease,
                runtime=self.ctx.runtime, deadline=deadline, stop=self.ctx.stop,
                check_fence=self.ctx.check_fence)
            return True
        target = str(self.spec.params["target"])
        if self.ctx.site_state(target) == State.DOWN:
            raise Refused(f"{target} is down: no applications go there", guard="dead_site",
                          not_done=f"what is not moved yet stays at {self.spec.params['source']}",
                          hint="roll back, or plan anew with another receiver")
        if self._mover is None:
            self._mover = self._make("source", "target", self._owner, self._eligibility(),
                                     self._limit(snapshot))
        self._result = self._mover.run(deadline)
        return self._result.finished

    def undo_holds(self, snapshot: Json) -> Observed:
        if self._clears:
            return Observed(Truth.YES, "deleted copies stay deleted: others own these items")
        if self._undo is not None and self._undo.finished:
            stayed = sorted(self._away())
            extra = tuple(f"{len(stayed)} stay at {self.spec.params['target']}, begun there or "
                          f"not seen again: {', '.join(stayed[:50])}" for _ in stayed[:1])
            return Observed(Truth.YES, self._undo.detail, exceptions=extra)
        if not self._away() and not self._doubtful():
            return Observed(Truth.YES, "nothing was moved")
        return Observed(Truth.NO, f"{len(self._away())} are still away")

    def undo(self, snapshot: Json) -> bool:
        """Bring back what nobody has begun: what still waits at the target.

        What is in doubt is carried to its end first: an item that may be at both places would
        else be left at both.
        """
        source = str(self.spec.params["source"])
        if (state := self.ctx.site_state(source)) in (State.DOWN, State.UNKNOWN):
            raise Refused(f"{source} is {state}: undo would send applications back to it",
                          guard="dead_site",
                          hint="leave them where they are, or roll back when it is healthy")
        deadline = self.ctx.runtime.monotonic() + self.spec.timeout
        if self._resolved is None and (doubtful := self._doubtful()):
            self._mover = self._mover or self._make("source", "target", self._owner,
                                                    OnlyThese(doubtful), None, only=doubtful)
            result = self._mover.run(deadline)
            if not result.finished:
                return False
            self._resolved = result
            self._mover = None
        if self._back is None:
            away = self._away()
            self._back = self._make("target", "source", self._undoing, OnlyThese(away), None,
                                    only=away)
        self._undo = self._back.run(deadline)
        return self._undo.finished

    # --- what the answers are made of ----------------------------------------------------------

    @property
    def _undoing(self) -> tuple[str, str]:
        return self.ctx.run, f"{self.spec.id}~undo"

    def _make(self, source: str, target: str, move: tuple[str, str], eligibility: Eligibility,
              limit: int | None, *, only: Collection[str] | None = None) -> Mover:
        from ccfailover.transfer.mover import Mover

        params, ctx, (run, step) = self.spec.params, self.ctx, move
        rate = params.get("rate")
        return Mover(
            self._backlog(source), self._backlog(target), store=ctx.store, lease=ctx.lease,
            run=run, step=step, queue=self._queue, source_site=str(params[source]),
            target_site=self._site(str(params[target])), eligibility=eligibility,
            runtime=ctx.runtime, target_capabilities=ctx.levers.capabilities(self._lever(target)),
            rate_per_second=float(rate) if rate else None, limit=limit, only=only,
            stop=ctx.stop, check_fence=ctx.check_fence, progress=ctx.progress,
            worked=lambda: self._worked(str(params[source])))

    def _worked(self, site: str) -> bool:
        """Whether the site's own consumers may be at work: only a closed gate says no."""
        gate = self._queue.consumers.get(site)
        if gate is None:
            return True
        try:
            return self.ctx.levers.gate_view(gate).is_open()
        except ProviderError:
            return True

    def _eligibility(self) -> Eligibility:
        """What goes out needs the lender's leave; nothing goes that somebody has in hand."""
        from ccfailover.transfer.eligibility import CelEligibility

        target = str(self.spec.params["target"])
        return CelEligibility(self._queue, self._site(target), self.ctx.runtime)

    def _limit(self, snapshot: Json) -> int | None:
        percent = self.spec.params.get("percent")
        depth = snapshot.get("source", {}) if isinstance(snapshot, dict) else {}
        if percent is None or "visible" not in depth:
            return None
        return -(-(int(depth["visible"]) + int(depth["hidden"])) * int(percent) // 100)

    def _seen(self, result: MoveResult) -> Observed:
        """A finished move: what a person must know of it are its exceptions.

        One whose target took nothing, or takes no more, is no success: the work still waits.
        """
        source, target = self.spec.params["source"], self.spec.params["target"]
        if result.target_refuses or (result.refused and not result.moved):
            return Observed(Truth.NO, f"{target} took {result.moved} and refused "
                                      f"{result.refused}: {result.detail}", final=True)
        told = []
        if result.refused:
            told.append(f"{result.refused} stay at {source}: {target} did not take them")
        if result.stranded:
            told.append(f"{result.stranded} delivered, their copies at {source} not deleted")
        if result.remaining_claimed:
            told.append(f"{result.remaining_claimed} in doubt: claimed at {source}, not seen again")
        if result.unreachable and not result.complete:  # else: beyond the limit, and meant to stay
            told.append(f"{result.unreachable} at {source} could not be reached")
        elif result.unreachable is None:
            told.append(f"{source} does not say how many it still holds")
        if result.quarantined:
            told.append(f"{result.quarantined} quarantined at {source}")
        if result.possible_duplicates:
            told.append(f"{result.possible_duplicates} possible duplicates at "
                        f"{target}: ccfailover transfer reconcile")
        return Observed(Truth.YES, result.detail, exceptions=tuple(told), data={
            "moved": result.moved, "left": dict(result.left), "stranded": result.stranded,
            "quarantined": result.quarantined, "in_doubt": result.remaining_claimed,
            "unreachable": result.unreachable, "source_dead": result.source_dead,
            "possible_duplicates": result.possible_duplicates,
            "duplicates_collapsed": result.duplicates_collapsed})

    def _clear_holds(self) -> Observed:
        from ccfailover.transfer.stranded import stranded_rows

        site = str(self.spec.params["source"])
        left = stranded_rows(self.ctx.store, self._queue.name, site)
        if not left:
            done = self._cleared
            count = len(done.deleted) if done else 0
            return Observed(Truth.YES, f"no stranded copies at {site}; {count} deleted",
                            data={"deleted": count})
        if self._cleared is not None and not self._cleared.complete:
            return Observed(Truth.NO, self._cleared.detail, final=True)
        return Observed(Truth.NO, f"{len(left)} copies may be left at {site}")

    def _nothing_waits(self) -> bool:
        """Only where the platform itself counts none, and the ledger has none in doubt."""
        run, step = self._owner
        doubtful = self.ctx.store.item_counts(run=run, step=step)
        if doubtful.get(ItemState.CLAIMED) or doubtful.get(ItemState.DELIVERED):
            return False
        found = self.ctx.levers.backlog_view(self._lever("source")).measure()
        return found.depth == 0

    def _rows(self, move: tuple[str, str]) -> dict[str, ItemState]:
        run, step = move
        return {row.item_id: row.state for row in self.ctx.store.items(run=run, step=step)}

    def _moved(self) -> int:
        return sum(state in AT_TARGET for state in self._rows(self._owner).values())

    def _doubtful(self) -> set[str]:
        """Items that this step claimed, or delivered, without knowing how that ended."""
        unsure = (ItemState.CLAIMED, ItemState.DELIVERED)
        return {item for item, state in self._rows(self._owner).items() if state in unsure}

    def _away(self) -> set[str]:
        """Items this step delivered that its undo has not brought back."""
        back = {item for item, state in self._rows(self._undoing).items()
                if state in AT_TARGET}
        return {item for item, state in self._rows(self._owner).items()
                if state in AT_TARGET} - back
