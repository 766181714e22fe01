"""Which items may go: only what is known to be allowed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from ccfailover.model.items import WorkItem
from ccfailover.model.policy import Queue, Site
from ccfailover.policy.conditions import ConditionError
from ccfailover.transfer.eligibility import CelEligibility
from tests.unit.transfer.world import VirtualRuntime, queue, site

TODAY = date(2026, 9, 21)


def item(**fields: object) -> WorkItem:
    return WorkItem("a1", "m1", b"", fields, "h1")


def judge(of: Queue, target: Site, thing: WorkItem) -> str | None:
    return CelEligibility(of, target, VirtualRuntime()).judge(thing)


MAP = {"id": "uli", "state": "state", "amount": "loan_amount"}


@pytest.mark.parametrize(("condition", "fields", "goes"), [
    ("item.state in target.licences", {"state": "TX"}, True),
    ("item.state in target.licences", {"state": "NY"}, False),
    ("item.state in target.licences", {}, False),
    ("item.state in target.licences", {"state": None}, False),
    ("item.amount <= 50000.0", {"amount": "40000"}, True),
    ("item.amount <= 50000.0", {"amount": 60000}, False),
    ("item.amount <= 50000.0", {"amount": "NA"}, False),
    ("item.amount <= 50000.0", {"amount": "nan"}, False),
    ('target.name == "acme" && target.criteria_version == "2026-10"', {}, True),
    ('item.state == "TX" || item.amount < 5.0', {"state": "TX"}, True),
])
def test_condition(condition: str, fields: dict[str, object], goes: bool) -> None:
    """The policy's condition decides; what it needs and does not know keeps the item."""
    of = queue(eligible=condition, item=MAP, fields={"amount": "number"})
    target = site("acme", licences={"TX": None}, criteria_version="2026-10")
    assert (judge(of, target, item(**fields)) is None) is goes


def test_unknown_licences_fail_closed() -> None:
    """A target that declares no licences holds none that we know of."""
    of = queue(eligible="item.state in target.licences", item=MAP)
    assert "unknown" in str(judge(of, site("acme"), item(state="TX")))


@pytest.mark.parametrize(("until", "goes"), [
    (None, True), (date(2027, 1, 1), True), (date(2026, 1, 1), False)])
def test_licence_field(until: date | None, goes: bool) -> None:
    """With `licence_field` an item goes only where an unexpired licence for its state is held."""
    of = queue(licence_field="state", item=MAP)
    target = site("acme", licences={"TX": until})
    assert (judge(of, target, item(state="TX")) is None) is goes
    assert judge(of, target, item(state="OK")) == "acme holds no licence for its state"
    assert "missing" in str(judge(of, target, item()))
    assert judge(of, site("acme"), item(state="TX")) is not None


def test_of_our_own_sites_only_what_they_declare_is_held_against_them() -> None:
    """As the planner has it: else new applications would go to a house that may have no old one."""
    of = queue(data_class="credit", criteria_version="2026-10", licence_field="state", item=MAP)
    annex = replace(site("annex"), in_house=True)
    assert judge(of, annex, item(state="TX")) is None
    for declared in ({"data_classes": frozenset({"contact"})}, {"criteria_version": "2026-09"},
                     {"licences": {"OK": None}}):
        assert judge(of, replace(annex, **declared), item(state="TX")), declared
    assert judge(of, site("acme"), item(state="TX"))


def test_a_licence_ends_at_the_sites_midnight() -> None:
    """On the evening of its last day in Chicago the licence holds, though Greenwich is a day on."""
    runtime = VirtualRuntime()
    runtime.seconds = 36_000.0  # 2026-09-22 00:13 in Greenwich, the 21st in Chicago
    of = queue(licence_field="state", item=MAP)
    last = site("acme", licences={"TX": TODAY})
    assert CelEligibility(of, last, runtime).judge(item(state="TX")) is None
    runtime.seconds += 86_400
    assert CelEligibility(of, last, runtime).judge(item(state="TX")) is not None


@pytest.mark.parametrize(("of", "target"), [
    (queue(outsource="never"), site("acme")),
    (queue(data_class="pii"), site("acme")),
    (queue(data_class="pii"), site("acme", data_classes=frozenset({"public"}))),
    (queue(criteria_version="2026-10"), site("acme", criteria_version="2026-09")),
    (queue(criteria_version="2026-10"), site("acme")),
])
def test_the_whole_queue_stays(of: Queue, target: Site) -> None:
    """Outsourcing, data class and credit criteria bind every item, whatever its fields."""
    assert judge(of, target, item(state="TX")) is not None


def test_locked() -> None:
    """What somebody has in hand stays, also on the way home; not knowing counts as locked."""
    of = queue(item={"id": "uli", "locked": "locked_by"})
    for target in (site("acme"), site("hq")):
        assert judge(of, target, item(locked="no")) is None
        assert "locked" in str(judge(of, target, item(locked="j.doe")))
        assert "locked" in str(judge(of, target, item(locked=True)))
        assert "cannot tell" in str(judge(of, target, item()))


def test_the_way_home_needs_no_licence() -> None:
    """Home may always have its own work back."""
    of = queue(eligible="item.state in target.licences", licence_field="state",
               data_class="pii", criteria_version="2026-10", outsource="never", item=MAP)
    assert judge(of, site("hq"), item(state="NY")) is None


def test_reasons_name_no_value() -> None:
    """A reason goes into logs and reports: it must not carry what the item says."""
    of = queue(licence_field="state", eligible="item.amount < 5.0", item=MAP,
               fields={"amount": "number"})
    target = site("acme", licences={"TX": None})
    for fields in ({"state": "SECRET"}, {"state": "TX", "amount": 777.0},
                   {"state": "TX", "amount": "SECRET"}):
        reason = str(judge(of, target, item(**fields)))
        assert reason != "None" and "SECRET" not in reason and "777" not in reason


def test_a_condition_that_makes_no_sense() -> None:
    """A typo is an error when the mover is made, not a silent no for every item."""
    with pytest.raises(ConditionError):
        CelEligibility(queue(eligible="item.stat == 'TX'", item=MAP), site("acme"),
                       VirtualRuntime())
