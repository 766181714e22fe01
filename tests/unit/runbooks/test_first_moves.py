"""The order of moves is the journal's, not the clock's."""

from __future__ import annotations

from dataclasses import replace

from ccfailover.model.plan import Branch
from ccfailover.runbooks.run import fold
from tests.unit.runbooks.stage import Journal, plan, spec


def test_the_first_move_is_first_in_the_journal_whatever_the_clock_says() -> None:
    """The clock went back between two increments: the first snapshot is still that of the first."""
    made = plan(Branch("q", (spec("q/1", lever="sw:q"), spec("q/2", lever="sw:q"))))
    journal = Journal()
    journal.write("run.planned", {"plan": made.to_json()})
    for name, was in (("q/1", 100), ("q/2", 50)):
        journal.write("step.started", {"step": name, "snapshot": {"shares": {"hq": was}}})
        journal.write("step.succeeded", {"step": name})
    backwards = [replace(record, at=1000 - record.seq) for record in journal.records]
    first = fold(backwards).first_moves()
    assert [step.snapshot for step in first.values()] == [{"shares": {"hq": 100}}]
