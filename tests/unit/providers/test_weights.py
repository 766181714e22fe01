"""Shares to weights and back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfailover.model.shares import Shares
from ccfailover.providers.weights import shares_of, weights_of

SITES = ("hq", "acme", "night", "message")


@st.composite
def any_shares(draw: st.DrawFn) -> Shares:
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=3, max_size=3)))
    ends = [0, *cuts, 100]
    return Shares({name: ends[i + 1] - ends[i] for i, name in enumerate(SITES)})


@given(any_shares(), st.lists(st.integers(1, 9), min_size=4, max_size=4),
       st.sampled_from([100, 256, 65_535]))
def test_weights_stand_exactly_as_the_shares(to: Shares, counts: list[int], most: int) -> None:
    """No rounding on the way there and back, whatever number of servers a site has."""
    members = dict(zip(SITES, counts, strict=True))
    weights = weights_of(to, members, most)
    total = sum(map(sum, weights.values()))
    for name, each in weights.items():
        assert len(each) == members[name] and max(each) - min(each) <= 1
        assert min(each) >= 0 and max(each) <= most
        assert Fraction(sum(each) * 100, total) == to.of(name)
    assert shares_of({name: sum(each) for name, each in weights.items()}) == to


@given(st.dictionaries(st.sampled_from(SITES), st.integers(0, 70_000), min_size=1).filter(
    lambda found: any(found.values())))
def test_whoever_gets_anything_is_shown_with_something(weights: dict[str, int]) -> None:
    """Nobody with a weight reads 0 %, nobody without one more; the rest is off by less than 1 %
    for each such lift."""
    found = shares_of(weights)
    total = sum(weights.values())
    for name, weight in weights.items():
        assert (found.of(name) > 0) == (weight > 0)
        assert abs(found.of(name) - Fraction(weight * 100, total)) < len(weights)


@pytest.mark.parametrize(("weights", "shares"), [
    ({"hq": 1, "acme": 1, "night": 1}, {"acme": 34, "hq": 33, "night": 33}),
    ({"hq": 1, "acme": 256}, {"hq": 1, "acme": 99}),
    ({"hq": 1, "acme": 1, "night": 500}, {"hq": 1, "acme": 1, "night": 98}),
    ({"hq": 2, "acme": 1}, {"hq": 67, "acme": 33}),
])
def test_rounding(weights: dict[str, int], shares: dict[str, int]) -> None:
    """By largest remainder, and 1 % at least."""
    assert shares_of(weights) == Shares(shares)


def test_no_weights_are_no_shares() -> None:
    """All off is not a share of anybody."""
    with pytest.raises(ValueError, match="no destination has a weight"):
        shares_of({"hq": 0, "acme": 0})
    with pytest.raises(ValueError, match="more than 100"):
        shares_of({f"s{number}": 1 for number in range(101)})
