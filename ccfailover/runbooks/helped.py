"""A transfer that workers on other machines may help with, as its step sees it.

They only make it quicker. What they leave, and whether all has arrived, is for the step's own
mover to find out, which begins when none of them is at work any more.
"""

from __future__ import annotations

from ccfailover.errors import ProviderError, Unavailable
from ccfailover.model.items import ItemState
from ccfailover.model.journal import Lease
from ccfailover.model.plan import Mode, StepSpec
from ccfailover.model.policy import LeverSpec
from ccfailover.runbooks.step import StepContext
from ccfailover.transfer.fanout import FanOut, Token
from ccfailover.transfer.spread import SECONDS, Spread, outwait


class Helped:
    """`owner`: run and step under whose name the ledger has the move; `source`: where it claims."""

    def __init__(self, spec: StepSpec, ctx: StepContext, fan_out: FanOut, lease: Lease,
                 owner: tuple[str, str], source: LeverSpec) -> None:
        self._ctx, self._fan_out, self._owner, self._source = ctx, fan_out, owner, source
        params = spec.params
        rate = params.get("rate")
        self._token = Token(
            run=owner[0], step=owner[1], under=lease.run, fence=lease.fence,
            queue=str(params["queue"]), source=str(params["source"]), target=str(params["target"]),
            policy=ctx.policy.sha256, rate=float(rate) if rate else None, items=1,
            seconds=SECONDS)
        self._spread: Spread | None = None
        self._quiet = False

    @property
    def used(self) -> bool:
        """Whether workers had a part in it: then only the own mover's end is an end."""
        return self._spread is not None

    def undisturbed(self, deadline: float) -> bool:
        """Whether no worker is still at what an earlier attempt left in doubt; False: call
        again."""
        run, step = self._owner
        if not self._quiet and any(self._ctx.store.item_counts(
                run=run, step=step, states=(ItemState.CLAIMED, ItemState.DELIVERED)).values()):
            try:
                self._quiet = outwait(self._fan_out, self._token, self._ctx.runtime, deadline)
            except Unavailable as error:
                if error.in_doubt:
                    raise
                self._quiet = True  # they cannot be asked from here; the fence holds them off
            return self._quiet
        self._quiet = True
        return True

    def let(self, deadline: float) -> bool:
        """Let workers carry what they can; True: it is the own mover's turn, False: call again.

        Where claims end with a connection they cannot be taken over, so that every item that
        stays would have to be looked at again: such a source is ours alone."""
        if self._spread is None:
            if (self._ctx.mode is not Mode.REAL or not self._fan_out.workers()
                    or not self._ctx.levers.capabilities(self._source).claims_lapse):
                return True
            ctx = self._ctx
            self._spread = Spread(
                self._fan_out, self._token, runtime=ctx.runtime, depth=self._depth,
                done=self._recorded, stop=ctx.stop, check_fence=ctx.check_fence,
                progress=ctx.progress)
        return self._spread.run(deadline)

    def ended(self, deadline: float) -> bool:
        """Call the workers off; whether none is at it any more. False: call again."""
        if self._spread is None:
            return self.undisturbed(deadline)
        self._spread.end()
        return self._spread.run(deadline)

    def _depth(self) -> int | None:
        try:
            return self._ctx.levers.backlog_view(self._source).measure().visible
        except ProviderError:
            return None  # our own mover finds out what is the matter

    def _recorded(self) -> int:
        run, step = self._owner
        return sum(self._ctx.store.item_counts(run=run, step=step).values())
