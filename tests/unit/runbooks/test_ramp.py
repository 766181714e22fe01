"""What an increment's soak says, case by case."""

from __future__ import annotations

import pytest

from ccfailover.model.health import State
from ccfailover.runbooks.ramp import Verdict, judge

H, D, U, X = State.HEALTHY, State.DEGRADED, State.UNKNOWN, State.DOWN


@pytest.mark.parametrize(("receiver", "keeper", "verdict", "words"), [
    (H, (H, H), Verdict.GO_ON, ""),
    (H, (D, D), Verdict.GO_ON, ""),
    (H, (D, H), Verdict.GO_ON, ""),
    (D, (H, H), Verdict.HOLD, "acme is degraded"),
    (U, (H, H), Verdict.HOLD, "acme is unknown"),
    (H, (H, D), Verdict.HOLD, "hq was healthy, is degraded"),
    (H, (H, U), Verdict.HOLD, "hq was healthy, is unknown"),
    (X, (H, H), Verdict.BACK_OFF, "acme went down"),
    (H, (H, X), Verdict.HURRY, "hq is down and still has a share"),
    (D, (H, X), Verdict.GO_ON, "acme is degraded; but there is no better place: hq is down"),
    (D, (H, U), Verdict.GO_ON, "acme is degraded; but there is no better place: hq is unknown"),
    (X, (H, X), Verdict.NO_WAY, "acme went down, and there is no way back: hq is down"),
    (X, (H, U), Verdict.NO_WAY, "acme went down, and there is no way back: hq is unknown"),
])
def test_who_receives_and_who_keeps(receiver: State, keeper: tuple[State, State],
                                    verdict: Verdict, words: str) -> None:
    """Hold for the unwell, back off from the dead, never towards the dead."""
    said = judge({"acme": receiver}, {"hq": keeper}, {"hq": keeper[1]}, {})
    assert (said.verdict, said.reason) == (verdict, words)


def test_a_site_that_is_well_and_does_not_serve_the_queue() -> None:
    """Its own counts of the queue are heard, too."""
    said = judge({"acme": H}, {"hq": (H, H)}, {"hq": H}, {"acme": "calls are not served: 0"})
    assert (said.verdict, said.reason) == (Verdict.HOLD, "acme: calls are not served: 0")


def test_one_of_two_receivers_is_enough_to_hold() -> None:
    """The weakest one decides."""
    said = judge({"acme": H, "beta": D}, {}, {"hq": H}, {})
    assert said.verdict is Verdict.HOLD
