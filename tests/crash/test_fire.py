"""A hundred thousand applications in all, a mover that is killed over and over, and nothing lost.

`python tools/fire.py` plays a million of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ccfailover.model.items import ItemState
from ccfailover.transfer.rows import AT_TARGET
from tests.crash.fire import bodies, burn, id_of, mover, ready, side_by_side
from tests.crash.fire_scenes import CLAIM, SQS_WINDOW, Door, RabbitScene, SqsScene, SqsServer
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import Rabbit

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def sqs(require_server: Callable[[str], str], tmp_path: Path) -> Iterator[SqsScene]:
    with closing(SqsScene(require_server("roto-server"), tmp_path, seed=4)) as scene:
        yield scene


def test_sqs_to_sqs(sqs: SqsScene, tmp_path: Path) -> None:
    """Puts fail and are answered late, the server restarts, the mover dies: each application is
    at the target, and what may be there twice is listed."""
    burnt = burn(sqs, tmp_path, items=4_000, kills=5, seed=4)
    assert burnt.broken(sqs) == [] and burnt.kills == 5, burnt.line()


def test_sqs_that_flows(require_server: Callable[[str], str], tmp_path: Path) -> None:
    """As `tools/fire.py` plays more than a queue bears: what arrives is consumed all the while."""
    with closing(SqsScene(require_server("roto-server"), tmp_path, seed=8, flows=True)) as scene:
        burnt = burn(scene, tmp_path, items=3000, kills=3, seed=8)
        assert burnt.broken(scene) == [] and burnt.kills == 3, burnt.line()


def test_rabbitmq_to_postgresql(rabbitmq: Rabbit, postgres: Postgres, tmp_path: Path) -> None:
    """Both servers crash and come back; the table swallows every repetition."""
    with closing(RabbitScene(rabbitmq, postgres, "fire")) as scene:
        burnt = burn(scene, tmp_path, items=90_000, kills=8, seed=5)
        assert burnt.broken(scene) == [] and burnt.kills == 8, burnt.line()


def test_clocks_that_are_hours_off(sqs: SqsScene, tmp_path: Path) -> None:
    """Each process that takes the move up is on a machine whose clock is two hours off, this way
    or that: what may be there twice is listed all the same."""
    burnt = burn(sqs, tmp_path, items=2000, kills=3, seed=6, clocks=(7200, -7200, 0),
                 restart=False)
    assert burnt.broken(sqs) == [], burnt.line()


def test_two_movers_by_mistake(sqs: SqsScene, tmp_path: Path) -> None:
    """Two runs on the same queues at once: nothing is lost, and every double is listed."""
    burnt = side_by_side(sqs, tmp_path, items=3000, seed=7)
    assert set(burnt.count.target) == burnt.wanted, burnt.said
    assert not burnt.count.source, burnt.said
    assert set(burnt.doubles) <= burnt.listed and set(burnt.raw) <= burnt.listed


@pytest.mark.parametrize("dies", ["source", "target"])
def test_a_server_that_dies_for_good(
    require_server: Callable[[str], str], tmp_path: Path, dies: str
) -> None:
    """Whatever is lost with it, each id that was ever seen is accounted for, and the move ends."""
    program, items = require_server("roto-server"), list(bodies(3000, 9))
    servers = {"source": SqsServer(program, tmp_path / "a", "hq"),
               "target": SqsServer(program, tmp_path / "b", "acme")}
    store = None
    try:
        with Door(servers["target"].port, 9) as door:
            servers["source"].fill(items)
            store, config = ready(tmp_path, servers["source"].end(servers["source"].port),
                                  servers["target"].end(door.port))
            process = mover(config)
            try:
                while door.total < 1000 and process.poll() is None:
                    time.sleep(0.01)
                servers[dies].kill()
                said, _ = process.communicate(timeout=120)
            finally:
                process.kill()
                process.wait()
        assert process.returncode == 3, said
        rows = {row.item_id: row for row in store.items()}
        known = set(rows)
        at_target = {name for name, row in rows.items() if row.state in AT_TARGET}
        if dies == "source":
            there = set(servers["target"].there())
            assert at_target <= there <= known, said
            assert len(at_target) >= 900
            # What was claimed and not put can be anywhere but at the target, and says so.
            assert {rows[name].state for name in known - there} <= {ItemState.CLAIMED,
                                                                    ItemState.LEFT}
            assert "hq is out of reach" in said and len(known) < 3000 + SQS_WINDOW
        else:
            time.sleep(CLAIM)
            there = set(servers["source"].there())
            assert there | at_target == {id_of(body) for body in items}
            assert "acme takes no work" in said
            assert not {name for name in there & at_target
                        if not rows[name].possible_duplicate
                        and rows[name].state is ItemState.SETTLED}
    finally:
        if store is not None:
            store.close()
        for server in servers.values():
            server.kill()
