"""`transfer`: waiting applications go where the new ones go; stale copies are deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from ccfailover.errors import ProviderError, Refused, Rejected, Unavailable
from ccfailover.model.health import State
from ccfailover.model.plan import Json, StepSpec
from ccfailover.model.policy import LeverSpec, Queue, Site
from ccfailover.model.shares import Shares
from ccfailover.providers import Backlog
from ccfailover.runbooks.moved import Moved, observed
from ccfailover.runbooks.step import Binding, Move, Observed, Step, StepContext, Truth

if TYPE_CHECKING:  # most queues have no backlog, and every plan binds this step
    from ccfailover.runbooks.helped import Helped
    from ccfailover.transfer.eligibility import Eligibility
    from ccfailover.transfer.mover import Mover, MoveResult
    from ccfailover.transfer.ready import Ready
    from ccfailover.transfer.stranded import ClearResult

DEADLINE = 4 * 3600.0
"""Seconds for one transfer; it reports progress and can be stopped at any batch."""
SLICE = 20.0
"""Seconds of work between two looks of the engine; shorter than a lease."""


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
        return [cls._of_one(binding, queue, source, target, deadline) for source, target in moves]

    @classmethod
    def _of_one(cls, binding: Binding, queue: Queue, source: str, target: str,
                deadline: float) -> StepSpec:
        stays = not binding.capabilities(queue.backlogs[source]).claims
        title = f"move waiting {queue.name} from {source} to {target}"
        if stays:
            title = f"leave waiting {queue.name} at {source} to its end: it gives nothing back"
        params: dict[str, Json] = {
            "queue": queue.name, "source": source, "target": target,
            "percent": cls._percent(binding, target), "rate": binding.params.get("rate")}
        return StepSpec(id=f"{cls.kind}-{source}-{target}", kind=cls.kind, timeout=SLICE,
                        deadline=deadline, title=title,
                        params={**params, "stays": True} if stays else params)

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
        self._helped: Helped | None = None
        self._result: MoveResult | None = None
        self._cleared: ClearResult | None = None
        self._resolved: MoveResult | None = None
        self._ready: Ready | None = None
        self._back: Mover | None = None
        self._undo: MoveResult | None = None
        # A move inherited from a superseded run is undone as that run's own: `run:step`.
        owner, _, step = spec.id.rpartition(":")
        self._owner = (owner or ctx.run, step)

    @property
    def _clears(self) -> bool:
        return bool(self.spec.params.get("clear"))

    @property
    def _stays(self) -> bool:
        return bool(self.spec.params.get("stays"))

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
        if self._clears or self._stays:
            return ()
        return (Move(str(params["queue"]), Shares({str(params[source]): 100}),
                     Shares({str(params[target]): 100}), hard_only=True),)

    def holds(self, snapshot: Json) -> Observed:
        if self._clears:
            return self._clear_holds()
        if self._stays:
            return self._stay_holds()
        if self._result is not None and self._result.finished:
            return observed(self._result, self._ready, *self._ends)
        if self._helped is not None and self._helped.used:
            return Observed(Truth.NO, self._result.detail if self._result
                            else "workers are at it, and this run looks after them")
        if self._nothing_waits():
            return Observed(Truth.YES, f"nothing waits at {self.spec.params['source']}",
                            data={"moved": self._by_ledger.count()})
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
                check_fence=self.ctx.check_fence,
                one_system=self.ctx.levers.capabilities(self._lever("source")).assignee is not None)
            return True
        target = str(self.spec.params["target"])
        if self.ctx.site_state(target) == State.DOWN:
            if self._helped is not None:
                self._helped.ended(deadline)
            raise Refused(f"{target} is down: no applications go there", guard="dead_site",
                          not_done=f"what is not moved yet stays at {self.spec.params['source']}",
                          hint="roll back, or plan anew with another receiver")
        if self._mover is None:
            self._ready = self._ready or self._readiness(target)
            limit, helped = self._limit(snapshot), self._help()
            if helped is not None and not (
                    helped.undisturbed(deadline) and (limit is not None or helped.let(deadline))):
                return False
            self._mover = self._make("source", "target", self._owner, self._eligibility(), limit)
        self._result = self._mover.run(deadline)
        return self._result.finished

    def undo_holds(self, snapshot: Json) -> Observed:
        if self._stays:
            return Observed(Truth.YES, "nothing was moved")
        if self._clears:
            return Observed(Truth.YES, "deleted copies stay deleted: others own these items")
        if self._undo is not None and self._undo.finished:
            stayed = sorted(self._by_ledger.away())
            extra = tuple(f"{len(stayed)} stay at {self.spec.params['target']}, begun there or "
                          f"not seen again: {', '.join(stayed[:50])}" for _ in stayed[:1])
            return Observed(Truth.YES, self._undo.detail, exceptions=extra)
        if not self._by_ledger.away() and not self._by_ledger.in_doubt():
            return Observed(Truth.YES, "nothing was moved")
        if not self._gives_back("target") and not self._by_ledger.in_doubt():
            target, count = self.spec.params["target"], len(self._by_ledger.away())
            return Observed(Truth.YES, f"{target} gives nothing back", exceptions=(
                f"{count} stay at {target} to their end: it takes work in and gives none back",))
        return Observed(Truth.NO, f"{len(self._by_ledger.away())} are still away")

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
        from ccfailover.transfer.eligibility import OnlyThese

        deadline = self.ctx.runtime.monotonic() + self.spec.timeout
        if (helped := self._help()) is not None and not helped.ended(deadline):
            return False
        if self._resolved is None and (doubtful := self._by_ledger.in_doubt()):
            self._mover = self._mover or self._make("source", "target", self._owner,
                                                    OnlyThese(doubtful), None, only=doubtful)
            result = self._mover.run(deadline)
            if not result.finished:
                return False
            self._resolved = result
            self._mover = None
        if not self._gives_back("target"):
            return True
        if self._back is None:
            away = self._by_ledger.away()
            self._back = self._make("target", "source", self._undoing, OnlyThese(away), None,
                                    only=away)
        self._undo = self._back.run(deadline)
        return self._undo.finished

    # --- what the answers are made of ----------------------------------------------------------

    @property
    def _ends(self) -> tuple[str, str]:
        return str(self.spec.params["source"]), str(self.spec.params["target"])

    @property
    def _by_ledger(self) -> Moved:
        return Moved(self.ctx.store, self._owner, self._undoing)

    @property
    def _undoing(self) -> tuple[str, str]:
        return self.ctx.run, f"{self.spec.id}~undo"

    def _help(self) -> Helped | None:
        """Loaded only where there can be workers."""
        fan_out, lease = self.ctx.fan_out, self.ctx.lease
        if self._helped is None and fan_out is not None and lease is not None:
            from ccfailover.runbooks.helped import Helped

            self._helped = Helped(self.spec, self.ctx, fan_out, lease, self._owner,
                                  self._lever("source"))
        return self._helped

    def _make(self, source: str, target: str, move: tuple[str, str], eligibility: Eligibility,
              limit: int | None, *, only: Collection[str] | None = None) -> Mover:
        from ccfailover.transfer.modes import check_modes
        from ccfailover.transfer.mover import Mover
        from ccfailover.transfer.pace import Turn

        params, ctx, (run, step) = self.spec.params, self.ctx, move
        levers = self._lever(source), self._lever(target)
        can, takes = map(ctx.levers.capabilities, levers)
        check_modes((levers[0], can), (levers[1], takes), str(params[source]))
        rate = params.get("rate")
        return Mover(
            self._backlog(source), self._backlog(target), store=ctx.store, lease=ctx.lease,
            run=run, step=step, queue=self._queue, source_site=str(params[source]),
            target_site=self._site(str(params[target])), eligibility=eligibility,
            runtime=ctx.runtime, target_capabilities=takes,
            rate_per_second=float(rate) if rate else None, limit=limit, only=only,
            turn=Turn(ctx.store, self._lever(target).provider),
            stop=ctx.stop, check_fence=ctx.check_fence, progress=ctx.progress,
            worked=lambda: self._worked(str(params[source])))

    def _readiness(self, target: str) -> Ready:
        """Here and not in a step of its own: so that every recipe has it, also one that somebody
        wrote, and nothing can happen between the proof and the first item."""
        from ccfailover.transfer.ready import Readiness

        ctx = self.ctx
        return Readiness(
            self._backlog("target"), store=ctx.store, lease=ctx.lease, run=ctx.run,
            step=self.spec.id, queue=self._queue, site=self._site(target), runtime=ctx.runtime,
            check_fence=ctx.check_fence, stop=ctx.stop,
        ).prove(canary=self._lever("target").canary)

    def _gives_back(self, role: str) -> bool:
        return self.ctx.levers.capabilities(self._lever(role)).claims

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

    def _stay_holds(self) -> Observed:
        """Nothing is done here; a person must know what is left behind."""
        site = str(self.spec.params["source"])
        try:
            depth = self.ctx.levers.backlog_view(self._lever("source")).measure().depth
        except ProviderError:
            return Observed(Truth.YES, f"{site} gives nothing back", exceptions=(
                f"what waits at {site} stays there to its end; how much that is cannot be told",))
        return Observed(Truth.YES, f"{depth} wait at {site}", exceptions=(
            f"{depth} stay at {site} to their end: it gives nothing back",) if depth else ())

    def _nothing_waits(self) -> bool:
        """Only where the platform itself counts none, and the ledger has none in doubt."""
        if self._by_ledger.any_in_doubt():
            return False
        found = self.ctx.levers.backlog_view(self._lever("source")).measure()
        return found.depth == 0
