"""What a probe remembers from one `check` process to the next, through the real store."""

from __future__ import annotations

from pathlib import Path

from ccfailover.health.assess import step
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.policy import ProbeSpec
from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store


def settled_after(tmp_path: Path, runtime: SystemRuntime, *outcomes: Outcome) -> Outcome:
    """Each reading comes from a process of its own: nothing but the store carries over."""
    spec = ProbeSpec("site.hq.0", "http", 10.0, 5.0, 3, 2, "controller", {})
    for at, outcome in enumerate(outcomes, 1):
        store = open_store(str(tmp_path / "store.db"), runtime)
        history = step(store.histories().get(spec.key), Reading(spec.key, at, outcome, ""), spec)
        store.save_histories([history])
        store.close()
    return history.settled


def test_bad_readings_add_up_over_checks(tmp_path: Path, runtime: SystemRuntime) -> None:
    """Three checks that each see one bad reading make a site down."""
    seen = (Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN, Outcome.BAD, Outcome.BAD)
    assert settled_after(tmp_path, runtime, *seen) is Outcome.BAD


def test_silence_adds_up_over_checks(tmp_path: Path, runtime: SystemRuntime) -> None:
    """Three checks in a row that could not tell take back "healthy"."""
    assert settled_after(tmp_path, runtime, Outcome.GOOD, *[Outcome.UNKNOWN] * 3) \
        is Outcome.UNKNOWN
