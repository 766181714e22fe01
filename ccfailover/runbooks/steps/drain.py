"""`drain`: contacts in progress where the work came from are let finish before it is let go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ccfailover.errors import ProviderError
from ccfailover.model.plan import Json, OnFailure, StepSpec
from ccfailover.runbooks.lever_step import lever_of
from ccfailover.runbooks.step import Binding, Observed, Step, Truth

DEADLINE = 900.0
"""Seconds: longer than nearly every call to a lender takes."""

PATIENCE = 60.0
"""Seconds for which a count may be unknown, as while a switch restarts, before that is the word."""


class Drain(Step):
    """Waits until the route counts no contact at those who lost shares. It never cuts one off.

    At its deadline what is left is an exception in the run, which goes on unless the recipe says
    else. A count that is not known is never 0: the branch pauses, unless `unknown: continue`.
    """

    kind = "drain"
    summary = "wait until the contacts in progress where the work came from have ended"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "deadline": {"type": "number", "exclusiveMinimum": 0,
                         "description": "seconds that contacts are given to end; 900 unless said"},
            "unknown": {"enum": ["pause", "continue"],
                        "description": "what to do where the count cannot be read to the end"},
            "on_failure": {"enum": ["pause", "continue", "abort"]},
        },
    }

    _began: float | None = None
    _dark_since: float | None = None

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        queue, after = binding.queue, binding.after
        if queue is None or queue.route is None or after is None:
            return []
        can = binding.capabilities(queue.route)
        # Where nobody knows where the calls were, they may be at whoever gets none now.
        before = binding.before or dict.fromkeys((queue.home, *queue.backups), 100)
        left = sorted(name for name in before if after.of(name) == 0
                      and name in binding.policy.sites)
        if not can.live or not left:
            return []
        return [StepSpec(
            id=cls.kind, kind=cls.kind, poll=1.0,
            params={"queue": queue.name, "sites": left, "settle": can.propagation,
                    "unknown": str(binding.params.get("unknown", "pause"))},
            deadline=float(binding.params.get("deadline", DEADLINE)) + can.propagation,
            title=f"{queue.name}: contacts in progress at {', '.join(left)} end by themselves",
            on_failure=OnFailure(binding.params.get("on_failure", "continue")),
        )]

    def holds(self, snapshot: Json) -> Observed:
        now = self.ctx.runtime.monotonic()
        self._began = now if self._began is None else self._began
        sites = [str(name) for name in self.spec.params["sites"]]
        lever = lever_of(self.ctx.policy, str(self.spec.params["queue"]), "route")
        try:
            live = self.ctx.levers.route_view(lever).live()
        except ProviderError as error:
            return self._unknown(f"cannot be read: {error}")
        if live is None:
            return self._unknown(f"cannot be told by {lever.lever}")
        silent = [name for name in sites if name not in live]
        if silent:
            return self._unknown(f"are not known at {', '.join(silent)}")
        self._dark_since = None
        counts = {name: live[name] for name in sites}
        left = sum(counts.values())
        told = ", ".join(f"{count} at {name}" for name, count in counts.items())
        self.ctx.progress(0, None, f"contacts in progress: {told}")
        if left:
            return Observed(Truth.NO, f"{left} contacts in progress ({told})")
        settle = float(self.spec.params["settle"])
        if now - self._began < settle:
            return Observed(Truth.NO, f"none in progress; callers may go by the old record for "
                                      f"{settle - (now - self._began):.0f} s more")
        return Observed(Truth.YES, f"no contacts in progress ({told})", data={"live": counts})

    def _unknown(self, why: str) -> Observed:
        """`veto`: the recipe's way with contacts that are left is not one with what is unknown."""
        now = self.ctx.runtime.monotonic()
        self._dark_since = now if self._dark_since is None else self._dark_since
        return Observed(Truth.UNKNOWN, f"contacts in progress {why}",
                        final=now - self._dark_since >= PATIENCE,
                        veto=self.spec.params["unknown"] == "pause")
