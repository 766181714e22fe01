"""Several levers for one queue, one lever for several, treatments that no lever reaches."""

from __future__ import annotations

import pytest

ROUTE = "route: {provider: edge}"
MORE = '  edge: {kind: switch, url: "http://127.0.0.1:1/", token: "env:TOKEN"}\n'
WITH_DNS = MORE + '  dns: {kind: switch, url: "http://127.0.0.1:2/"}\n'


@pytest.fixture
def levers(examine, right, small_kinds):
    """`levers(text, **can)`: what `validate` says of the right policy with that route."""
    def run(route: str, **can):
        text = right.replace(MORE, WITH_DNS).replace(ROUTE, f"route: {route}", 1)
        policy, problems = examine(text, with_kinds=small_kinds(**can))
        return policy, [str(one).partition("policy.yaml:")[2] for one in problems]

    return run


def test_several_levers_become_one(levers):
    """Each with its own reference; where nothing is said the fall-back rests at `normal`."""
    policy, problems = levers("{combine: replace, levers: [{provider: edge}, "
                              "{provider: dns, ref: sip}]}")
    assert problems == []
    lever = policy.queues["calls"].route
    assert lever.lever == "edge:calls+dns:sip"
    assert [part.lever for part in lever.parts] == ["edge:calls", "dns:sip"]
    assert lever.several.rest.to_json() == {"hq": 100}
    assert lever.several.split == "dns:sip" and lever.several.through == "hq"


@pytest.mark.parametrize(("route", "words"), [
    ("{combine: replace, levers: [{provider: edge}]}", "must have at least 2 entries"),
    ("{combine: add, levers: [{provider: edge}, {provider: dns}]}",
     "must be one of replace, multiply"),
    ("{levers: [{provider: edge}, {provider: dns}]}", "lacks `combine`"),
    ("{combine: replace, levers: [{provider: edge}, {provider: edg}]}",
     "there is no provider `edg`; did you mean `edge`?"),
    ("{combine: replace, levers: [{provider: edge}, {provider: edge}]}",
     "edge:calls stands here twice"),
    ("{combine: replace, levers: [{provider: edge, nonsense: 1}, {provider: dns}]}",
     "unknown key `nonsense`"),
    ("{combine: replace, rest: {hq: 90}, levers: [{provider: edge}, {provider: dns}]}",
     "the shares at rest of calls sum to 90, not to 100"),
    ("{combine: replace, split: dns, levers: [{provider: edge}, {provider: dns}]}",
     "`split` is for levers that multiply"),
    ("{combine: multiply, rest: {hq: 100}, levers: [{provider: edge}, {provider: dns}]}",
     "`rest` is for levers that replace"),
    ("{combine: multiply, split: jobs, levers: [{provider: edge}, {provider: dns}]}",
     "there is no lever `jobs`"),
    ("{combine: multiply, through: acm, levers: [{provider: edge}, {provider: dns}]}",
     "there is no site `acm`; did you mean `acme`?"),
    ("{combine: replace, levers: [{provider: edge}, {provider: jobs}]}",
     "jobs is of kind mq, which has no routes"),
])
def test_what_cannot_act_as_one_is_refused(levers, route, words):
    policy, problems = levers(route)
    assert policy is None
    assert any(words in one for one in problems), problems


def test_a_product_needs_its_passage_on_every_lever(levers):
    """Neither knows `acme`, through which calls would have to come to the next one."""
    policy, problems = levers(
        "{combine: multiply, through: acme, levers: [{provider: dns}, {provider: edge}]}",
        destinations=frozenset({"hq", "callback"}))
    assert policy is None
    assert any("dns has no way to acme, through which calls come to the next lever" in one
               for one in problems), problems


def test_a_fall_back_must_be_able_to_rest(levers):
    policy, problems = levers(
        "{combine: replace, rest: {hq: 55, acme: 45}, levers: [{provider: edge}, "
        "{provider: dns}]}", step=10)
    assert policy is None
    assert any("in steps of 10 %, so that it cannot rest at" in one for one in problems), problems


def test_queues_share_all_of_their_levers_or_none(levers):
    """calls would move apps' intake, but not the other way round."""
    policy, problems = levers("{combine: replace, levers: [{provider: edge, ref: apps}, "
                              "{provider: dns}]}")
    assert policy is None
    assert any("apps shares edge:apps with calls's route, but not all of its levers" in one
               for one in problems), problems


@pytest.mark.parametrize(("can", "words"), [
    ({"treatments": False}, "edge has no treatments, so that nothing can go to callback"),
    ({"destinations": frozenset({"hq", "acme", "message"})}, "edge has no way to callback"),
])
def test_a_treatment_that_no_lever_reaches_is_refused(examine, right, small_kinds, can, words):
    """`home_down: callback` promises what the switch cannot do; the place is the promise."""
    policy, problems = examine(right, with_kinds=small_kinds(**can))
    assert policy is None
    said = [one for one in problems if words in one.message]
    assert said and said[0].line == right[:right.index("home_down")].count("\n") + 1


def test_several_levers_reach_a_treatment_only_together(levers):
    """A fall-back that has no treatment could not take over."""
    policy, problems = levers("{combine: replace, levers: [{provider: edge}, {provider: dns}]}",
                              treatments=False)
    assert policy is None
    assert any("edge and dns has no treatments" in one for one in problems), problems
