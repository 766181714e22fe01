"""Shares on the way, plans and their hashes: what holds for all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ccfailover.model.plan import Branch, Finding, Mode, OnFailure, Plan, StepSpec, canonical
from ccfailover.model.shares import Shares
from ccfailover.runbooks.lever_step import stages

NAMES = ("hq", "acme", "nightline", "callback", "message")
STEPS = st.sampled_from((1, 2, 5, 10, 20, 25, 50))


@st.composite
def shares(draw: st.DrawFn, step: int) -> Shares:
    """Whole multiples of `step` that sum to 100."""
    left, parts = 100 // step, {}
    for name in NAMES[:-1]:
        part = draw(st.integers(0, left))
        parts[name], left = part * step, left - part
    parts[NAMES[-1]] = left * step
    return Shares(parts)


@st.composite
def ways(draw: st.DrawFn) -> tuple[Shares, Shares, list[int], int]:
    step = draw(STEPS)
    increments = sorted(draw(st.sets(st.integers(1, 100), max_size=6)) | {100})
    return draw(shares(step)), draw(shares(step)), increments, step


@given(ways())
def test_every_stage_can_be_set(way: tuple[Shares, Shares, list[int], int]) -> None:
    """Each sums to 100 in multiples of the lever's step, and the last is the aim itself."""
    before, after, increments, step = way
    found = stages(before, after, increments, step)
    assert found[-1] == after
    assert len(found) <= len(increments) and len(set(found)) == len(found)
    for each in found:
        assert sum(each.values()) == 100
        assert all(part % step == 0 for part in each.values())


@given(ways())
def test_no_stage_goes_past_its_aim(way: tuple[Shares, Shares, list[int], int]) -> None:
    """Nobody is sent more on the way than before or in the end, but for what rounding leaves to
    the largest receiver; and no stage is where the lever already stands."""
    before, after, increments, step = way
    largest = max(set(before) | set(after), key=lambda name: (after.of(name), name))
    for each in stages(before, after, increments, step)[:-1]:
        assert each not in (before, after)
        for name in set(each) - {largest}:
            assert each.of(name) <= max(before.of(name), after.of(name))


@given(ways())
def test_a_dead_site_only_ever_loses(way: tuple[Shares, Shares, list[int], int]) -> None:
    """What is to end at nothing never grows on the way."""
    before, after, increments, step = way
    for name in [name for name in before if after.of(name) == 0]:
        row = [each.of(name) for each in stages(before, after, increments, step)]
        assert row == sorted(row, reverse=True) and row[-1] == 0


@given(ways())
def test_from_an_unknown_place_there_is_only_the_aim(
        way: tuple[Shares, Shares, list[int], int]) -> None:
    """Nobody can go half of a way whose beginning is not known."""
    _, after, increments, step = way
    assert stages(None, after, increments, step) == [after]


TEXT = st.text(max_size=12)
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-10**6, 10**6) | TEXT,
                      lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    def branch(name: str) -> Branch:
        return Branch(name, tuple(
            StepSpec(id=f"{name}/{number}", kind=draw(TEXT), title=draw(TEXT), lever=draw(TEXT),
                     params=draw(st.dictionaries(TEXT, VALUES, max_size=3)),
                     on_failure=draw(st.sampled_from(OnFailure)))
            for number in range(draw(st.integers(0, 2)))))

    return Plan(
        runbook=draw(TEXT), subject=draw(TEXT), mode=draw(st.sampled_from(Mode)),
        policy_name=draw(TEXT), policy_sha256=draw(TEXT), reason=draw(TEXT),
        before=branch("before"), branches=tuple(branch(f"q{n}") for n in range(2)),
        after=branch("after"), scopes=tuple(draw(st.lists(TEXT, max_size=3))),
        shares_before={"q0": draw(st.none() | st.just({"hq": 100}))},
        shares_after={"q0": {"acme": 100}}, basis=draw(st.dictionaries(TEXT, VALUES, max_size=3)),
        findings=tuple(Finding(draw(TEXT), "warning", draw(TEXT))
                       for _ in range(draw(st.integers(0, 2)))),
        cost_per_hour=draw(TEXT), supersedes=draw(st.lists(TEXT, max_size=3).map(tuple)))


@settings(max_examples=50)
@given(plans())
def test_a_plan_survives_the_journal(plan: Plan) -> None:
    """To JSON and back it is the same plan with the same hash: else no confirmation would fit."""
    again = Plan.from_json(json.loads(canonical(plan.to_json())))
    assert again == plan and again.hash == plan.hash


@settings(max_examples=50)
@given(plans(), st.dictionaries(TEXT, VALUES, min_size=1, max_size=2))
def test_the_hash_sees_what_a_plan_does(plan: Plan, other: dict[str, Any]) -> None:
    """Another basis, another policy, another aim: another hash. Another wording: the same."""
    assume(canonical(other) != canonical(dict(plan.basis)))
    assert replace(plan, basis=other).hash != plan.hash
    assert replace(plan, policy_sha256=plan.policy_sha256 + "0").hash != plan.hash
    assert replace(plan, shares_after={"q0": {"callback": 100}}).hash != plan.hash
    assert replace(plan, reason="other words", findings=(), cost_per_hour="1").hash == plan.hash
