"""`verify`: the receivers themselves count work answered, three readings in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ccfailover.model.health import Outcome, State
from ccfailover.model.plan import Json, StepSpec
from ccfailover.model.shares import Shares
from ccfailover.runbooks.lever_step import lever_of
from ccfailover.runbooks.step import Binding, Observed, Step, Truth

READINGS = 3
"""DESIGN §2: service counts as restored after three readings in a row."""

MINIMUM_SERVICE = 0.5
"""Part of its share of the arrivals that a receiver must answer, unless the policy says else."""


TRUSTED = (Outcome.GOOD, Outcome.WARN)
"""A slow answer is an answer: what the receiver counted counts."""


@dataclass(frozen=True)
class _Count:
    at: float
    answered: dict[str, float]
    offered: float | None


class Verify(Step):
    """Believes what the receivers answered, not what the switch says it set.

    With a probe of the queue at the receiver (`answered`), a reading is good when the receiver
    answered at least `minimum_service` of its share of what arrived since the last reading.
    Without one, only read-back and the receiver's health can be checked; the step says so.
    """

    kind = "verify"
    summary = "the receivers' own counts meet minimum service, three readings in a row"
    PARAMS: ClassVar = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "readings": {"type": "integer", "minimum": 1, "maximum": 60},
            "interval": {"type": "number", "exclusiveMinimum": 0},
            "deadline": {"type": "number", "exclusiveMinimum": 0},
        },
    }

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        queue, after = binding.queue, binding.after
        if queue is None or after is None or (queue.route is None and queue.intake is None):
            return []
        role = "route" if queue.route else "intake"
        lever = queue.route or queue.intake
        if lever is None:
            return []
        return [StepSpec(
            id=cls.kind, kind=cls.kind,
            params={"queue": queue.name, "shares": after.to_json(), "role": role,
                    "readings": int(binding.params.get("readings", READINGS)),
                    "minimum": queue.minimum_service or MINIMUM_SERVICE},
            # The receivers count nothing before callers go by the new record.
            deadline=float(binding.params.get("deadline", 120.0))
            + binding.capabilities(lever).propagation,
            poll=float(binding.params.get("interval", 1.0)),
            title=f"{queue.name} is served: {after}",
        )]

    def holds(self, snapshot: Json) -> Observed:
        """Each call is one reading; the object lives as long as the step in this process."""
        row: list[str] = getattr(self, "_good", [])
        problem, detail = self._read()
        if problem is not None:
            self._good = []
            self._base: _Count | None = getattr(self, "_last", None)
            return Observed(Truth.NO, problem)
        self._good = [*row, detail]
        self._served_at = getattr(self, "_served_at", None) if row else None
        self._served_at = self._served_at or self.ctx.runtime.now()
        wanted = int(self.spec.params["readings"])
        if len(self._good) < wanted:
            return Observed(Truth.NO, f"{len(self._good)} of {wanted} good readings: {detail}")
        return Observed(Truth.YES, detail, data={"served_at": self._served_at})

    def _read(self) -> tuple[str | None, str]:
        """(what is wrong or None, what was seen)."""
        params = self.spec.params
        aim = Shares(params["shares"])
        lever = lever_of(self.ctx.policy, str(params["queue"]), str(params["role"]))
        queue = self.ctx.policy.queues[str(params["queue"])]
        view = self.ctx.levers.route_view(lever)
        actual = view.read().shares
        if actual != aim:
            return f"{lever.lever} reads {actual}, not {aim}", ""
        sites = [name for name in aim if name in self.ctx.policy.sites]
        dead = [name for name in sites if self.ctx.site_state(name) == State.DOWN]
        if dead:
            return f"{', '.join(dead)} went down", ""
        probes = {str(probe.params.get("site")): probe for probe in queue.probes}
        counted = [name for name in sites if name in probes]
        if not counted:
            return None, f"reads {actual}; no receiver counts this queue, so read-back only"
        answered: dict[str, float] = {}
        for name in counted:
            reading = self.ctx.observe(probes[name])
            if reading.outcome not in TRUSTED or "answered" not in reading.values:
                return f"{name} does not say what it answered: {reading.detail}", ""
            answered[name] = reading.values["answered"]
        offered = view.measure().get("offered")
        now = _Count(self.ctx.runtime.monotonic(), answered, offered)
        last: _Count | None = getattr(self, "_last", None)
        self._last = now
        if last is None:
            return "first reading of the receivers' counts", ""
        problem, said = self._judge(last, now, aim)
        base = getattr(self, "_base", None) or last
        if problem is None and base is not last:
            # Where little arrives, one interval proves nothing: all since the first must do.
            problem, said = self._judge(base, now, aim)
        return problem, said

    def _judge(self, last: _Count, now: _Count, aim: Shares) -> tuple[str | None, str]:
        seconds = max(now.at - last.at, 1e-6)
        arrived = None
        if now.offered is not None and last.offered is not None:
            arrived = now.offered - last.offered
        parts = []
        for name, count in now.answered.items():
            got = count - last.answered[name]
            parts.append(f"{name} answered {got:g} in {seconds:.1f} s")
            if arrived is None:
                need = 1.0
            else:
                # One contact may be under way at either end of the interval.
                need = float(self.spec.params["minimum"]) * arrived * aim.of(name) / 100 - 1
            if got < need:
                return f"{parts[-1]}, needs {max(need, 1):.0f}", ""
            if not got:
                parts[-1] += " (too few arrived to prove more)"
        return None, "; ".join(parts)
