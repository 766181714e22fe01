"""Home again within five minutes: a FIFO queue swallows a repeated id for that long, also when the
message is gone, and the sender is told that all is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ccfailover.model.items import WorkItem
from tests.servers import start
from tests.servers.sqsgate import SqsGate
from tests.unit.transfer.test_mover_sqs import Places, application


@pytest.fixture
def places(require_server: Callable[[str], str]) -> Iterator[Places]:
    with start.roto(require_server("roto-server")) as port, SqsGate(port) as gate:
        made = Places(gate.port, "fifo")
        yield made
        made.store.close()
        made.provider.close()


IDS = Counter({f"A{number:03}": 1 for number in range(25)})


def test_the_fake_swallows_a_repeated_id_of_a_message_that_is_gone(places: Places) -> None:
    """As the service does: success, the old message's id, and nothing in the queue."""
    target = places.provider.backlog(places.levers["acme"])
    item = WorkItem("A001", "m", application(1).encode(), {}, "")
    sent, arrived = [], []
    for _ in range(2):
        sent += target.put([item], keys={"A001": "A001:r1:1"})
        claimed = target.claim(10)
        target.settle([one.handle for one in claimed])
        arrived.append(len(claimed))
    assert all(result.ok for result in sent) and sent[0].target_ref == sent[1].target_ref
    assert arrived == [1, 0]


def test_out_and_home_and_out_again_within_five_minutes(places: Places) -> None:
    """The id of a delivery is item, run and hop: none of three moves is a repetition of another,
    though every queue has had every item before."""
    places.send([application(number) for number in range(25)])
    for run, home in (("r1", False), ("r2", True), ("r3", False)):
        result = places.move(run=run, home=home)
        assert (result.moved, result.complete, result.possible_duplicates) == (25, True, 0)
    assert places.drain("hq") == Counter()
    assert places.drain("acme") == IDS
