"""A timed overflow comes home by itself."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from ccfailover.errors import UsageError
from ccfailover.operations.until import instant

pytestmark = pytest.mark.server("roto-server")

OVERFLOW = """
  overflow: {before: [confirm], branch: [shift_route], after: []}
"""
NOON = int(datetime(2026, 11, 20, 18, 0, tzinfo=UTC).timestamp()) * 1_000_000
"""12:00 in Chicago."""


@pytest.mark.parametrize(("said", "meant"), [
    ("18:00", "2026-11-21T00:00:00+00:00"),
    ("11:59", "2026-11-21T17:59:00+00:00"),
    ("2026-12-24T18:00", "2026-12-25T00:00:00+00:00"),
    ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00+00:00"),
])
def test_a_time_is_the_next_one_in_the_policys_zone(said: str, meant: str) -> None:
    """18:00 is today's if it is still to come, else tomorrow's."""
    assert instant(said, "America/Chicago", NOON) == meant


@pytest.mark.parametrize("said", ["", "25:00", "soon", "18:", "2026-11-19T10:00", "x" * 200])
def test_no_time_or_one_that_is_over_is_refused(said: str) -> None:
    """Nothing is planned for a time that cannot come."""
    with pytest.raises(UsageError) as refused:
        instant(said, "America/Chicago", NOON)
    assert refused.value.not_done and refused.value.hint


def test_a_timed_overflow_returns_by_itself_and_only_then(world) -> None:  # type: ignore[no-untyped-def]
    """execute-due leaves it alone before its time, brings it back after it, and once."""
    world.policy.write_text(world.policy.read_text() + OVERFLOW)
    until = (datetime.now(UTC) + timedelta(seconds=6)).isoformat()
    assert world.act("overflow", "loan_calls", "--percent", "20", "--until", until).code == 0
    assert world.shares() == {"hq": 80, "acme": 20}
    assert world.ok("execute-due", "--json").json["executed"] == []
    assert world.shares() == {"hq": 80, "acme": 20}
    time.sleep(max(0.0, (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds()))
    (returned,) = world.ok("execute-due", "--json").json["executed"]
    assert (returned["runbook"], returned["state"]) == ("failback", "succeeded")
    assert world.shares() == {"hq": 100}
    assert world.ok("execute-due", "--json").json["executed"] == []
