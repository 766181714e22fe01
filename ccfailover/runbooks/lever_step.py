"""What `shift_route` and `redirect_intake` share: a lever set to absolute shares and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ccfailover.errors import Refused, Rejected
from ccfailover.model.health import State
from ccfailover.model.plan import Json, Plan, StepSpec
from ccfailover.model.policy import LeverSpec, Policy
from ccfailover.model.shares import Shares
from ccfailover.planning.eligibility import KIND_OF, forbidden
from ccfailover.providers import RouteState
from ccfailover.runbooks.step import Binding, Observed, Step, Truth


def lever_of(policy: Policy, queue: str, role: str, leased: str | None = None) -> LeverSpec:
    """The lever that the policy in force names. Raises Rejected when it names none any more, or
    another than the one that the run has `leased`."""
    lever = getattr(policy.queues.get(queue), role, None)
    if not isinstance(lever, LeverSpec):
        raise Rejected(f"the policy has no {role} for queue {queue} any more",
                       hint="put it back, or: ccfailover skip")
    if leased is not None and lever.lever != leased:
        raise Rejected(f"the policy's {role} for queue {queue} is {lever.lever} now; this run "
                       f"holds {leased} and may touch no other", not_done="nothing was changed",
                       hint="put it back; or abort the run and plan anew")
    return lever


def stages(before: Shares | None, after: Shares, increments: Sequence[int],
           step: int) -> list[Shares]:
    """The shares on the way from `before` to `after`, each a multiple of the lever's `step`.

    An increment of 25 is a quarter of the way. The last is `after` itself. From an unknown
    `before` there is no way, only the aim.
    """
    if before is None:
        return [after]
    names = sorted(set(before) | set(after))
    way: list[Shares] = []
    for increment in increments:
        if increment >= 100:
            break
        parts = {}
        for name in names:
            wanted = before.of(name) + (after.of(name) - before.of(name)) * increment / 100
            parts[name] = int(wanted // step) * step
        # What flooring left over goes where the work is meant to go in the end.
        largest = max(names, key=lambda name: (after.of(name), name))
        parts[largest] += 100 - sum(parts.values())
        shares = Shares(parts)
        if shares not in (before, after) and shares not in way:
            way.append(shares)
    return [*way, after]


class LeverStep(Step):
    """Set one lever to `params["to"]`; believe its read-back, for `soak` seconds."""

    role: str

    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "increments": {"type": "array", "items": {"type": "integer", "minimum": 1,
                                                      "maximum": 100}},
            "soak": {"type": "number", "minimum": 0},
            "deadline": {"type": "number", "exclusiveMinimum": 0},
            "on_failure": {"enum": ["pause", "continue", "abort", "undo"]},
        },
    }

    @classmethod
    def specs(cls, binding: Binding, increments: Sequence[int], soak: float) -> list[StepSpec]:
        queue, after = binding.queue, binding.after
        lever = getattr(queue, cls.role) if queue else None
        if queue is None or after is None or lever is None or binding.before == after:
            return []
        step = binding.capabilities(lever).share_step
        way = stages(binding.before, after, increments, step)
        deadline = float(binding.params.get("deadline", 60.0))
        return [
            StepSpec(
                id=cls.kind if len(way) == 1 else f"{cls.kind}-{number}of{len(way)}",
                kind=cls.kind, lever=lever.lever, timeout=10.0, deadline=deadline + soak,
                params={"queue": queue.name, "to": shares.to_json(), "soak": soak},
                title=f"{cls.verb()} {queue.name}: {shares}",
            )
            for number, shares in enumerate(way, 1)
        ]

    @classmethod
    def verb(cls) -> str:
        return "set"

    @property
    def lever(self) -> LeverSpec:
        return lever_of(self.ctx.policy, str(self.spec.params["queue"]), self.role,
                        self.spec.lever)

    @property
    def to(self) -> Shares:
        return Shares(self.spec.params["to"])

    def snapshot(self) -> Json:
        state = self.ctx.levers.route_view(self.lever).read()
        return {"shares": state.shares.to_json()}

    def holds(self, snapshot: Json) -> Observed:
        state = self.ctx.levers.route_view(self.lever).read()
        if state.shares != self.to:
            self._held_since: float | None = None
            return Observed(Truth.NO, f"{self.lever.lever} reads {state.shares}")
        soak = float(self.spec.params.get("soak", 0))
        if not soak:
            return Observed(Truth.YES, f"{self.lever.lever} reads {state.shares}")
        now = self.ctx.runtime.monotonic()
        self._held_since = getattr(self, "_held_since", None) or now
        dead = [name for name in self._raised(Shares(snapshot["shares"]), self.to)
                if self.ctx.site_state(name) == State.DOWN]
        if dead:
            return Observed(Truth.NO, f"{', '.join(dead)} went down while {state.shares} soaked",
                            final=True)
        if now - self._held_since < soak:
            return Observed(Truth.NO, f"{state.shares} soaks, "
                                      f"{now - self._held_since:.0f} of {soak:g} s")
        return Observed(Truth.YES, f"{self.lever.lever} reads {state.shares}, "
                                   f"soaked {soak:g} s")

    def still(self, snapshot: Json) -> Observed:
        state = self.ctx.levers.route_view(self.lever).read()
        same = state.shares == self.to
        return Observed(Truth.YES if same else Truth.NO, f"{self.lever.lever} reads {state.shares}")

    def apply(self, snapshot: Json) -> bool:
        lever = self.ctx.levers.route(self.lever)
        current = lever.read()
        if current.shares == self.to:
            return True
        before = Shares(snapshot["shares"])
        if current.shares != before and self._attempt() < 2:
            raise Refused(
                f"{self.lever.lever} was {before} when this step began and is {current.shares} "
                "now: somebody else moved it", guard="concurrent_change",
                hint="look who did, then `ccfailover resume` to set it all the same")
        for name in self._raised(current.shares, self.to):
            self._refuse_forbidden(name)
            if self.ctx.site_state(name) == State.DOWN:
                raise Refused(f"{name} is down: no more work goes there", guard="dead_site",
                              hint="roll back, or plan anew with another receiver")
        lever.shift(self.to, expected=current, key=self.ctx.key)
        return True

    def _refuse_forbidden(self, name: str) -> None:
        """Hard guards hold for the policy and the day on which a run acts, not only for those of
        its plan: a licence may have ended, a queue been closed to outsourcing since."""
        queue = self.ctx.policy.queues[str(self.spec.params["queue"])]
        found = forbidden(self.ctx.policy, queue, self.ctx.policy.sites[name],
                          kind=KIND_OF.get(self.ctx.plan.runbook, "failover"),
                          at=self.ctx.runtime.now())
        if found is not None:
            raise Refused(found.sentence, guard=found.guard, where=self.spec.id,
                          not_done=f"{self.lever.lever} was not changed",
                          hint="roll back, or plan anew with another receiver")

    def undo_holds(self, snapshot: Json) -> Observed:
        state = self.ctx.levers.route_view(self.lever).read()
        same = state.shares == Shares(snapshot["shares"])
        return Observed(Truth.YES if same else Truth.NO, f"{self.lever.lever} reads {state.shares}")

    def undo(self, snapshot: Json) -> bool:
        lever = self.ctx.levers.route(self.lever)
        before, current = Shares(snapshot["shares"]), lever.read()
        if current.shares == before:
            return True
        self._refuse_foreign(current)
        for name in self._raised(current.shares, before):
            state = self.ctx.site_state(name)
            if name in self.ctx.policy.sites and state in (State.DOWN, State.UNKNOWN):
                raise Refused(f"{name} is {state}: undo would send work back to it",
                              guard="dead_site",
                              hint="leave it as it is, or roll back again when it is healthy")
        lever.shift(before, expected=current, key=f"{self.ctx.key}~undo")
        return True

    def _refuse_foreign(self, current: RouteState) -> None:
        if current.shares not in self._ever_set():
            raise Refused(f"{self.lever.lever} reads {current.shares}, which this run never set: "
                          "somebody else moved it since", guard="concurrent_change",
                          hint="agree with them, then `ccfailover adopt` or set it by hand")

    def _ever_set(self) -> list[Shares]:
        """Whatever this run, or one that it superseded, may have set the lever to."""
        plan, found = self.ctx.plan, []
        while True:
            found += [Shares(spec.params["to"]) for spec in plan.steps()
                      if spec.lever == self.spec.lever and "to" in spec.params]
            if plan.supersedes is None:
                return found
            planned = self.ctx.store.read(f"run:{plan.supersedes}")[0]
            plan = Plan.from_json(planned.data["plan"])

    def _raised(self, now: Shares, to: Shares) -> list[str]:
        return [name for name in to if to.of(name) > now.of(name)
                and name in self.ctx.policy.sites]

    def _attempt(self) -> int:
        return sum(1 for record in self.ctx.records()
                   if record.kind == "step.started" and record.data.get("step") == self.spec.id)
