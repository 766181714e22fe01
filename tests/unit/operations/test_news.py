"""Whoever is needed hears of it, again and again, and not too often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccfailover.model.journal import LEASE_SECONDS, Actor, Lease
from ccfailover.model.policy import Reminders
from ccfailover.model.shares import Shares
from ccfailover.operations import run_list
from ccfailover.operations.news import remind, tell
from ccfailover.runtime import SECOND
from ccfailover.store import Store, open_store
from tests.unit.runbooks.stage import Branch, plan, spec
from tests.unit.store.conftest import Clock

MIN, HOUR = 60.0, 3600.0
MARY = Actor("mary", "elsewhere", 7)


@pytest.mark.parametrize(("waited", "number"), [
    (0, 0), (14 * MIN, 0), (15 * MIN, 1), (59 * MIN, 1), (HOUR, 2), (4 * HOUR, 2), (5 * HOUR, 3),
    (8.9 * HOUR, 3), (9 * HOUR, 4), (101 * HOUR, 27)])
def test_after_a_quarter_an_hour_and_then_every_four_hours(waited: float, number: int) -> None:
    """The default; a day of waiting makes eight messages."""
    assert Reminders().due(waited) == number


def test_a_policy_may_say_otherwise() -> None:
    """Only again and again, only a few times, or not at all."""
    assert [Reminders((), 60.0).due(each) for each in (0, 59, 60, 180)] == [0, 0, 1, 3]
    assert [Reminders((60.0,), 0.0).due(each) for each in (59, 60, 10**6)] == [0, 1, 1]
    assert Reminders((), 0.0).due(10**6) == 0


class Desk:
    """A store and a clock that moves when told; one run that has moved one lever of two."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self.policy = SimpleNamespace(heading="loans (prod) 0123", remind=Reminders(),
                                      lease=LEASE_SECONDS)
        self.runtime = clock
        made = plan(Branch("q", (spec("q/1-a", lever="l", queue="q", to={"acme": 50, "hq": 50}),
                                 spec("q/2-b", lever="l", queue="q", to={"acme": 100}))),
                    before=[replace(spec("approve"), kind="approve")])
        self.run, self.lease = store.create_run(made, actor=MARY, ttl=30)
        self.write("run.started", {"context": {}})

    def write(self, kind: str, data: dict[str, Any], lease: Lease | None = None) -> None:
        self.store.append(f"run:{self.run}", kind, data, actor="mary",
                          lease=self.lease if lease is None else lease)

    def fail(self, ending: str = "run.paused") -> None:
        self.write("step.started", {"step": "q/1-a", "snapshot": {"shares": {"hq": 100}}})
        self.write("step.succeeded", {"step": "q/1-a"})
        half = {"shares": {"hq": 50, "acme": 50}}
        self.write("step.started", {"step": "q/2-b", "snapshot": half})
        self.write("step.failed", {"step": "q/2-b", "truth": "no", "reason": "answered 500"})
        self.write(ending, {})
        self.store.lapse(self.lease)

    def check(self, **views: Any) -> int:
        desk = cast(Any, self)
        opened = [(run, run_list.state_of(desk, run)) for run in run_list.open_runs(desk)]
        return remind(desk, cast(Any, SimpleNamespace(queues=views)), opened)

    def messages(self) -> list[Any]:
        return self.store.pending(200)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = Clock()
    store = open_store(str(tmp_path / "store.db"), clock)
    yield Desk(store, clock)
    store.close()


def test_a_paused_run_is_told_of_again_on_schedule(desk: Desk) -> None:
    """Cron comes each minute for ten hours: the first message, and reminders after 15 min, 1 h,
    5 h and 9 h; each with how long, what is in effect, what to do, and the heads."""
    desk.fail()
    for _ in range(600):
        desk.check()
        desk.clock.pass_time(60)
    titles = [message.title for message in desk.messages()]
    assert titles == [f"full_failover hq is paused and needs a person{more}: run {desk.run}"
                      for more in ("", " for 15 min", " for 1 h", " for 5 h", " for 9 h")]
    assert {message.event for message in desk.messages()} == {"run.paused"}
    last = desk.messages()[-1].body
    assert "for 9 h: reminder 4" in last and "q/2-b: answered 500" in last
    assert "in effect: q at not known: acme 50 % · hq 50 % or acme 100 %" in last
    assert f"NEXT: ccfailover resume {desk.run}" in last
    number, hash_ = desk.store.head(f"run:{desk.run}")
    runs = desk.store.head("runs")
    assert last.endswith(f"journal head {number}:{hash_}\nhead of all runs {runs[0]}:{runs[1]}")


def test_overlapping_checks_make_one_message(desk: Desk) -> None:
    """Two processes with the same picture: the key is the same."""
    desk.fail()
    desk.clock.pass_time(20 * 60)
    run = run_list.load(cast(Any, desk), desk.run)
    assert tell(cast(Any, desk), run, run.phase)
    assert not tell(cast(Any, desk), run, run.phase)
    assert desk.check() == 0 and len(desk.messages()) == 1


def test_after_a_gap_only_the_latest_reminder_comes(desk: Desk) -> None:
    """Cron was dead for a day: one message, not nine."""
    desk.fail()
    assert desk.check() == 1
    desk.clock.pass_time(24 * HOUR)
    assert desk.check() == 1 and desk.check() == 0
    assert "for 1 d: reminder 7" in desk.messages()[-1].body


def test_it_ends_when_the_run_goes_on_and_begins_anew_with_a_new_wait(desk: Desk) -> None:
    """Resumed: silence. Paused again: from the start."""
    desk.fail()
    desk.clock.pass_time(2 * HOUR)
    assert desk.check() == 1
    lease, _ = desk.store.acquire(desk.run, actor=MARY, ttl=1e6)
    desk.write("run.resumed", {"context": {}}, lease)
    desk.clock.pass_time(20 * HOUR)
    assert desk.check() == 0
    desk.write("run.paused", {}, lease)
    desk.store.lapse(lease)
    assert desk.check() == 1
    assert " for " not in desk.messages()[-1].title
    lease, _ = desk.store.acquire(desk.run, actor=MARY, ttl=1e6)
    desk.store.end_run(lease, "run.aborted", {}, actor="mary")
    desk.clock.pass_time(20 * HOUR)
    assert desk.check() == 0


def test_a_note_is_no_new_wait(desk: Desk) -> None:
    """People's words into a run that waits make no second first message."""
    desk.fail()
    assert desk.check() == 1
    desk.store.append(f"run:{desk.run}", "note", {"text": "carrier called"}, actor="joe")
    assert desk.check() == 0


def test_an_interrupted_run_waits_since_its_last_heartbeat(desk: Desk) -> None:
    """Its last event may be much older than its death."""
    for _ in range(100):
        desk.clock.pass_time(10)
        desk.store.renew(desk.lease, 30)
    died = desk.clock.now()
    desk.clock.pass_time(29)
    assert desk.check() == 0, "its lease has not run out"
    desk.clock.pass_time(15 * MIN - 29)
    assert desk.check() == 1
    (message,) = desk.messages()
    assert message.event == "run.interrupted" and "for 15 min" in message.title
    assert (desk.clock.now() - died) // SECOND == 900
    assert "ccfailover resume" in message.body


def test_a_stuck_run_is_told_of(desk: Desk) -> None:
    """Nobody knows how it stands: NEXT says to look."""
    desk.fail("run.stuck")
    assert desk.check() == 1
    desk.clock.pass_time(HOUR)
    assert desk.check() == 1
    assert f"NEXT: ccfailover runs show {desk.run}" in desk.messages()[-1].body


def test_an_approval_that_is_waited_for_is_asked_for_again(desk: Desk) -> None:
    """The step asks first; reminders go on while it waits, and say who may not."""
    desk.policy.remind = Reminders((60.0,), 0.0)
    desk.write("step.started", {"step": "approve", "snapshot": None})
    assert desk.check() == 0
    for _ in range(6):
        desk.clock.pass_time(10)
        desk.store.renew(desk.lease, 30)
    assert desk.check() == 1 and desk.check() == 0
    (message,) = desk.messages()
    assert message.title.startswith("full_failover hq waits for an approval for 1 min")
    assert f"NEXT: ccfailover approve {desk.run}   (not by mary)" in message.body
    desk.write("step.succeeded", {"step": "approve"})
    desk.clock.pass_time(20)
    desk.store.renew(desk.lease, 30)
    assert desk.check() == 0


def test_what_a_check_has_seen_since_is_told(desk: Desk) -> None:
    """A lever that failed to move may have moved: a reading from after the failure tells, one
    from before does not."""
    desk.fail()
    old, new = desk.clock.now(), desk.clock.now() + 1
    view = SimpleNamespace(shares=Shares({"acme": 100}), shares_at=old)
    run = run_list.load(cast(Any, desk), desk.run)
    assert run.last_sign[1] == old
    desk.check(q=view)
    assert "not known: acme 50 % · hq 50 % or acme 100 %" in desk.messages()[-1].body
    desk.clock.pass_time(HOUR)
    desk.check(q=SimpleNamespace(shares=Shares({"acme": 100}), shares_at=new))
    assert "in effect: q at acme 100 %" in desk.messages()[-1].body
