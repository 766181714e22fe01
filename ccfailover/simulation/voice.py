"""What a simulated platform keeps beside shares: announcements, recovery plans, contacts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ccfailover.errors import Rejected
from ccfailover.providers import Phase, ProcedureState


@dataclass
class SimulatedProcedure:
    """`course`: the phases that an execution goes through, one with each look; the last one stays.
    It waits at WAITING until its step is approved."""

    course: tuple[Phase, ...] = (Phase.RUNNING, Phase.DONE)
    started: dict[str, str] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    approved: list[str] = field(default_factory=list)

    def start(self, action: str, key: str) -> str:
        """Raises Rejected while another key's execution is under way."""
        if key in self.started:
            return self.started[key]
        for execution in self.at:
            if self._phase(execution) in (Phase.RUNNING, Phase.WAITING, Phase.PAUSED):
                raise Rejected(f"{execution} is under way")
        execution = f"exec-{len(self.started) + 1}"
        self.started[key], self.at[execution] = execution, 0
        self.actions.append(action)
        return execution

    def read(self, execution: str | None) -> ProcedureState:
        if execution is None:
            execution = next(reversed(self.at), None)
        if execution is None:
            return ProcedureState(Phase.IDLE)
        phase = self._phase(execution)
        held = phase in (Phase.WAITING, Phase.PAUSED)
        if not held and self.at[execution] < len(self.course) - 1:
            self.at[execution] += 1
        asks = ("move-dns",) if phase is Phase.WAITING else ()
        key = next((key for key, begun in self.started.items() if begun == execution), "")
        return ProcedureState(phase, execution, steps=(("move-dns", phase.value),),
                              waiting_for=asks, key=key)

    def go_on(self, execution: str) -> None:
        """A person at the platform says so."""
        self.at[execution] += 1

    def approve(self, execution: str, step: str) -> None:
        self.approved.append(step)
        self.go_on(execution)

    def _phase(self, execution: str) -> Phase:
        return self.course[self.at[execution]]


@dataclass
class Voice:
    """By reference: what is said, the contacts in progress (None: not told), and the plans."""

    said: dict[str, str | None] = field(default_factory=dict)
    live: dict[str, dict[str, int] | None] = field(default_factory=dict)
    procedures: dict[str, SimulatedProcedure] = field(default_factory=dict)
