"""Spreading by shares, before any network is involved."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ccfailover.simulation.processes.rotation import Rotation

NAMES = ("acme", "callback", "hq", "message")


@st.composite
def shares(draw: st.DrawFn) -> dict[str, int]:
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=3, max_size=3)))
    edges = [0, *cuts, 100]
    return {name: edges[at + 1] - edges[at] for at, name in enumerate(NAMES)}


@given(shares(), st.integers(0, 250))
def test_any_hundred_in_a_row_obey_the_shares_exactly(parts: dict[str, int], skip: int) -> None:
    """Whatever came before, a hundred contacts are the percentages."""
    rotation = Rotation(parts)
    for _ in range(skip):
        rotation.pick()
    picked = Counter(rotation.pick() for _ in range(100))
    assert dict(picked) == {name: share for name, share in parts.items() if share}


@given(st.integers(0, 100), st.integers(1, 99))
def test_two_destinations_are_never_off_by_a_whole_contact(percent: int, count: int) -> None:
    """A small sample is as even as whole contacts allow."""
    rotation = Rotation({"hq": percent, "acme": 100 - percent})
    picked = Counter(rotation.pick() for _ in range(count))
    assert abs(picked["hq"] - count * percent / 100) < 1


def test_new_shares_hold_from_the_next_contact() -> None:
    """A destination with no share gets nothing, whatever it was owed before."""
    rotation = Rotation({"hq": 99, "acme": 1})
    for _ in range(98):
        rotation.pick()
    rotation.set({"acme": 100, "hq": 0})
    assert {rotation.pick() for _ in range(50)} == {"acme"}
