"""A failover that dies at any of its journal's writes, and is rolled back: the route is exactly as
it was found, on every platform of the suite, and not only by its shares.

What is excepted is in the docstrings of the subjects' `raw`, and among the traps of its kind in
docs/providers.md: counts of versions and writes, which platforms keep themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccfailover.model.plan import Branch
from ccfailover.model.policy import Policy
from ccfailover.model.shares import Shares
from ccfailover.runbooks.run import RunState
from ccfailover.store import Store
from tests.conformance.dying import TEXT, Bomb, Stage, policy_for, shifts
from tests.conformance.routes import subject_of
from tests.conformance.subjects import RouteSubject

MOST = 60


class Scene(Stage):
    """One route, in two increments."""

    def __init__(self, subject: RouteSubject, policy: Policy, deadline: float = 5.0,
                 way: tuple[Shares, ...] = ()) -> None:
        self.subject = subject
        self.way = way or (Shares(subject.walk[0]), subject.moved)
        self.found: object = None
        steps = shifts("loan_calls", subject.lever.lever, self.way)
        super().__init__(policy, {subject.lever.provider: subject.provider}, [
            Branch("loan_calls", tuple(replace(step, deadline=deadline) for step in steps))])

    def begin(self) -> tuple[Store, str]:
        """The route as somebody else has set it up."""
        self.subject.as_found()
        self.found = self.subject.raw()
        assert self.subject.route().read().shares == Shares(self.subject.found)
        return super().begin()

    def check_back(self, store: Store, run: str, when: str) -> None:
        assert self.subject.raw() == self.found, when
        assert self.subject.route().read().shares == Shares(self.subject.found), when
        assert self.state(store, run) is RunState.ROLLED_BACK, when


@pytest.fixture
def policy(route_subject: RouteSubject, tmp_path: Path) -> Policy:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    return policy_for(str(path), route_subject.lever)


@pytest.fixture
def scene(route_subject: RouteSubject, policy: Policy) -> Iterator[Scene]:
    yield Scene(route_subject, policy)


def test_dead_at_any_write_then_rolled_back(scene: Scene) -> None:
    """Whatever was set, or may have been set: the snapshot, and nothing else."""
    for point in range(1, MOST):
        store, run = scene.begin()
        if scene.go(store, run, Bomb(point), back=False):
            assert point > 6, "a run of two steps has more points than that"
            assert scene.subject.truth() == scene.way[-1].to_json()
            store.close()
            return
        assert scene.go(store, run, Bomb(None), back=True)
        scene.check_back(store, run, f"dead at {point}")
        assert store.verify() == []
        store.close()
    pytest.fail("a run has more points than MOST: some were not tried")


def test_a_rollback_that_dies_is_rolled_back_again(scene: Scene) -> None:
    """It died behind its last shift; the rollback dies at each of its own writes."""
    for point in range(1, MOST):
        store, run = scene.begin()
        # Begun, two starts, two shifts, one success: dead before the second one is told.
        assert not scene.go(store, run, Bomb(7), back=False)
        assert scene.subject.truth() == scene.way[-1].to_json()
        ended = scene.go(store, run, Bomb(point), back=True)
        if not ended:
            assert scene.go(store, run, Bomb(None), back=True)
        scene.check_back(store, run, f"dead at {point}")
        store.close()
        if ended:
            assert point > 3
            return
    pytest.fail("a rollback has more points than MOST: some were not tried")


def test_a_shift_that_ends_in_its_middle_is_rolled_back(route_subject: RouteSubject,
                                                        policy: Policy) -> None:
    """The mix that it leaves behind is taken for this run's own, and undone to the last number;
    and so is what no share shows (a list that was written and not loaded)."""
    scene = Scene(route_subject, policy, deadline=0.2)
    if route_subject.pieces == 1 and not route_subject.prepares:
        pytest.skip(f"{route_subject.whole}: half of it leaves nothing to undo")
    for number in range(1, route_subject.pieces + 1):
        for back in (False, True):
            store, run = scene.begin()
            if back:
                assert not scene.go(store, run, Bomb(7), back=False)
            route_subject.break_writes(number, route_subject.breaks[0])
            assert scene.go(store, run, Bomb(None), back=back)
            assert scene.state(store, run) is (RunState.STUCK if back else RunState.PAUSED)
            route_subject.mend()
            assert scene.go(store, run, Bomb(None), back=True)
            scene.check_back(store, run, f"write {number} of the way {'back' if back else 'there'}")
            store.close()


class Drained(Scene):
    """One site has all; the others are off, as a shift leaves them."""

    def begin(self) -> tuple[Store, str]:
        self.subject.elsewhere({"hq": 100})
        return Stage.begin(self)


@pytest.mark.parametrize("kind", [Scene, Drained])
def test_a_shift_that_ends_in_its_middle_is_resumed(route_subject: RouteSubject, policy: Policy,
                                                    kind: type[Scene]) -> None:
    """What the half did is not taken for somebody else's: in the end the platform stands, to the
    last number, as after a run in which nothing happened."""
    scene = kind(route_subject, policy, deadline=0.2)
    if route_subject.pieces == 1 and not route_subject.prepares:
        pytest.skip(f"{route_subject.whole}: half of it leaves nothing to go on from")
    store, run = scene.begin()
    assert scene.go(store, run, Bomb(None), back=False)
    undisturbed = route_subject.raw()
    store.close()
    for number in range(1, route_subject.pieces + 1):
        store, run = scene.begin()
        route_subject.break_writes(number, route_subject.breaks[0])
        assert scene.go(store, run, Bomb(None), back=False)
        assert scene.state(store, run) is RunState.PAUSED
        route_subject.mend()
        assert scene.go(store, run, Bomb(None), back=False)
        assert scene.state(store, run) is RunState.SUCCEEDED
        assert route_subject.raw() == undisturbed, f"write {number}"
        store.close()


def test_half_that_has_the_shares_already_is_resumed(request: pytest.FixtureRequest,
                                                     tmp_path: Path) -> None:
    """One drained server of three is in, and has the whole 1 %: the others come, too."""
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    with subject_of(request, "haproxy.wide") as subject:
        scene = Drained(subject, policy_for(str(path), subject.lever), deadline=0.2,
                        way=(Shares({"hq": 99, "acme": 1}), Shares({"acme": 100})))
        store, run = scene.begin()
        assert scene.go(store, run, Bomb(None), back=False)
        undisturbed = subject.raw()
        store.close()
        store, run = scene.begin()
        subject.meet_write("half")
        subject.break_writes(1, "hang")
        assert scene.go(store, run, Bomb(None), back=False)
        assert scene.state(store, run) is RunState.PAUSED
        assert subject.route().read().shares == scene.way[0]
        subject.mend()
        assert scene.go(store, run, Bomb(None), back=False)
        assert subject.raw() == undisturbed
        store.close()


def test_what_cannot_be_brought_back_is_told(request: pytest.FixtureRequest,
                                             tmp_path: Path) -> None:
    """Somebody took a server into maintenance since, which a route that drains leaves alone: the
    rollback comes to its end, and says that not all is as it was found."""
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    with subject_of(request, "haproxy.wide") as subject:
        scene = Scene(subject, policy_for(str(path), subject.lever))
        store, run = scene.begin()
        assert not scene.go(store, run, Bomb(7), back=False)
        request.getfixturevalue("haproxy").ask(f"set server {subject.ref}/acme2 state maint")
        assert scene.go(store, run, Bomb(None), back=True)
        assert scene.state(store, run) is RunState.ROLLED_BACK
        assert subject.route().read().shares == Shares(subject.found)
        told = [record.data["exceptions"] for record in store.read(f"run:{run}")
                if record.kind == "undo.succeeded" and record.data.get("exceptions")]
        assert told and "not with the weights and settings that were found there" in str(told[0])
        store.close()
