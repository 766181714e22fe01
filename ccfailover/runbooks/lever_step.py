"""What `shift_route` and `redirect_intake` share: a lever set to absolute shares and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from ccfailover.errors import Refused, Rejected
from ccfailover.model.health import Outcome, State
from ccfailover.model.plan import Json, Plan, StepSpec
from ccfailover.model.policy import LeverSpec, Policy
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState, RouteView
from ccfailover.runbooks.ramp import Feedback, Verdict, judge
from ccfailover.runbooks.step import Binding, Move, Observed, Step, StepContext, Truth

LOOK_AGAIN = 2.0
"""Seconds for which a look at those who bear an increment is good enough."""

_POLL_BY_HAND = 2.0
"""Seconds between two looks whether a person has answered."""


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


def _found(snapshot: Json) -> RouteState:
    """What the step's lever was before it. Runs of earlier releases noted the shares alone."""
    return RouteState(Shares(snapshot["shares"]), raw=snapshot.get("raw"))


def _told(state: RouteState) -> str:
    return f", {state.told}" if state.told else ""


class LeverStep(Step):
    """Set one lever to `params["to"]`; believe its read-back, and for `soak` seconds watch how the
    receivers and whoever keeps a part bear it: go on, hold, or back off."""

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

    def __init__(self, spec: StepSpec, ctx: StepContext) -> None:
        super().__init__(spec, ctx)
        self._held_since: float | None = None
        self._unwell_since: float | None = None
        self._read_as: Shares | None = None
        self._told: tuple[float, Feedback] | None = None
        self._began: dict[str, State] = {}
        self._borne = ""
        self._amiss: tuple[str, ...] = ()
        self._asked = False
        self._restored = False

    @classmethod
    def specs(cls, binding: Binding, increments: Sequence[int], soak: float) -> list[StepSpec]:
        queue, after = binding.queue, binding.after
        lever = getattr(queue, cls.role) if queue else None
        if queue is None or after is None or lever is None or binding.before == after:
            return []
        can = binding.capabilities(lever)
        others = [other.name for other in binding.policy.queues.values() if other is not queue
                  and lever.lever in {one.lever for one in (other.route, other.intake) if one}]
        carried: dict[str, Json] = {"carries": others} if others else {}
        way = stages(binding.before, after, increments, can.share_step)
        # Held increments are waited for, once: then they are taken back.
        deadline = float(binding.params.get("deadline", 60.0)) + (
            queue.hold if soak else 0.0) + can.propagation + (can.by_hand or 0.0)
        later = f" (callers follow within {can.propagation:g} s)" if can.propagation else ""
        later += " (by hand)" if can.by_hand else ""
        if lever.lever in binding.led:
            leader, wait = binding.led[lever.lever]
            return [StepSpec(
                id=cls.kind, kind=cls.kind, timeout=10.0, deadline=deadline + wait,
                params={"queue": queue.name, "to": after.to_json(), "led_by": leader},
                title=f"{queue.name}: {after}, as {leader}'s steps set {lever.lever} for both")]
        return [
            StepSpec(
                id=cls.kind if len(way) == 1 else f"{cls.kind}-{number}of{len(way)}",
                kind=cls.kind, lever=lever.lever, timeout=10.0, deadline=deadline + soak,
                poll=_POLL_BY_HAND if can.by_hand else StepSpec.poll,
                params={"queue": queue.name, "to": shares.to_json(), "soak": soak,
                        "hold": queue.hold, "part": number, **carried},
                title=f"{cls.verb()} {queue.name}: {shares}{later}",
            )
            for number, shares in enumerate(way, 1)
        ]

    @classmethod
    def verb(cls) -> str:
        return "set"

    @property
    def lever(self) -> LeverSpec:
        return lever_of(self.ctx.policy, str(self.spec.params["queue"]), self.role,
                        self.spec.lever or None)

    @property
    def to(self) -> Shares:
        return Shares(self.spec.params["to"])

    def snapshot(self) -> Json:
        state = self.ctx.levers.route_view(self.lever).read()
        if self.spec.params.get("soak"):
            # How those are who will keep a part, before anything is asked of them.
            self._began = {name: State(self.ctx.site_state(name))
                           for name in self._keepers(state.shares)}
        found: dict[str, Json] = {"shares": state.shares.to_json()}
        if state.raw is not None:
            found["raw"] = state.raw
        return found

    def holds(self, snapshot: Json) -> Observed:
        view = self.ctx.levers.route_view(self.lever)
        state = view.read()
        if not self._stands(view, state, snapshot):
            self._held_since, self._read_as = None, state.shares
            return self._not_so(state)
        self._read_as, self._amiss = state.shares, state.amiss
        soak = float(self.spec.params.get("soak", 0))
        if not soak:
            return Observed(Truth.YES, f"{self.lever.lever} reads {state.shares}{_told(state)}",
                            exceptions=state.amiss)
        return self._soaked(Shares(snapshot["shares"]), soak)

    def moves(self, snapshot: Json) -> Sequence[Move]:
        if "led_by" in self.spec.params:
            return ()  # the leading queue's step tells them this one's move, too
        before = self._read_as or Shares(snapshot["shares"])
        return tuple(Move(name, before, self.to) for name in self._queues())

    def undo_moves(self, snapshot: Json) -> Sequence[Move]:
        if "led_by" in self.spec.params:
            return ()
        current = self.ctx.levers.route_view(self.lever).read().shares
        return tuple(Move(name, current, Shares(snapshot["shares"]), hard_only=True)
                     for name in self._queues())

    def _queues(self) -> list[str]:
        """Every queue that this lever carries; one that has left the policy since is none."""
        known = self.ctx.policy.queues
        return [name for name in (str(self.spec.params["queue"]),
                                  *self.spec.params.get("carries", ())) if name in known]

    def _soaked(self, before: Shares, soak: float) -> Observed:
        """Watch for `soak` seconds in a row how those involved bear the increment."""
        now = self.ctx.runtime.monotonic()
        said = self._feedback(before)
        if said.verdict in (Verdict.BACK_OFF, Verdict.NO_WAY):
            return Observed(Truth.NO, f"{said.reason} while {self.to} soaked", final=True,
                            back_off=said.verdict is Verdict.BACK_OFF)
        if said.verdict is Verdict.HOLD:
            self._held_since = None
            self._unwell_since = now if self._unwell_since is None else self._unwell_since
            long_enough = now - self._unwell_since >= float(self.spec.params.get("hold", 60.0))
            return Observed(Truth.NO, f"{said.reason}: held at {self.to} for "
                                      f"{now - self._unwell_since:.0f} s",
                            final=long_enough, back_off=True)
        self._unwell_since = None
        if said.verdict is Verdict.HURRY:
            return Observed(Truth.YES, f"{self.lever.lever} reads {self.to}; {said.reason}, so "
                                       "that it is not waited for", exceptions=self._amiss)
        self._held_since = now if self._held_since is None else self._held_since
        if said.reason:
            self._borne = said.reason
        if now - self._held_since < soak:
            return Observed(Truth.NO, f"{self.to} soaks, {now - self._held_since:.0f} of "
                                      f"{soak:g} s")
        return Observed(Truth.YES, f"{self.lever.lever} reads {self.to}, soaked {soak:g} s",
                        exceptions=(*((self._borne,) if self._borne else ()), *self._amiss))

    def _feedback(self, before: Shares) -> Feedback:
        """Looked at anew every two seconds: platforms answer only so often."""
        now = self.ctx.runtime.monotonic()
        if self._told is not None and now - self._told[0] < LOOK_AGAIN:
            return self._told[1]
        receivers, keepers = self._raised(before, self.to), self._keepers(before)
        state = {name: State(self.ctx.site_state(name))
                 for name in (*receivers, *keepers, *self._raised(self.to, before))}
        for name in keepers:
            self._began.setdefault(name, state[name])
        said = judge(
            {name: state[name] for name in receivers},
            {name: (self._began[name], state[name]) for name in keepers},
            {name: state[name] for name in self._raised(self.to, before)},
            self._grumbles(receivers))
        self._told = (now, said)
        return said

    def _grumbles(self, receivers: Sequence[str]) -> dict[str, str]:
        """What the receivers' own probes of this queue say against them."""
        queue = self.ctx.policy.queues[str(self.spec.params["queue"])]
        found = {}
        for probe in queue.probes:
            name = str(probe.params.get("site"))
            if name in receivers:
                reading = self.ctx.observe(probe)
                if reading.outcome is Outcome.BAD:
                    found[name] = f"{queue.name} is not served: {reading.detail}"
        return found

    def still(self, snapshot: Json) -> Observed:
        state = self.ctx.levers.route_view(self.lever).read()
        same = state.stands_at(self.to)
        return Observed(Truth.YES if same else Truth.NO, f"{self.lever.lever} reads {state.shares}")

    def _stands(self, view: RouteView, state: RouteState, snapshot: Json) -> bool:
        """Whether it is done: shares that an attempt of another process left behind can be half of
        it."""
        return state.stands_at(self.to) and (
            self._asked or view.complete(state, self.to, _found(snapshot).raw))

    def _not_so(self, state: RouteState) -> Observed:
        """Waiting longer will not help once what we asked for was turned down."""
        told = f"{self.lever.lever} reads {state.shares}"
        if state.pending is not None:
            told += f", and is to be set to {state.pending}"
            self.ctx.progress(0, None, told)
        turned_down = self._asked and bool(state.refused)
        return Observed(Truth.NO, f"{told}: {state.refused}" if turned_down else told,
                        final=turned_down)

    def apply(self, snapshot: Json) -> bool:
        if "led_by" in self.spec.params:
            return True  # waited for: the leading queue's steps set the lever that both have
        lever = self.ctx.levers.route(self.lever)
        current = lever.read()
        if self._stands(lever, current, snapshot):
            return True
        before = Shares(snapshot["shares"])
        if current.shares != before and self._attempt() < 2:
            raise Refused(
                f"{self.lever.lever} was {before} when this step began and is {current.shares} "
                "now: somebody else moved it", guard="concurrent_change",
                hint="look who did, then `ccfailover resume` to set it all the same")
        self._refuse_unborne(current.shares)
        for name in self._raised(current.shares, self.to):
            if self.ctx.site_state(name) == State.DOWN:
                raise Refused(f"{name} is down: no more work goes there", guard="dead_site",
                              hint="roll back, or plan anew with another receiver")
        lever.shift(self.to, expected=replace(current, was=_found(snapshot).raw),
                    key=self.ctx.key)
        self._asked = True
        return True

    def _refuse_unborne(self, current: Shares) -> None:
        """A run that is resumed between two increments begins the next one without a soak before
        it: whoever does not bear what they have is given no more."""
        if int(self.spec.params.get("part", 1)) < 2 or not self.spec.params.get("soak"):
            return
        said = self._feedback(current)
        if said.verdict in (Verdict.HOLD, Verdict.BACK_OFF):
            raise Refused(f"{said.reason}: no further increment", guard="ramp",
                          not_done=f"{self.lever.lever} stays at {current}",
                          hint="resume when that is over, or roll back")

    def undo_holds(self, snapshot: Json) -> Observed:
        if "led_by" in self.spec.params:
            return Observed(Truth.YES, f"undone with {self.spec.params['led_by']}'s steps")
        view, before = self.ctx.levers.route_view(self.lever), _found(snapshot)
        state = view.read()
        if not state.stands_at(before.shares):
            return self._not_so(state)
        told = f"{self.lever.lever} reads {state.shares}{_told(state)}"
        if view.as_found(state, before):
            return Observed(Truth.YES, told, exceptions=state.amiss)
        differs = f"{told}, but not with the weights and settings that were found there"
        if not self._restored:
            return Observed(Truth.NO, differs)
        return Observed(Truth.YES, told, exceptions=(*state.amiss, differs))

    def undo(self, snapshot: Json) -> bool:
        lever = self.ctx.levers.route(self.lever)
        before, current = _found(snapshot), lever.read()
        if lever.as_found(current, before):
            return True
        if current.shares != before.shares:  # else: what was asked for last has not been done yet
            self._refuse_foreign(lever, before, current)
        for name in self._raised(current.shares, before.shares):
            state = self.ctx.site_state(name)
            if name in self.ctx.policy.sites and state in (State.DOWN, State.UNKNOWN):
                raise Refused(f"{name} is {state}: undo would send work back to it",
                              guard="dead_site",
                              hint="leave it as it is, or roll back again when it is healthy")
        lever.restore(before, expected=current, key=f"{self.ctx.key}~undo")
        self._asked = self._restored = True
        return True

    def _refuse_foreign(self, lever: Route, before: RouteState, current: RouteState) -> None:
        if not lever.between(current, [before, *map(RouteState, self._ever_set())]):
            raise Refused(f"{self.lever.lever} reads {current.shares}, which this run never set: "
                          "somebody else moved it since", guard="concurrent_change",
                          hint="agree with them, then `ccfailover adopt` or set it by hand")

    def _ever_set(self) -> list[Shares]:
        """Whatever this run, or one that it superseded, may have set the lever to."""
        plans, found = [self.ctx.plan], []
        for plan in plans:  # grows while it is read
            found += [Shares(spec.params["to"]) for spec in plan.steps()
                      if spec.lever == self.spec.lever and "to" in spec.params]
            for earlier in plan.supersedes:
                planned = self.ctx.store.read(f"run:{earlier}")[0]
                plans.append(Plan.from_json(planned.data["plan"]))
        return found

    def _keepers(self, before: Shares) -> list[str]:
        raised = self._raised(before, self.to)
        return [name for name in self.to if name in self.ctx.policy.sites and name not in raised]

    def _raised(self, now: Shares, to: Shares) -> list[str]:
        return [name for name in to if to.of(name) > now.of(name)
                and name in self.ctx.policy.sites]

    def _attempt(self) -> int:
        return sum(1 for record in self.ctx.records()
                   if record.kind == "step.started" and record.data.get("step") == self.spec.id)
