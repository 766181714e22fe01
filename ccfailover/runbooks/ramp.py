"""What an increment's soak says: go on, hold, or take it back. Pure.

Judged are those who were given more and those who keep a part of the work, the remaining home
above all (DESIGN §4, issue of the ramp): who receives must bear it, and who keeps must not have
become worse by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ccfailover.model.health import State


class Verdict(Enum):
    GO_ON = "go on"
    HURRY = "hurry"
    """Go on without waiting: what is still left there is lost meanwhile."""
    HOLD = "hold"
    BACK_OFF = "back off"
    NO_WAY = "no way"
    """A receiver is dead, and so is every place to go back to: a person is needed."""


@dataclass(frozen=True)
class Feedback:
    """`reason` is empty when all is well."""

    verdict: Verdict
    reason: str = ""


def judge(receivers: Mapping[str, State], keepers: Mapping[str, tuple[State, State]],
          behind: Mapping[str, State], grumbles: Mapping[str, str]) -> Feedback:
    """`receivers` were given more; `keepers` kept a part: (state when the increment began, now);
    `behind` would get work back. `grumbles`: receiver → what its own counts of the queue say
    against it, although the site is well.

    Nothing is taken back towards a place that is down or unknown: with such a place behind, a
    receiver that is only degraded is still the better one.
    """
    dead = [name for name, state in receivers.items() if state is State.DOWN]
    unwell = [f"{name} is {state.value}" for name, state in receivers.items()
              if state in (State.DEGRADED, State.UNKNOWN)]
    unwell += [f"{name}: {text}" for name, text in grumbles.items() if name not in dead]
    gone = [f"{name} is {state.value}" for name, state in behind.items()
            if state in (State.DOWN, State.UNKNOWN)]
    if dead:
        said = f"{', '.join(dead)} went down"
        if gone:
            return Feedback(Verdict.NO_WAY, f"{said}, and there is no way back: "
                                            f"{', '.join(gone)}")
        return Feedback(Verdict.BACK_OFF, said)
    if unwell:
        if gone:
            return Feedback(Verdict.GO_ON, f"{', '.join(unwell)}; but there is no better place: "
                                           f"{', '.join(gone)}")
        return Feedback(Verdict.HOLD, ", ".join(unwell))
    lost = [name for name, (_, now) in keepers.items() if now is State.DOWN]
    if lost:
        return Feedback(Verdict.HURRY, f"{', '.join(lost)} is down and still has a share")
    worse = [f"{name} was {then.value}, is {now.value}" for name, (then, now) in keepers.items()
             if _ORDER.index(now) > _ORDER.index(then)]
    if worse:
        return Feedback(Verdict.HOLD, ", ".join(worse))
    return Feedback(Verdict.GO_ON)


_ORDER = (State.HEALTHY, State.DEGRADED, State.UNKNOWN, State.DOWN)
