"""Plan: a runbook bound to today's state. Data only, to be hashed, saved and resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Json = Any
"""A value that JSON can carry. Typed `Any` because mypy has no better name for it."""


class Mode(str, Enum):
    """REAL moves work. SHADOW reads the real sites and writes nothing. SIMULATED: virtual."""

    REAL = "real"
    SHADOW = "shadow"
    SIMULATED = "simulated"


class OnFailure(str, Enum):
    PAUSE = "pause"
    CONTINUE = "continue"
    ABORT = "abort"
    UNDO = "undo"


@dataclass(frozen=True)
class StepSpec:
    """One absolute, verifiable, reversible move, as data.

    `id` is unique in the plan (`loan_calls/2-shift_route`); `lever` is what a lease must cover
    ("" when the step touches nothing outside); `deadline` bounds the step in seconds, `timeout`
    one `apply` of it; `title` is the sentence that a person reads.
    """

    id: str
    kind: str
    params: Mapping[str, Json]
    title: str
    deadline: float = 60.0
    timeout: float = 10.0
    poll: float = 0.5
    lever: str = ""
    on_failure: OnFailure = OnFailure.PAUSE

    def to_json(self) -> dict[str, Json]:
        shown = dict(self.__dict__)
        shown["params"] = dict(self.params)
        shown["on_failure"] = self.on_failure.value
        return shown

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> StepSpec:
        return cls(**{**data, "on_failure": OnFailure(data["on_failure"])})


@dataclass(frozen=True)
class Branch:
    """The steps of one queue, a plain sequence. `before` and `after` are branches, too."""

    name: str
    steps: tuple[StepSpec, ...]

    def to_json(self) -> dict[str, Json]:
        return {"name": self.name, "steps": [step.to_json() for step in self.steps]}

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Branch:
        return cls(data["name"], tuple(StepSpec.from_json(step) for step in data["steps"]))


@dataclass(frozen=True)
class Finding:
    """What a guard or the planner has to say: `level` is hard | soft | warning | info."""

    guard: str
    level: str
    sentence: str
    queue: str | None = None

    def to_json(self) -> dict[str, Json]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Plan:
    """`basis` is what the plan rests on (policy hash, site states, shares); see `changed`.

    `supersedes` are the unfinished runs whose scopes and first snapshots it takes over; those that
    it pre-empts are among them.
    """

    runbook: str
    subject: str
    mode: Mode
    policy_name: str
    policy_sha256: str
    reason: str
    before: Branch
    branches: tuple[Branch, ...]
    after: Branch
    scopes: tuple[str, ...]
    shares_before: Mapping[str, Mapping[str, int] | None]
    shares_after: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]
    basis: Mapping[str, Json]
    cost_per_hour: str = "0"
    overrides: Mapping[str, str] = field(default_factory=dict)
    supersedes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        return {
            "runbook": self.runbook,
            "subject": self.subject,
            "mode": self.mode.value,
            "policy_name": self.policy_name,
            "policy_sha256": self.policy_sha256,
            "reason": self.reason,
            "before": self.before.to_json(),
            "branches": [branch.to_json() for branch in self.branches],
            "after": self.after.to_json(),
            "scopes": list(self.scopes),
            "shares_before": {k: dict(v) if v is not None else None
                              for k, v in self.shares_before.items()},
            "shares_after": {k: dict(v) for k, v in self.shares_after.items()},
            "findings": [finding.to_json() for finding in self.findings],
            "basis": dict(self.basis),
            "cost_per_hour": self.cost_per_hour,
            "overrides": dict(self.overrides),
            "supersedes": list(self.supersedes) or None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Plan:
        return cls(
            **{
                **data,
                "mode": Mode(data["mode"]),
                "before": Branch.from_json(data["before"]),
                "branches": tuple(Branch.from_json(branch) for branch in data["branches"]),
                "after": Branch.from_json(data["after"]),
                "scopes": tuple(data["scopes"]),
                "findings": tuple(Finding(**finding) for finding in data["findings"]),
                "supersedes": _several(data.get("supersedes")),
            }
        )

    @property
    def pre_empts(self) -> Mapping[str, Json]:
        """Overflow run → its queues: each is asked to stop before this plan becomes a run."""
        found: Mapping[str, Json] = self.basis.get("pre_empts") or {}
        return found

    @property
    def hash(self) -> str:
        """First 12 digits of the SHA-256 of what the plan does and rests on.

        Reason, findings and cost are left out: the first is the caller's own word, the others
        follow from the rest and name figures that change while nothing of substance does.
        """
        told = self.to_json()
        for name in ("reason", "findings", "cost_per_hour"):
            told.pop(name)
        return hashlib.sha256(canonical(told).encode()).hexdigest()[:12]

    def all_branches(self) -> tuple[Branch, ...]:
        return (self.before, *self.branches, self.after)

    def steps(self) -> list[StepSpec]:
        return [step for branch in self.all_branches() for step in branch.steps]


def _several(data: Json) -> tuple[str, ...]:
    """Earlier journals hold one run's id, or null."""
    return (data,) if isinstance(data, str) else tuple(data or ())


def canonical(value: Json) -> str:
    """The one text of a JSON value that is hashed: sorted keys, no blanks, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False,
                      allow_nan=False)
