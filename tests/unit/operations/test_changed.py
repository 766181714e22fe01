"""A plan made before is run only while what it rests on is still so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccfailover.errors import Exit, Refused
from ccfailover.model.plan import Mode
from ccfailover.operations import prepare
from ccfailover.runbooks.plan import Request, changed
from tests.unit.operations.room import Room

REQUEST = Request(runbook="full_failover", subject="hq", reason="before")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path, "2026-10-20 14:00", None, {"hq": "unknown"})
    yield made
    made.close()


def differences(room: Room, before: prepare.Prepared, request: Request = REQUEST) -> list[str]:
    return changed(room.policy, before.plan, prepare.prepare(room.desk, request).plan)


def test_nothing_changed(room: Room) -> None:
    """Minutes later, in the same world, the same plan has the same hash."""
    before = prepare.prepare(room.desk, REQUEST)
    room.runtime.sleep(300)
    assert differences(room, before) == []
    assert prepare.prepare(room.desk, replace(REQUEST, reason="in other words")).plan.hash \
        == before.plan.hash


def test_a_home_that_got_worse_voids_nothing(room: Room) -> None:
    """That is what the plan is for."""
    before = prepare.prepare(room.desk, REQUEST)
    room.states["hq"] = "down"
    assert differences(room, before) == []


def test_a_home_that_got_better_is_told(room: Room) -> None:
    """Perhaps nobody wants to leave it any more."""
    room.states["hq"] = "down"
    before = prepare.prepare(room.desk, REQUEST)
    del room.states["hq"]
    assert any("hq was down, is healthy" in text for text in differences(room, before))


def test_a_receiver_that_fell_is_told(room: Room) -> None:
    """The state, and what the plan would do instead."""
    before = prepare.prepare(room.desk, REQUEST)
    room.states["acme"] = "down"
    found = differences(room, before)
    assert "acme was healthy, is down" in found
    assert any(text.startswith("loan_calls would go to") for text in found)


def test_shares_that_moved_are_told(room: Room) -> None:
    """Somebody moved a lever between the plan and its execution."""
    before = prepare.prepare(room.desk, REQUEST)
    room.platforms["edge"].add_route("loan_calls", {"hq": 50, "acme": 50})
    assert any("loan_calls is at" in text for text in differences(room, before))


def test_another_policy_another_request_another_mode(room: Room) -> None:
    """Each is named, and `agreed` refuses with exit code 4 and moves nothing."""
    before = prepare.prepare(room.desk, REQUEST)
    assert differences(room, before, replace(REQUEST, queues=("fraud",)))
    assert differences(room, before, replace(REQUEST, mode=Mode.SHADOW))
    other = replace(before.plan, policy_sha256="f" * 64)
    now = prepare.prepare(room.desk, REQUEST)
    with pytest.raises(Refused) as told:
        prepare.agreed(room.desk, now, other)
    assert told.value.exit_code is Exit.REFUSED
    assert "the policy was ffffffffffff" in told.value.what
