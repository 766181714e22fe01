"""poller.py, jobs.py and the probes over provider views."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.health import Probe, ProbeJob
from ccfailover.health.jobs import all_jobs
from ccfailover.health.poller import jobs_for, poll
from ccfailover.health.probes.backlog import BacklogProbe
from ccfailover.health.probes.route import RouteProbe
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import BacklogMeasure, BacklogView, RouteState, RouteView
from ccfailover.runtime import SECOND, SystemRuntime

Job = Callable[..., ProbeJob]
LEVER = LeverSpec("edge", "calls")


class Pile(BacklogView):
    def __init__(self, answer: BacklogMeasure | Exception) -> None:
        self.answer = answer

    def measure(self) -> BacklogMeasure:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Switch(RouteView):
    def __init__(self, answer: Shares | Exception | threading.Event,
                 counts: Mapping[str, float] | Exception | None = None) -> None:
        self.answer = answer
        self.counts = counts or {}

    def read(self) -> RouteState:
        if isinstance(self.answer, threading.Event):
            self.answer.wait(10)
            return RouteState(Shares({"hq": 100}))
        if isinstance(self.answer, Exception):
            raise self.answer
        return RouteState(self.answer)

    def measure(self) -> Mapping[str, float]:
        if isinstance(self.counts, Exception):
            raise self.counts
        return self.counts


def read_pile(runtime: SystemRuntime, job: ProbeJob, pile: Pile) -> Reading:
    found = BacklogProbe(runtime, view_for=lambda _: pile).read_many([job],
                                                                     runtime.monotonic() + 5)
    return next(iter(found))


def read_switch(runtime: SystemRuntime, job: ProbeJob, switch: Switch) -> Reading:
    found = RouteProbe(runtime, view_for=lambda _: switch).read_many([job],
                                                                     runtime.monotonic() + 5)
    return next(iter(found))


def test_a_backlog_is_counted(runtime: SystemRuntime, job: Job) -> None:
    """Depth, visible, hidden; the age only where the platform can tell it."""
    seen = read_pile(runtime, job("backlog", lever=LEVER), Pile(BacklogMeasure(7, 3, 90.5)))
    assert seen.outcome is Outcome.GOOD
    assert seen.values == {"depth": 10, "visible": 7, "hidden": 3, "oldest_s": 90.5}
    ageless = read_pile(runtime, job("backlog", lever=LEVER), Pile(BacklogMeasure(0, 0, None)))
    assert ageless.values == {"depth": 0, "visible": 0, "hidden": 0}


@pytest.mark.parametrize("fault", [
    BacklogMeasure(-1, 0, None), Unavailable("down", in_doubt=False), Rejected("no"),
    UsageError("a lever has no backlog"),
])
def test_a_backlog_that_cannot_be_read_is_unknown(runtime: SystemRuntime, job: Job,
                                                  fault: Any) -> None:
    """Never a depth of 0."""
    seen = read_pile(runtime, job("backlog", lever=LEVER), Pile(fault))
    assert (seen.outcome, dict(seen.values)) == (Outcome.UNKNOWN, {})


def test_a_route_gives_shares_and_counts(runtime: SystemRuntime, job: Job) -> None:
    """The shares count; live counts that fail do not take them away, and are never invented."""
    shares = Shares({"hq": 60, "acme": 40})
    seen = read_switch(runtime, job("route", lever=LEVER),
                       Switch(shares, {"answered.hq": 5.0, "odd": float("nan")}))
    assert (seen.outcome, seen.shares, dict(seen.values)) == \
        (Outcome.GOOD, shares, {"answered.hq": 5.0})
    partly = read_switch(runtime, job("route", lever=LEVER),
                         Switch(shares, Unavailable("no counts", in_doubt=False)))
    assert (partly.outcome, partly.shares, dict(partly.values)) == (Outcome.GOOD, shares, {})
    broken = read_switch(runtime, job("route", lever=LEVER), Switch(Rejected("sums to 90")))
    assert (broken.outcome, broken.shares) == (Outcome.UNKNOWN, None)


def test_a_platform_that_hangs_is_left_behind(runtime: SystemRuntime, job: Job) -> None:
    """An adapter with a long time-out of its own does not hold up the others or the poll."""
    over = threading.Event()
    views = {"slow": Switch(over), "fast": Switch(Shares({"hq": 100}))}
    jobs = [job("route", name, lever=LeverSpec("edge", name)) for name in views]
    probe = RouteProbe(runtime, view_for=lambda lever: views[lever.ref])
    began = runtime.monotonic()
    found = {seen.key: seen for seen in poll_one(probe, jobs, runtime, 0.4)}
    assert runtime.monotonic() - began < 0.4 + 1.0
    over.set()
    assert (found["slow"].outcome, found["fast"].outcome) == (Outcome.UNKNOWN, Outcome.GOOD)


def poll_one(probe: Probe, jobs: Sequence[ProbeJob], runtime: SystemRuntime,
             budget: float) -> list[Reading]:
    return poll(jobs, lambda _: probe, runtime, budget)


class Scripted(Probe):
    """Answers for `keys`, then does what `after` does."""

    kind: ClassVar[str] = "scripted"
    PARAMS: ClassVar[Mapping[str, object]] = {}
    summary: ClassVar[str] = "for tests"

    def __init__(self, keys: Sequence[str], after: Callable[[], Any] = lambda: None) -> None:
        self.keys = keys
        self.after = after

    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        for key in self.keys:
            yield Reading(key, 1, Outcome.GOOD, "fine")
        self.after()


def fail() -> None:
    raise ZeroDivisionError("the token is s3cr3t")


def refuse(kind: str) -> Probe:
    raise UsageError(f"no probe of kind {kind}")


def test_one_broken_kind_does_not_blind_the_others(runtime: SystemRuntime, job: Job) -> None:
    """A kind that raises, forgets, invents, hangs or does not exist is told as UNKNOWN; what it
    did read, and every other kind, counts."""
    over = threading.Event()
    kinds: dict[str, Probe] = {
        "raises": Scripted(["raises.0"], fail),
        "forgets": Scripted(["forgets.1", "forgets.1", "other"]),
        "hangs": Scripted(["hangs.0"], lambda: over.wait(10)),
    }
    jobs = [job(kind, f"{kind}.{index}") for kind in (*kinds, "missing") for index in (0, 1)]
    found = poll(jobs, lambda kind: kinds[kind] if kind in kinds else refuse(kind), runtime, 0.3)
    over.set()
    assert [seen.key for seen in found] == [one.target.key for one in jobs]
    outcome = {seen.key: seen.outcome for seen in found}
    assert {key for key, seen in outcome.items() if seen is Outcome.GOOD} == \
        {"raises.0", "forgets.1", "hangs.0"}
    detail = {seen.key: seen.detail for seen in found}
    assert "ZeroDivisionError" in detail["raises.1"]
    assert "test_poller.py:" in detail["raises.1"]
    assert not any("s3cr3t" in text for text in detail.values())
    assert "no probe of kind missing" in detail["missing.0"]
    assert "did not come back" in detail["hangs.1"]
    assert "gave no reading" in detail["forgets.0"]


def test_every_probe_of_a_policy_is_asked(scene: Any) -> None:
    """Sites, dependencies, queues, and for each queue its route, intake and backlogs."""
    found = {one.target.key: one for one in all_jobs(scene.policy)}
    assert set(found) == {
        "site.hq.0", "site.hq.1", "site.acme.0", "dependency.los.0", "dependency.vpn.0",
        "queue.calls.route", "queue.loans.intake", "queue.loans.backlog.hq",
        "queue.loans.backlog.acme",
    }
    backlog = found["queue.loans.backlog.acme"]
    assert (backlog.spec.kind, backlog.spec.params["lever"]) == \
        ("backlog", LeverSpec("jobs", "acme"))
    assert (backlog.target.noun, backlog.target.name) == ("queue", "loans")
    assert found["queue.loans.intake"].spec.kind == "route"


@pytest.mark.parametrize(("ago", "due"), [(8.0, False), (9.1, True), (60.0, True), (-5.0, True)])
def test_only_what_is_due_is_asked(scene: Any, ago: float, due: bool) -> None:
    """An interval may be met a little early, cron being unpunctual; a reading from the future
    does not silence a probe."""
    scene.saw("site.hq.0", Outcome.GOOD)
    now = scene.now + int(ago * SECOND)
    found = {one.target.key
             for one in jobs_for(scene.policy, now=now, histories=scene.histories, only_due=True)}
    assert ("site.hq.0" in found) is due
    assert "site.hq.1" in found
    everything = jobs_for(scene.policy, now=now, histories=scene.histories, only_due=False)
    assert len(everything) == 9


def test_a_job_without_a_lever_is_unknown(runtime: SystemRuntime, job: Job) -> None:
    """Somebody else's job does not stop the readings of the rest."""
    found = poll([job("route", "a"), job("route", "b", lever=LEVER)],
                 lambda _: RouteProbe(runtime, view_for=lambda _: Switch(Shares({"hq": 100}))),
                 runtime, 2.0)
    assert [seen.outcome for seen in found] == [Outcome.UNKNOWN, Outcome.GOOD]
    assert replace(found[1], at=0).key == "b"
