"""Which stories a run's journal may tell: order, direction, first snapshots, honest endings.

Written from DESIGN §4 and not from the engine, so that a mistake there is none here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ccfailover.model.journal import Record
from ccfailover.model.plan import OnFailure, Plan, StepSpec
from ccfailover.runtime import SECOND

ENDED = ("run.succeeded", "run.succeeded_with_exceptions", "run.aborted", "run.rolled_back",
         "run.superseded")
_DONE = ("succeeded", "skipped", "rehearsed")


@dataclass
class _Step:
    spec: StepSpec
    branch: str
    place: int
    state: str = "pending"
    attempts: int = 0
    snapshot: object = None
    looked: bool = True
    exceptions: bool = False
    guarded: str = ""


@dataclass
class Grammar:
    """`problems` of one run's records; `people` are those of the policy, by role; `unheard` are
    the numbers of the records that were written while some process stood still."""

    records: Sequence[Record]
    people: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unheard: Collection[int] = ()
    problems: list[str] = field(default_factory=list)
    phase: str = "none"

    def check(self) -> list[str]:
        if not self.records or self.records[0].kind != "run.planned":
            return ["it does not begin with its plan"]
        self.plan = Plan.from_json(self.records[0].data["plan"])
        self.steps = {spec.id: _Step(spec, branch.name, place)
                      for branch in self.plan.all_branches()
                      for place, spec in enumerate(branch.steps)}
        self.inherited: dict[str, str] = {}
        self._began: dict[str, int] = {}
        self._gave_up: set[str] = set()
        self.hand = 0
        self.undone_at: dict[str, int] = {}
        self.skipped = False
        self._said: list[Record] = []
        for record in self.records[1:]:
            if self.phase == "ended":
                self._bad(record, "after the end")
            self._take(record)
        return self.problems

    def _bad(self, record: Record, why: str) -> None:
        step = f" {record.data['step']}" if "step" in record.data else ""
        self.problems.append(f"{record.stream} #{record.seq} {record.kind}{step}: {why}")

    def _take(self, record: Record) -> None:
        kind = record.kind
        if kind.startswith(("approval.", "confirmation.")):
            self._said.append(record)
        elif kind in ("run.started", "run.resumed"):
            if kind == "run.started" and self.phase != "none":
                self._bad(record, f"while {self.phase}")
            self._new_hands("forward")
        elif kind == "rollback.started":
            self._new_hands("back")
        elif kind in ("run.paused", "run.stuck"):
            if self.phase not in ("forward", "back"):
                self._bad(record, f"while {self.phase}")
            self._stops(record)
            self.phase = "still"
        elif kind in ("branch.paused", "branch.aborted"):
            if self.phase != "forward" or record.data["branch"] in self._gave_up:
                self._bad(record, f"while {self.phase}, or once more")
            self._gave_up.add(str(record.data["branch"]))
            step = self.steps[str(record.data["at"])]
            asked = str(record.data.get("reason", "")).startswith("asked to stop")
            if step.state != "failed" and not asked:
                self._bad(record, f"{step.spec.id} is {step.state}")
        elif kind in ENDED:
            self._end(record)
            self.phase = "ended"
        elif "step" in record.data:
            self._step(record, str(record.data["step"]))

    def _stops(self, record: Record) -> None:
        """Nothing that these hands began is left without a word on how it ended."""
        for step in self.steps.values():
            if step.state in ("started", "undoing", "backing_off") and not self._fresh(step):
                self._bad(record, f"{step.spec.id} is {step.state}")
        if record.kind == "run.paused" and not self._gave_up and not any(
                step.state == "undone" for step in self.steps.values()):
            self._bad(record, "no branch says why")

    def _new_hands(self, phase: str) -> None:
        self.phase = phase
        self._gave_up = set()
        self.hand += 1
        self.undone_at = {}
        for step in self.steps.values():
            if step.state == "backing_off":  # killed on the way back: in doubt, like any other
                step.state = "started"
            step.looked = step.state != "started"

    # --- steps -------------------------------------------------------------------------------

    def _step(self, record: Record, name: str) -> None:
        step = self.steps.get(name)
        if step is None:
            self.inherited[name] = record.kind
            if not (record.kind.startswith("undo.") or record.kind == "step.skipped"
                    or record.kind == "step.guarded" and record.data.get("undo")):
                self._bad(record, "a step of another run is only ever undone")
            return
        if record.kind == "step.skipped":
            step.state, self.skipped = "skipped", True
            return
        if self.phase not in ("forward", "back"):
            self._bad(record, f"while {self.phase}")
        take = getattr(self, "_" + record.kind.replace(".", "_"), None)
        if take is not None:
            take(record, step)

    def _step_observed(self, record: Record, step: _Step) -> None:
        if step.looked:
            self._bad(record, "it had been looked at")
        step.looked = True
        if step.state != "started":
            self._bad(record, f"it was {step.state}: nothing is in doubt")

    def _step_started(self, record: Record, step: _Step) -> None:
        if self.phase != "forward":
            self._bad(record, "while going back")
        if step.state not in ("pending", "failed", "started", "undone", "undo_failed",
                              "undoing"):
            self._bad(record, f"it was {step.state}")
        if not step.looked:
            self._bad(record, "in doubt, and repeated without a look")
        if step.state == "started" and step.attempts and not self._fresh(step):
            self._bad(record, "begun twice by one process")
        if record.data.get("attempt") != step.attempts + 1:
            self._bad(record, f"attempt {record.data.get('attempt')} after {step.attempts}")
        if step.attempts and record.data.get("snapshot") != step.snapshot:
            self._bad(record, "another snapshot than the first")
        if not step.attempts:
            step.snapshot = record.data.get("snapshot")
        step.attempts += 1
        step.state = "started"
        step.guarded = ""
        self._began[step.spec.id] = self.hand
        self._in_turn(record, step)

    def _fresh(self, step: _Step) -> bool:
        return self._began.get(step.spec.id) != self.hand

    def _in_turn(self, record: Record, step: _Step) -> None:
        """What comes before it in its branch is done; and the branches before its branch."""
        before = [other for other in self.steps.values()
                  if other.branch == step.branch and other.place < step.place]
        if step.branch != self.plan.before.name:
            before += [self.steps[spec.id] for spec in self.plan.before.steps]
        if step.branch == self.plan.after.name:
            before += [self.steps[spec.id] for branch in self.plan.branches
                       for spec in branch.steps]
        for other in before:
            passed = (other.state == "failed" and other.spec.on_failure is OnFailure.CONTINUE)
            if other.state not in _DONE and not passed:
                self._bad(record, f"before {other.spec.id}, which is {other.state}")
                return

    def _step_guarded(self, record: Record, step: _Step) -> None:
        wanted = ("undoing", "backing_off") if record.data.get("undo") else ("started",)
        if step.state not in wanted or step.guarded == step.state:
            self._bad(record, f"it was {step.state}, or it was said before")
        step.guarded = step.state

    def _step_holding(self, record: Record, step: _Step) -> None:
        if step.state != "started":
            self._bad(record, f"it was {step.state}")

    def _step_backing_off(self, record: Record, step: _Step) -> None:
        """It may only fail after this: an increment taken back is never a success."""
        self._step_holding(record, step)
        step.state = "backing_off"

    def _step_succeeded(self, record: Record, step: _Step) -> None:
        if step.state != "started" or self.phase != "forward":
            self._bad(record, f"it was {step.state}")
        self._agreed(record, step.spec)
        step.state = "succeeded"
        step.exceptions = bool(record.data.get("exceptions"))

    def _agreed(self, record: Record, spec: StepSpec) -> None:
        """Whoever asked has confirmed this very plan; others, enough of them, approved it."""
        hash_ = self.plan.hash
        if spec.kind == "confirm" and not any(
                said.kind == "confirmation.given" and said.data["plan"] == hash_
                for said in self._said):
            self._bad(record, "nobody has confirmed it")
        if spec.kind == "approve":
            said = self._said
            wrong = [self._weigh(record, spec, said[:heard])
                     for heard in range(len(said), self._heard(record) - 1, -1)]
            if all(wrong):
                self._bad(record, wrong[0])

    def _weigh(self, record: Record, spec: StepSpec, words: Sequence[Record]) -> str:
        """Why these words are not the approval that is asked for; "" if they are."""
        last = {said.actor.partition("@")[0]: said for said in words
                if said.kind == "approval.given"
                or said.kind == "approval.declined" and said.data["plan"] == self.plan.hash}
        role, rows = str(spec.params["role"]), self.people
        may = {name for key in ([role] if role else rows) for name in rows.get(key, ())}
        given = {name for name, said in last.items() if self._counts(said, record.at)}
        counted = (given & may if rows or role else given) - {
            self.records[0].actor.partition("@")[0]}
        if any(said.kind == "approval.declined" for said in last.values()):
            return "although it was declined"
        if len(counted) < int(spec.params["people"]):
            return f"approved by {', '.join(sorted(counted)) or 'nobody'}"
        return ""

    def _heard(self, record: Record) -> int:
        """How many of the words it must have heard: a process that stood still between weighing
        them and writing that they are enough has not heard what was said meanwhile."""
        heard, seq = len(self._said), record.seq
        while heard and self._said[heard - 1].seq == seq - 1 and seq - 1 in self.unheard:
            heard, seq = heard - 1, seq - 1
        return heard

    def _counts(self, said: Record, at: int) -> bool:
        """An approval is of one plan, under one policy, for some shares, and for a while. It may
        have run out in the moment between being weighed and being written."""
        data, plan = said.data, self.plan
        return (said.kind == "approval.given" and data["plan"] == plan.hash
                and data["policy"] == plan.policy_sha256
                and data["shares"] == {name: dict(parts)
                                       for name, parts in plan.shares_after.items()}
                and data["valid_until"] > max(said.at - 60 * SECOND, at - 600 * SECOND))

    def _step_failed(self, record: Record, step: _Step) -> None:
        if step.state == "failed" and not str(record.data["reason"]).startswith("not begun"):
            self._bad(record, "once more")
        again = (step.state == "succeeded" and self.hand > 1
                 and str(record.data.get("reason", "")).startswith("no longer so"))
        if not again and step.state not in ("started", "pending", "failed", "undone",
                                            "backing_off") \
                or self.phase != "forward":
            self._bad(record, f"it was {step.state}")
        step.state = "failed"

    def _undo_started(self, record: Record, step: _Step) -> None:
        if not step.attempts:
            self._bad(record, "it was never begun")
        group = [other.place for other in self.steps.values() if other.branch == step.branch
                 and other.attempts and (other is step or step.spec.lever
                                         and other.spec.lever == step.spec.lever)]
        last = self.undone_at.get(step.branch)
        if last is not None and max(group) >= last:
            self._bad(record, "undone in the order in which it was done")
        self.undone_at[step.branch] = max(group)
        step.state = "undoing"
        step.guarded = ""
        self._began[step.spec.id] = self.hand

    def _undo_succeeded(self, record: Record, step: _Step) -> None:
        together = str(record.data.get("detail", "")).startswith("undone with")
        if step.state != "undoing" and not (together and step.attempts):
            self._bad(record, f"it was {step.state}")
        first = str(record.data.get("detail", "")).removeprefix("undone with ")
        if together and first in self.steps and self.steps[first].state != "undone":
            self._bad(record, f"before {first}")
        step.state = "undone"

    def _undo_failed(self, record: Record, step: _Step) -> None:
        if step.state != "undoing":
            self._bad(record, f"it was {step.state}")
        step.state = "undo_failed"

    # --- endings -----------------------------------------------------------------------------

    def _end(self, record: Record) -> None:
        if record.kind.startswith("run.succeeded"):
            if self.phase != "forward":
                self._bad(record, f"while {self.phase}")
            for step in self.steps.values():
                passed = step.state == "failed" and step.spec.on_failure is OnFailure.CONTINUE
                if step.state not in _DONE and not passed:
                    self._bad(record, f"{step.spec.id} is {step.state}")
                if record.kind == "run.succeeded" and (step.state != "succeeded"
                                                       or step.exceptions):
                    self._bad(record, f"plainly, though {step.spec.id} is {step.state} or has "
                                      "exceptions")
        if record.kind == "run.aborted" and "reason" not in record.data and not self._gave_up:
            self._bad(record, "no branch says why")
        if record.kind == "run.rolled_back" and not self.skipped:
            for step in self.steps.values():
                if step.attempts and step.state not in ("undone", "skipped"):
                    self._bad(record, f"{step.spec.id} is {step.state}")
