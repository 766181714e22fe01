"""kill -9 around every durable write and every external effect.

Not a sample: a counting run tells how many points there are, and each is tried. The branches run
side by side, so a number need not be the same point in two runs; the points still all occur.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from crash_world import Bomb, CrashWorld, Seen, Trial

pytestmark = [pytest.mark.server("roto-server"), pytest.mark.long]

SLICES = 8
"""The points are dealt out to this many tests, so that workers share them."""

MOST = 80
"""More points than a run has; a bomb that is set too far never goes off, and the run just ends."""

ONCE = Counter(dict.fromkeys(Trial.ELIGIBLE, 1))
STAY = Counter(dict.fromkeys(Trial.INELIGIBLE, 1))

MOVED = Seen(calls={"acme": 100}, intake={"acme": 100}, hq=STAY, acme=ONCE,
             gate=False)
HOME = Seen(calls={"hq": 100}, intake={"hq": 100}, hq=ONCE + STAY, acme=Counter(), gate=True)
UNTOUCHED = Seen(calls={"hq": 100}, intake={"hq": 100}, hq=ONCE + STAY, acme=Counter(),
                 gate=False)




def points(which: int) -> list[tuple[int, str]]:
    # Effects are points, too, so that between two points nothing outside or on disk changes: what
    # is after one is before the next. Both are played with CCF_EVERY_WRITE=both.
    whens = ("before", "after") if os.environ.get("CCF_EVERY_WRITE") == "both" else ("before",)
    every = [(n, when) for n in range(1, MOST) for when in whens]
    return every[which::SLICES]


def check_journal(trial: Trial) -> None:
    desk = trial.desk()
    assert desk.store.verify() == []


def observed_before_repeated(trial: Trial) -> None:
    """Between a step's first start and its second there is a look at the world."""
    desk = trial.desk()
    for run in desk.store.run_ids():
        started: dict[str, bool] = {}
        for record in desk.store.read(f"run:{run}"):
            step = record.data.get("step")
            if record.kind == "step.started":
                assert started.get(step, True), f"{step} was repeated unseen"
                started[step] = False
            elif record.kind in ("step.observed", "step.failed"):
                started[step] = True


@pytest.mark.parametrize("which", range(SLICES))
def test_full_failover_killed_anywhere_then_resumed(crash_world: CrashWorld, which: int) -> None:
    """Whatever the moment of death, resume ends where the undisturbed run ends."""
    for n, when in points(which):
        trial = crash_world.trial()
        code = trial.start("full_failover", Bomb(n, when))
        if code == 0:
            assert trial.seen() == MOVED, f"undisturbed ({n} {when})"
            break
        assert code == -9, f"{n} {when}: {code} {trial.errors()}"
        if not trial.desk().store.run_ids():
            # Died before the run existed: nothing may have been touched.
            assert trial.seen() == UNTOUCHED, f"{n} {when}"
            continue
        if trial.desk().store.open_run_ids():
            assert trial.resume() == 0, f"{n} {when}: {trial.errors()}"
        observed_before_repeated(trial)
        check_journal(trial)
        rows = list(trial.desk().store.items(queue="applications"))
        assert not [row.item_id for row in rows if row.possible_duplicate], f"{n} {when}"
        assert trial.seen() == MOVED, f"{n} {when}"
    else:
        pytest.fail("a run has more points than MOST: some were not tried")


@pytest.mark.parametrize("which", range(SLICES))
def test_failback_killed_anywhere_then_resumed(crash_world: CrashWorld, which: int) -> None:
    """The way back is as safe as the way out; home's queue cannot swallow a repeated put, so
    every possible duplicate must be listed."""
    for n, when in points(which):
        trial = crash_world.trial()
        assert trial.start("full_failover") == 0, trial.errors()
        code = trial.start("failback", Bomb(n, when))
        if code == 0:
            assert trial.seen() == HOME
            break
        assert code == -9, f"{n} {when}: {code} {trial.errors()}"
        desk = trial.desk()
        if len(desk.store.run_ids()) < 2:
            assert trial.start("failback") == 0, trial.errors()
        elif desk.store.open_run_ids():
            assert trial.resume() in (0, 11), f"{n} {when}: {trial.errors()}"
        observed_before_repeated(trial)
        check_journal(trial)
        listed = {row.item_id.partition("#")[0]
                  for row in trial.desk().store.items(queue="applications")
                  if row.possible_duplicate}
        seen = trial.seen()
        assert (seen.calls, seen.intake, seen.gate, seen.acme) == (
            HOME.calls, HOME.intake, HOME.gate, HOME.acme), f"{n} {when}"
        twice = {item for item, count in seen.hq.items() if count > 1}
        assert set(seen.hq) == set(HOME.hq), f"{n} {when}: lost"
        assert twice <= listed, f"{n} {when}: {twice - listed} doubled and not listed"
    else:
        pytest.fail("a run has more points than MOST: some were not tried")


@pytest.mark.parametrize("which", range(SLICES))
def test_two_kills_then_rollback(crash_world: CrashWorld, which: int) -> None:
    """A second death during resume, then rollback: shares exact, every application home. The first
    death is at every third point; at every one with CCF_EVERY_WRITE=both."""
    for n, when in points(which):
        if n % 3 and os.environ.get("CCF_EVERY_WRITE") != "both":
            continue
        trial = crash_world.trial()
        code = trial.start("full_failover", Bomb(n, when))
        if code == 0:
            break
        assert code == -9, f"{n}: {code} {trial.errors()}"
        if not trial.desk().store.open_run_ids():
            continue
        again = trial.resume(Bomb(2 + n % 11, "after"))
        assert again in (-9, 0), f"{n}: {again} {trial.errors()}"
        if again == 0:
            continue  # too little was left for a second death
        if not trial.desk().store.open_run_ids():
            continue
        assert trial.rollback() == 7, f"{n}: {trial.errors()}"
        check_journal(trial)
        listed = {row.item_id.partition("#")[0]
                  for row in trial.desk().store.items(queue="applications")
                  if row.possible_duplicate}
        seen = trial.seen()
        assert (seen.calls, seen.intake) == ({"hq": 100}, {"hq": 100}), f"{n}"
        assert set(seen.hq) == set(UNTOUCHED.hq), f"{n}: lost"
        assert seen.acme == Counter(), f"{n}"
        assert {item for item, count in seen.hq.items() if count > 1} <= listed, f"{n}"
