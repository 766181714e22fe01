"""A failover of more than one lever dies at any write, and is rolled back: every lever is exactly
as it was found. Levers that replace each other and that multiply, one lever for two queues, and an
announcement beside a route; on real servers, or fakes held to the published model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ccfailover.model.plan import Branch, StepSpec
from ccfailover.model.policy import LeverSpec, Policy, Several
from ccfailover.model.shares import Shares
from ccfailover.providers import Provider
from ccfailover.runbooks.run import RunState
from tests.conformance.dying import TEXT, Bomb, Stage, policy_for, shifts
from tests.conformance.routes import subject_of
from tests.conformance.subjects import RouteSubject
from tests.conformance.subjects_aws import FlowSubject

MOST = 60
HALF, ACME = Shares({"hq": 50, "acme": 50}), Shares({"acme": 100})


@dataclass(frozen=True)
class Scene:
    """`as_found` sets all levers up, `raw` is all that their platforms have; `goal` holds when the
    run came to its end, and not before it began."""

    stage: Stage
    as_found: Callable[[], None]
    raw: Callable[[], object]
    goal: Callable[[], bool]


Hand = Callable[[str], RouteSubject]
Load = Callable[..., Policy]


def both(hand: Hand, load: Load, combine: str, names: Sequence[str], *, rest: Mapping[str, int],
         dark: bool = False) -> Scene:
    """Two levers that act as one; `dark`: the first one cannot be reached."""
    subjects = [hand(name) for name in names]
    levers = [replace(subject.lever, provider=f"p{at}") for at, subject in enumerate(subjects)]
    providers: dict[str, Provider] = {
        lever.provider: subject.provider
        for lever, subject in zip(levers, subjects, strict=True)}
    if dark:
        providers["p0"] = subjects[0].make(port=0)
    several = Several(combine=combine, parts=tuple(levers), rest=Shares(rest), through="hq",
                      split=levers[0].lever)
    whole = LeverSpec("several", "", several=several)

    def goal() -> bool:
        carries = subjects[1] if dark else subjects[0]
        return list(carries.takes()) == [*ACME]

    return Scene(
        Stage(load(whole), providers, [
            Branch("loan_calls", tuple(shifts("loan_calls", whole.lever, (HALF, ACME))))]),
        lambda: [subject.as_found() for subject in subjects] and None,
        lambda: [subject.raw() for subject in subjects], goal)


def edge_first(hand: Hand, load: Load) -> Scene:
    """The edge carries, names are a fall-back at rest."""
    return both(hand, load, "replace", ("kamailio.split", "dns.srv"), rest={"hq": 70, "acme": 30})


def edge_is_dark(hand: Hand, load: Load) -> Scene:
    """The fall-back takes over, and is brought back to its rest."""
    return both(hand, load, "replace", ("kamailio.split", "dns.srv"), rest={"hq": 70, "acme": 30},
                dark=True)


def names_then_edge(hand: Hand, load: Load) -> Scene:
    """Names split, what they send to hq passes the edge; all to acme moves both."""
    return both(hand, load, "multiply", ("dns.srv", "kamailio.split"), rest={"hq": 100})


def one_for_two(hand: Hand, load: Load) -> Scene:
    """The steps of one queue set the lever for both; the other queue waits for them."""
    subject = hand("haproxy.unix")
    lever = subject.lever.lever
    led = StepSpec(id="card_calls/1-shift_route", kind="shift_route", lever=lever, poll=0.05,
                   deadline=5.0, title="card_calls as loan_calls",
                   params={"queue": "card_calls", "to": ACME.to_json(), "led_by": "loan_calls"})
    return Scene(
        Stage(load(subject.lever, subject.lever), {"edge": subject.provider}, [
            Branch("loan_calls", tuple(shifts("loan_calls", lever, (HALF, ACME),
                                              carries=["card_calls"]))),
            Branch("card_calls", (led,))]),
        subject.as_found, subject.raw, lambda: list(subject.takes()) == [*ACME])


def announced(hand: Hand, load: Load) -> Scene:
    """Callers hear of it, and are moved. Another number is the announcement's."""
    subject = hand("connect.contact_flow")
    assert isinstance(subject, FlowSubject)
    fake, normal, storm = subject.fake, subject.flows["hq"], subject.flows["message"]
    number = "99990000-0000-4000-8000-000000000001"
    lever = LeverSpec("edge", number, {"lever": "announcement", "normal": normal,
                                       "announcements": {"storm": storm}})
    policy = load(subject.lever)
    queue = replace(policy.queues["loan_calls"], announcement=lever, emergency="storm")
    say = StepSpec(id="loan_calls/0-announce", kind="announce", lever=lever.lever, poll=0.05,
                   deadline=5.0, title="callers hear the storm",
                   params={"queue": "loan_calls", "say": "storm"})

    def as_found() -> None:
        subject.as_found()
        fake.numbers[number] = normal

    return Scene(
        Stage(replace(policy, queues={"loan_calls": queue}), {"edge": subject.provider}, [
            Branch("loan_calls", (say, *shifts("loan_calls", subject.lever.lever, (ACME,))))]),
        as_found, lambda: (subject.raw(), fake.numbers[number]),
        lambda: list(subject.takes()) == [*ACME] and fake.numbers[number] == storm)


SCENES = (edge_first, edge_is_dark, names_then_edge, one_for_two, announced)


@pytest.fixture(params=SCENES, ids=lambda make: make.__name__)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    with ExitStack() as stack:
        yield request.param(
            lambda name: stack.enter_context(subject_of(request, name)),
            lambda *levers: policy_for(str(path), *levers))


def test_dead_at_any_write_then_rolled_back(scene: Scene) -> None:
    """Whatever of it was set, or may have been set, on whichever lever."""
    for point in range(1, MOST):
        scene.as_found()
        found = scene.raw()
        assert not scene.goal()
        store, run = scene.stage.begin()
        if scene.stage.go(store, run, Bomb(point), back=False):
            assert point > 6, "a run of so many steps has more points than that"
            assert scene.goal()
            store.close()
            return
        assert scene.stage.go(store, run, Bomb(None), back=True)
        assert scene.raw() == found, f"dead at {point}"
        assert scene.stage.state(store, run) is RunState.ROLLED_BACK, f"dead at {point}"
        assert store.verify() == []
        store.close()
    pytest.fail("a run has more points than MOST: some were not tried")


def test_a_rollback_that_dies_is_rolled_back_again(scene: Scene) -> None:
    """It had moved every lever; the rollback dies at each of its own writes."""
    scene.as_found()
    store, run = scene.stage.begin()
    whole = Bomb(None)
    assert scene.stage.go(store, run, whole, back=False)
    store.close()
    for point in range(1, MOST):
        scene.as_found()
        found = scene.raw()
        store, run = scene.stage.begin()
        assert not scene.stage.go(store, run, Bomb(whole.count), back=False)
        assert scene.goal()
        ended = scene.stage.go(store, run, Bomb(point), back=True)
        if not ended:
            assert scene.stage.go(store, run, Bomb(None), back=True)
        assert scene.raw() == found, f"dead at {point}"
        assert scene.stage.state(store, run) is RunState.ROLLED_BACK, f"dead at {point}"
        store.close()
        if ended:
            assert point > 3
            return
    pytest.fail("a rollback has more points than MOST: some were not tried")
