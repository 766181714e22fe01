"""Conditions: three-valued, typed, bounded, and clear about what is wrong with them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from ccfailover.model.health import State
from ccfailover.policy.conditions import (
    Condition,
    ConditionError,
    Kind,
    item_variables,
    target_values,
    world_variables,
)

DECLARED = {
    "site.hq.state": Kind.STRING, "site.hq.open": Kind.BOOL, "queue.apps.depth": Kind.INT,
    "queue.apps.oldest": Kind.DURATION, "queue.apps.rate": Kind.DOUBLE,
    "target.licences": Kind.STRINGS, "item.state": Kind.STRING, "any": Kind.DYN,
}
DEEP = "queue.apps.depth > 500"
OLD = 'queue.apps.oldest > duration("2h")'


@pytest.mark.parametrize(("text", "values", "verdict"), [
    (DEEP, {"queue.apps.depth": 501}, True),
    (DEEP, {"queue.apps.depth": 500}, False),
    (DEEP, {}, None),
    (DEEP, {"queue.apps.depth": None}, None),
    (f"!({DEEP})", {}, None),
    (f"{DEEP} || {OLD}", {"queue.apps.depth": 501}, True),
    (f"{OLD} || {DEEP}", {"queue.apps.depth": 501}, True),
    (f"{DEEP} || {OLD}", {"queue.apps.depth": 1}, None),
    (f"{DEEP} && {OLD}", {"queue.apps.depth": 1}, False),
    (f"{OLD} && {DEEP}", {"queue.apps.depth": 1}, False),
    (f"{DEEP} && {OLD}", {"queue.apps.depth": 501}, None),
    (OLD, {"queue.apps.oldest": 7200.5}, True),
    (OLD, {"queue.apps.oldest": timedelta(hours=2)}, False),
    (OLD, {"queue.apps.oldest": float("inf")}, None),
    ('site.hq.state == "down"', {"site.hq.state": State.DOWN}, True),
    ('site.hq.state == "down"', {"site.hq.state": "healthy"}, False),
    ('site.hq.state == "7"', {"site.hq.state": 7}, True),
    ("site.hq.open", {"site.hq.open": True}, True),
    ("site.hq.open", {"site.hq.open": 1}, None),
    ("queue.apps.rate > 5.0", {"queue.apps.rate": 6}, True),
    ("queue.apps.rate > 5.0", {"queue.apps.rate": "6.5"}, True),
    ("queue.apps.rate > 5.0", {"queue.apps.rate": "NA"}, None),
    ("queue.apps.rate > 5.0", {"queue.apps.rate": float("nan")}, None),
    (DEEP, {"queue.apps.depth": 501.0}, True),
    (DEEP, {"queue.apps.depth": 501.5}, None),
    (DEEP, {"queue.apps.depth": 10**30}, None),
    (DEEP, {"queue.apps.depth": True}, None),
    ("item.state in target.licences", {"item.state": "TX", "target.licences": ("OK", "TX")}, True),
    ("item.state in target.licences", {"item.state": "CA", "target.licences": {"TX"}}, False),
    ("item.state in target.licences", {"item.state": "CA"}, None),
    ("item.state in target.licences", {"target.licences": ["TX"]}, None),
    ("item.state in target.licences", {"item.state": "TX", "target.licences": "TX"}, None),
    ("queue.apps.depth / 0 > 1", {"queue.apps.depth": 5}, None),
    ("any", {"any": True}, True),
    ("any", {"any": 3}, None),
    ("site . hq . open // a comment", {"site.hq.open": True}, True),
])
def test_true_false_or_unknown(text, values, verdict):
    """What is missing or of the wrong kind is unknown, unless the other side decides alone."""
    assert Condition(text, DECLARED).evaluate(values) is verdict


@pytest.mark.parametrize(("text", "names"), [
    (f"{DEEP} || {OLD}", {"queue.apps.depth", "queue.apps.oldest"}),
    ('site.hq.state == "queue.apps.depth" // site.hq.open', {"site.hq.state"}),
    ("site.hq.state.size() > 3 && !site.hq.open", {"site.hq.state", "site.hq.open"}),
    ("target.licences.exists(one, one == item.state)", {"target.licences", "item.state"}),
    ("r'site.hq.open' == 'x' || '''any''' == \"any\"", set()),
    ("true", set()),
])
def test_the_names_it_refers_to(text, names):
    """Not those in texts and comments; a method's name is no variable."""
    assert Condition(text, DECLARED).names == names


@pytest.mark.parametrize(("text", "line", "column", "words"), [
    ("site.hq.stat == 'x'", 1, 1, "`site.hq.stat` is not known here; did you mean `site.hq.state`"),
    ("true &&\n  site.hk.open", 2, 3, "did you mean `site.hq.open`?"),
    ("site.hq.state.siz() > 2", 1, 15, "`siz` is not a function of `site.hq.state`"),
    ("foo(site.hq.open)", 1, 1, "there is no function `foo`"),
    ("queue.loan-calls.depth > 5", 1, 1, "a dash is a minus here"),
    ("nonsense", 1, 1, "`nonsense` is not known here"),
    ("site.hq.state = 'x'", 1, 15, "write == to compare"),
    ("site.hq.open AND site.hq.open", 1, 14, "write && instead of `AND`"),
    ("not site.hq.open", 1, 5, "write ! instead of `not`"),
    ("site.hq.open &&", 1, 16, "ends too soon"),
    ("", 1, 1, "ends too soon"),
    ("queue.apps.depth", 1, 1, "this gives a whole number"),
    ("queue.apps.rate > 5", 1, 17, "write 600.0 instead of 600"),
    ("queue.apps.oldest > '2h'", 1, 19, 'write it as duration("2h")'),
    ("queue.apps.oldest > duration('2 days')", 1, 31, "its units are h, m and s"),
    ("queue.apps.oldest > duration('1d')", 1, 31, "its units are h, m and s"),
    ("site.hq.state > 3", 1, 15, "cannot be applied to text and a whole number"),
    ("queue.apps.depth > 99999999999999999999", 1, 20, ""),
    ("(" * 500 + "true" + ")" * 500, 1, 1, "nested too deeply"),
    ("x" * 5000, 1, 1, "longer than 4000 characters"),
    ("'é' == 3", 1, 5, "cannot be applied"),
    ("site.hq.open ; true", 1, 14, ""),
    ("\x00", 1, 1, ""),
])
def test_what_is_wrong_is_said_where_it_stands(text, line, column, words):
    """Line and column in the text, and a way out."""
    with pytest.raises(ConditionError) as caught:
        Condition(text, DECLARED)
    assert (caught.value.line, caught.value.column) == (line, column), caught.value.message
    assert words in caught.value.message
    assert caught.value.message


def test_evaluation_is_bounded():
    """Nested loops over a list run into the budget: unknown, and nobody waits."""
    many = {"target.licences": [str(number) for number in range(1000)]}
    loops = "target.licences.all(a, target.licences.all(b, target.licences.all(c, a + b != c)))"
    verdict, why = Condition(loops, DECLARED).explain(many)
    assert verdict is None
    assert "budget" in why


def test_why_it_is_unknown():
    """`explain` names what is missing, and what went wrong."""
    assert Condition(DEEP, DECLARED).explain({}) == (None, "queue.apps.depth is unknown")
    assert Condition(DEEP, DECLARED).explain({"queue.apps.depth": 1}) == (False, "")
    assert "zero" in Condition("1 / queue.apps.depth > 0", DECLARED).explain(
        {"queue.apps.depth": 0})[1]


def test_the_variables_of_a_policy(examine, swapped):
    """Every site, dependency and queue has its own; an item's are those that the queue declares."""
    policy, problems = examine(swapped(
        "item: {id: uli, state: state}",
        "item: {id: uli, state: state}\n    fields: {amount: number, stage: text}"))
    assert policy is not None, [str(one) for one in problems]
    world = world_variables(policy)
    assert world["site.acme.state"] is Kind.STRING
    assert world["site.acme.open"] is Kind.BOOL
    assert world["dependency.los.state"] is Kind.STRING
    assert world["queue.apps.depth"] is Kind.INT
    assert world["queue.apps.oldest"] is Kind.DURATION
    assert world["queue.apps.depth_at.acme"] is Kind.INT
    assert world["queue.calls.share.callback"] is Kind.INT
    assert world["queue.calls.arrivals_per_hour"] is Kind.DOUBLE
    assert dict(item_variables(policy.queues["apps"])) == {
        "item.id": Kind.STRING, "item.state": Kind.STRING, "item.amount": Kind.DOUBLE,
        "item.stage": Kind.STRING, "target.name": Kind.STRING, "target.licences": Kind.STRINGS,
        "target.criteria_version": Kind.STRING, "target.data_classes": Kind.STRINGS,
    }


def test_a_lapsed_licence_is_none(examine, swapped):
    """`target.licences` holds through the last day and not on the next; undeclared is unknown."""
    policy, _ = examine(swapped("licences: [TX, OK]", "licences: {TX: 2030-06-30, OK: null}"))
    assert policy is not None
    acme = policy.sites["acme"]
    assert target_values(acme, date(2030, 6, 30))["target.licences"] == ["OK", "TX"]
    assert target_values(acme, date(2030, 7, 1))["target.licences"] == ["OK"]
    home = target_values(policy.sites["hq"], date(2030, 1, 1))
    assert home["target.licences"] is None
    rule = Condition("item.state in target.licences", item_variables(policy.queues["apps"]))
    assert rule.evaluate({**target_values(acme, date(2030, 7, 1)), "item.state": "TX"}) is False
    assert rule.evaluate({**home, "item.state": "TX"}) is None
