"""Moves of applications that must not be called done, or made, when they are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccfailover.errors import Refused, Rejected, Unavailable
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.plan import Mode, StepSpec
from ccfailover.model.policy import LeverSpec
from ccfailover.runbooks.step import Binding, StepContext, Truth
from ccfailover.runbooks.steps.transfer import Transfer
from tests.unit.transfer.world import QUEUE, Fate, World, queue, site


@pytest.fixture
def world() -> Iterator[World]:
    made = World(batch=10, window=300.0)
    yield made
    made.close()


def step(world: World, *, states: Mapping[str, str] | None = None, percent: int | None = None,
         policy: object = None, run: str = "r1", able: Mapping[str, object] | None = None,
         **params: object) -> Transfer:
    """The real step over the small world; `states` are the sites' (else healthy), `able` by site
    what it can do beside."""
    levers = {name: LeverSpec(provider=name, ref="q", params={}) for name in ("hq", "acme")}
    there = {"hq": world.hq, "acme": world.acme}

    def backlog(lever: LeverSpec) -> object:
        return there[lever.provider]

    known = policy or SimpleNamespace(queues={QUEUE: queue(backlogs=levers)},
                                      sites={name: site(name) for name in there})
    context: Any = SimpleNamespace(
        run=run, key=f"{run}/move", mode=Mode.REAL, policy=known, store=world.store,
        lease=None, fan_out=None,
        levers=SimpleNamespace(backlog=backlog, backlog_view=backlog,
                               capabilities=lambda lever: replace(
                                   there[lever.provider].capabilities,
                                   **cast(dict[str, Any], (able or {}).get(lever.provider, {})))),
        runtime=world.runtime, stop=lambda: False, progress=lambda *said: None,
        check_fence=lambda: None, site_state=lambda name: (states or {}).get(name, "healthy"))
    return Transfer(StepSpec(
        id="move", kind="transfer", title="move", timeout=20.0, deadline=3600.0,
        params={"queue": QUEUE, "source": "hq", "target": "acme", "percent": percent,
                "rate": None, **cast(dict[str, Any], params)}), cast(StepContext, context))


@pytest.mark.parametrize("fate", ["transient", "permanent"])
def test_a_target_that_takes_nothing_is_no_success(world: World, fate: str) -> None:
    """Every put refused: the step does not hold, however few the items are."""
    for number in range(15):
        world.hq.add(f"a{number}")
        world.acme.refuse[f"a{number}"] = [fate] * 50
    move = step(world)
    snapshot = move.snapshot()
    assert move.apply(snapshot)
    seen = move.holds(snapshot)
    assert (seen.truth, seen.final) == (Truth.NO, True)
    assert "acme took 0 and refused 15" in seen.detail
    assert len(world.hq.ids()) == 15


def test_some_refused_items_are_an_exception(world: World) -> None:
    """What the target would not take is told, never silently left behind."""
    for number in range(5):
        world.hq.add(f"a{number}")
    world.acme.refuse["a2"] = ["permanent"] * 50
    move = step(world)
    snapshot = move.snapshot()
    assert move.apply(snapshot)
    seen = move.holds(snapshot)
    assert seen.truth is Truth.YES
    assert seen.exceptions == ("1 stay at hq: acme did not take them",)


def test_no_application_goes_to_a_dead_site(world: World) -> None:
    """A receiver that went down after the plan was made gets nothing."""
    world.hq.add("a0")
    move = step(world, states={"acme": "down"})
    with pytest.raises(Refused) as refused:
        move.apply(move.snapshot())
    assert refused.value.guard == "dead_site"
    assert world.hq.ids() == ["a0"] and not world.acme.ids()


def test_a_part_of_an_unknown_number_is_not_all_of_it(world: World) -> None:
    """An overflow whose backlog cannot be counted does not begin; it never moves everything."""
    for number in range(10):
        world.hq.add(f"a{number}")
    world.hq.dead = True
    move = step(world, percent=20)
    with pytest.raises(Unavailable):
        move.snapshot()
    world.hq.dead = False
    again = step(world, percent=20)
    assert again.apply(again.snapshot())
    assert len(world.acme.ids()) == 2


def test_a_queue_or_site_gone_from_the_policy_is_said(world: World) -> None:
    """A policy that changed under a paused run ends in a sentence, not in a KeyError."""
    gone = SimpleNamespace(queues={}, sites={})
    with pytest.raises(Rejected, match="no queue applications any more"):
        step(world, policy=gone).holds({})
    levers = {name: LeverSpec(provider=name, ref="q", params={}) for name in ("hq", "acme")}
    gone = SimpleNamespace(queues={QUEUE: queue(backlogs=levers)}, sites={})
    with pytest.raises(Rejected, match="no site acme any more"):
        step(world, policy=gone).apply({})


def test_what_a_superseded_run_left_in_doubt_is_listed() -> None:
    """Killed anywhere in r1, then moved by r2 (which knows not whether r1's put landed): what
    the target has twice is listed as a possible duplicate."""
    struck = 0
    for at in range(40):
        for after in (False, True):
            world = World(window=300.0)
            for name in ("a0", "a1", "a2"):
                world.hq.add(name)
            if not world.survives(Fate(at, after=after)):
                world.runtime.sleep(45)
                world.move(run="r2")
                twice = {name for name, count in Counter(world.acme.ids()).items() if count > 1}
                assert twice <= world.listed(), (at, after)
                assert set(world.acme.ids()) == {"a0", "a1", "a2"}
                struck += bool(twice)
            world.close()
    assert struck, "the test itself must meet the case"


PUT_ONLY = {"claims": False}


def test_what_gives_nothing_back_is_left_there_and_said(world: World) -> None:
    """A failback from such a receiver is a step that moves nothing and says what stays."""
    for number in range(3):
        world.acme.add(f"a{number}")
    levers = {name: LeverSpec(provider=name, ref="q", params={}) for name in ("hq", "acme")}
    able = {"hq": Capabilities(), "acme": Capabilities(claims=False)}
    binding = Binding(
        policy=cast(Any, None), runbook="failback", subject="hq", mode=Mode.REAL,
        queue=queue(backlogs=levers), before=None, after=None, moves=[("acme", "hq")],
        capabilities=lambda lever: able[lever.provider], params={})
    [spec] = Transfer.bind(binding)
    assert "gives nothing back" in spec.title
    made = step(world, able={"acme": PUT_ONLY}, source="acme", target="hq", stays=True)
    assert made.moves({}) == ()
    seen = made.holds({})
    assert seen.truth is Truth.YES
    assert seen.exceptions == ("3 stay at acme to their end: it gives nothing back",)
    assert made.undo_holds({}).truth is Truth.YES
    world.acme.messages.clear()
    assert made.holds({}).exceptions == ()
    world.acme.dead = True
    assert "cannot be told" in made.holds({}).exceptions[0]


def test_undo_of_a_move_to_one_that_gives_nothing_back_says_what_stays(world: World) -> None:
    """Nothing is tried that cannot work, and the run ends with what a person must follow."""
    for number in range(4):
        world.hq.add(f"a{number}")
    move = step(world, able={"acme": PUT_ONLY})
    snapshot = move.snapshot()
    assert move.apply(snapshot)
    seen = move.undo_holds(snapshot)
    assert seen.truth is Truth.YES
    assert "4 stay at acme to their end" in seen.exceptions[0]
    assert len(world.acme.ids()) == 4 and not world.hq.ids()


@pytest.mark.parametrize(("able", "words"), [
    ({"hq": PUT_ONLY}, "takes work in and gives none back"),
    ({"hq": {"assignee": "hq"}}, "would be worked at both"),
    ({"acme": {"assignee": "acme"}}, "would be worked at both"),
    ({"hq": {"assignee": "hq"}, "acme": {"assignee": "acme"}}, "would be worked at both"),
])
def test_sides_that_do_not_go_together_are_refused_before_a_claim(
        world: World, able: Mapping[str, Mapping[str, object]], words: str) -> None:
    """Whatever let the policy through: nothing is claimed."""
    world.hq.add("a0")
    move = step(world, able=able)
    with pytest.raises(Rejected, match=words) as caught:
        move.apply(move.snapshot())
    assert caught.value.not_done == "nothing was claimed"
    assert not world.hq.claims
