"""`execute-due` against a running centre: what it decides anew, and what it never repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ccfailover.errors import StoreError
from ccfailover.operations import runs, upkeep
from ccfailover.operations.desk import Desk
from ccfailover.operations.execute_due import execute_due
from ccfailover.runbooks.run import RunState
from ccfailover.wiring.assemble import assemble
from tests.cli.conftest import World, centre, world

__all__ = ["centre", "world"]


class Tapped:
    """A store that tells of every append before it is made."""

    def __init__(self, inner: Any, tell: Callable[[str], None]) -> None:
        self._inner, self._tell = inner, tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, stream: str, kind: str, *args: Any, **more: Any) -> Any:
        self._tell(kind)
        return self._inner.append(stream, kind, *args, **more)


def desk(world: World, tell: Callable[[str], None] | None = None) -> Desk:
    tap = (lambda store: Tapped(store, tell)) if tell else None
    return assemble(str(world.policy), environ=world.environment,
                    store=tap)  # type: ignore[arg-type]


def dead_home(world: World) -> None:
    world.edit("mode: approve", "mode: automatic")
    world.check_until(lambda said: said.code == 0)
    world.centre.kill("hq")
    world.check_until(lambda said: "full_failover hq" in said.out)


def test_what_a_person_rolled_back_is_not_started_again(world: World) -> None:
    """The process of an automatic run dies in the middle; a person undoes what it did. The same
    trigger, still active, has been answered: nothing starts it a second time."""
    dead_home(world)

    def die(kind: str) -> None:
        if kind == "step.started":
            raise StoreError("the disk is full")

    with pytest.raises(StoreError):
        execute_due(desk(world, die))
    mine = desk(world)
    (run,) = runs.open_runs(mine)
    assert runs.rollback(mine, run.id, reason="not tonight").state is RunState.ROLLED_BACK
    assert execute_due(mine) == []
    assert world.shares() == {"hq": 100}


def test_what_is_switched_off_during_a_run_does_not_follow_it(world: World) -> None:
    """Two decisions are due; a person switches automation off while the first one runs."""
    world.edit("    run: overflow\n    mode: advise", "    run: overflow\n    mode: automatic")
    world.edit("queue.applications.depth > 5000 ||", "queue.applications.depth >= 0 ||")
    world.edit("    hold: 1m", "    hold: 0s")
    world.edit("clear: 'queue.applications.depth < 1000'", "clear: 'queue.applications.depth < 0'")
    world.edit("mode: approve", "mode: automatic")
    world.centre.kill("hq")
    world.check_until(lambda said: "full_failover hq" in said.out and "overflow" in said.out)
    other = desk(world)

    def off(kind: str) -> None:
        if kind == "run.started":
            upkeep.automation_off(other, 3600, "look first")

    done = execute_due(desk(world, off))
    assert [one.decision.trigger for one in done] == ["hq_down"]
