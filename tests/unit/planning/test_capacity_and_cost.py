"""The plain capacity, and money."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from ccfailover.model.policy import Price, Staff
from ccfailover.model.shares import Shares
from ccfailover.planning.capacity import capacity_per_hour
from ccfailover.planning.cost import cost_per_hour, hours_left_today


@pytest.mark.parametrize(("staff", "channel", "expected"), [
    (Staff(agents=36, handle_time=300.0), "voice", 432.0),
    (Staff(agents=0, handle_time=300.0), "voice", 0.0),
    (Staff(agents=-4, handle_time=300.0), "voice", 0.0),
    (Staff(agents=0), "voice", 0.0),
    (Staff(agents=36), "voice", None),
    (Staff(agents=36, handle_time=0.0), "voice", None),
    (Staff(agents=36, handle_time=-1.0), "voice", None),
    (Staff(agents=36, handle_time=float("nan")), "voice", None),
    (Staff(handle_time=300.0), "voice", None),
    (Staff(), "voice", None),
    (None, "voice", None),
    (Staff(per_hour=90.0), "application", 90.0),
    (Staff(per_hour=-1.0), "application", 0.0),
    (Staff(per_hour=float("inf")), "application", None),
    (Staff(agents=36, handle_time=300.0, per_hour=90.0), "application", 90.0),
    (Staff(agents=36, handle_time=300.0, per_hour=90.0), "voice", 432.0),
    (Staff(agents=36, handle_time=300.0), "email", 432.0),
    (Staff(per_hour=90.0), "voice", 90.0),
])
def test_plain_formula(scene, staff, channel, expected):
    """heads × 3600 / handle time, or the plain rate; what is not known is None, never 0."""
    scene.change_site("acme", staff={"calls": staff} if staff else {})
    scene.change_queue(channel=channel)
    got = capacity_per_hour(scene.sites["acme"], scene.queue, minutes_since_activation=None)
    assert got == expected


def test_queue_figure_stands_in_for_a_missing_handle_time(scene):
    """`minutes_per_contact` of the queue is used where the site has no figure of its own."""
    scene.change_site("acme", staff={"calls": Staff(agents=10)})
    scene.change_queue(minutes_per_contact=6.0)
    assert capacity_per_hour(
        scene.sites["acme"], scene.queue, minutes_since_activation=0) == 100.0


@pytest.mark.parametrize(("minutes", "heads"), [
    (None, 0), (-5.0, 0), (0.0, 0), (4.9, 0), (5.0, 20), (29.9, 20), (30.0, 60), (9999.0, 60),
])
def test_ramp(scene, minutes, heads):
    """Before its first entry nobody is there; an entry counts from its own minute on."""
    scene.change_site("acme", staff={"calls": Staff(handle_time=300.0)},
                      ramp=((1800.0, 60), (300.0, 20)))
    got = capacity_per_hour(scene.sites["acme"], scene.queue, minutes_since_activation=minutes)
    assert got == heads * 12


def test_ramp_caps_signed_in_heads_and_shares_them_between_queues(scene):
    """The smaller of both counts, and heads that serve another queue are not free."""
    scene.change_site("acme", ramp=((0.0, 50),))
    acme = scene.sites["acme"]
    assert capacity_per_hour(acme, scene.queue, minutes_since_activation=0) == 36 * 12
    assert capacity_per_hour(
        acme, scene.queue, minutes_since_activation=0, heads_taken=40.0) == 10 * 12
    assert capacity_per_hour(
        acme, scene.queue, minutes_since_activation=0, heads_taken=99.0) == 0


def test_ramp_lowers_a_plain_rate_in_proportion(scene):
    """Half the heads do half the applications; nobody does none."""
    scene.change_queue(channel="application")
    scene.change_site("acme", staff={"calls": Staff(agents=40, per_hour=80.0)},
                      ramp=((600.0, 20),))
    acme = scene.sites["acme"]
    assert capacity_per_hour(acme, scene.queue, minutes_since_activation=10) == 40.0
    assert capacity_per_hour(acme, scene.queue, minutes_since_activation=0) == 0.0


def test_cost_of_calls_and_applications(scene):
    """Minutes for calls, pieces for applications, nothing for treatments and free sites."""
    scene.change_site("acme", price=Price(Decimal("0.85"), Decimal("14.50"), Decimal(500)))
    policy, queue = scene.policy, scene.queue
    shares = Shares({"acme": 50, "hq": 20, "callback": 30})
    assert cost_per_hour(policy, queue, shares, 600.0) == (Decimal("1275.00"), ())
    scene.change_queue(channel="application")
    assert cost_per_hour(scene.policy, scene.queue, shares, 80.0)[0] == Decimal("580.00")


def test_cost_that_cannot_be_known_is_named(scene):
    """Left out and said, never silently 0."""
    scene.change_site("acme", staff={})
    scene.change_site("hq", staff={})
    shares = Shares({"acme": 100})
    cost, left_out = cost_per_hour(scene.policy, scene.queue, shares, 600.0)
    assert (cost, left_out) == (
        0, ("the cost of acme is not counted: its handle time is unknown",))
    scene.agents("acme", 36)
    assert cost_per_hour(scene.policy, scene.queue, shares, None)[1] == (
        "the cost of acme is not counted: the load is unknown",)


@pytest.mark.parametrize(("when", "zone", "hours"), [
    (datetime(2026, 11, 18, 16, tzinfo=UTC), "America/Chicago", 14),
    (datetime(2026, 11, 18, 16, tzinfo=UTC), "UTC", 8),
    (datetime(2026, 11, 1, 5, tzinfo=UTC), "America/Chicago", 25),
    (datetime(2026, 3, 8, 6, tzinfo=UTC), "America/Chicago", 23),
])
def test_hours_left_today(when, zone, hours):
    """To the next local midnight, days with a clock change included."""
    assert hours_left_today(int(when.timestamp()) * 1_000_000, zone) == hours
