"""`redirect_intake`: new applications go elsewhere before the waiting ones are moved."""

from __future__ import annotations

from collections.abc import Sequence

from ccfailover.model.plan import StepSpec
from ccfailover.runbooks.lever_step import LeverStep
from ccfailover.runbooks.step import Binding


class RedirectIntake(LeverStep):
    kind = "redirect_intake"
    role = "intake"
    summary = "set where new applications arrive; precedes every transfer"

    @classmethod
    def bind(cls, binding: Binding) -> Sequence[StepSpec]:
        return cls.specs(binding, (100,), 0.0)

    @classmethod
    def verb(cls) -> str:
        return "redirect intake of"
