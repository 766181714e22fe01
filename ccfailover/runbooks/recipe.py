"""Recipe: which steps, in which order; before, per queue, after. Data, checked by kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccfailover.errors import CcfError, UsageError
from ccfailover.model.plan import Json

BUILTIN = ("full_failover", "overflow", "switchover", "failback", "reassert")


@dataclass(frozen=True)
class Line:
    """One step of a recipe: its kind and the recipe's own parameters for it."""

    kind: str
    params: Mapping[str, Json]


@dataclass(frozen=True)
class Recipe:
    name: str
    summary: str
    before: tuple[Line, ...]
    branch: tuple[Line, ...]
    after: tuple[Line, ...]

    def kinds(self) -> set[str]:
        return {line.kind for line in (*self.before, *self.branch, *self.after)}


def load(name: str, overrides: Mapping[str, Mapping[str, object]]) -> Recipe:
    """The policy's recipe of that name, else the built-in one. Raises UsageError for neither."""
    if name in overrides:
        return parse(name, overrides[name])
    if name not in BUILTIN:
        known = ", ".join(sorted({*BUILTIN, *overrides}))
        raise UsageError(f"there is no runbook {name!r}", not_done="nothing was planned",
                         hint=f"one of: {known}")
    from ccfailover.policy.read import read  # of the policy's own reading, and as quick

    document, problems = read(os.path.join(os.path.dirname(__file__), "builtin", f"{name}.yaml"))
    if document is None:
        raise CcfError(f"the built-in runbook {name} cannot be read: {problems[0].message}")
    return parse(name, document.data)


def parse(name: str, data: Mapping[str, object]) -> Recipe:
    """From checked data: each line is a mapping of one kind to its parameters, or a bare kind."""
    def lines(part: str) -> tuple[Line, ...]:
        rows = data.get(part) or []
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise UsageError(f"runbook {name}: {part} must be a list of steps")
        return tuple(_line(name, row) for row in rows)

    return Recipe(name, str(data.get("summary", "")), lines("before"), lines("branch"),
                  lines("after"))


def _line(name: str, row: object) -> Line:
    if isinstance(row, str):
        return Line(row, {})
    if isinstance(row, Mapping) and len(row) == 1:
        (kind, params), = row.items()
        if params is None or isinstance(params, Mapping):
            return Line(str(kind), dict(params or {}))
    raise UsageError(f"runbook {name}: a step is `kind: {{parameters}}`, not {row!r:.60}")
