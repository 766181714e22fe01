"""Five thousand applications of the regulator's form under the example policy: exactly those that
may go have gone, the others are where they were, with the reasons counted; and moving again changes
nothing. `CCF_REAL_HMDA=/path/to/file.csv` has it done with a real register."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ccfailover.model.policy import LeverSpec, Policy, ProviderSpec
from ccfailover.policy.load import load
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.simulation.applications import generate, read_csv
from ccfailover.store import open_store
from ccfailover.transfer.eligibility import CelEligibility
from ccfailover.transfer.mover import Mover, MoveResult
from ccfailover.wiring.assemble import with_item_settings
from ccfailover.wiring.kinds import Schemas
from tests.servers import start

ROOT = Path(__file__).resolve().parent.parent.parent.parent
COUNT = 5000
THEN = int(datetime(2018, 12, 31, 12, tzinfo=UTC).timestamp()) * SECOND
"""These are closed records of 2018: by today's clock each of them would be years too late."""


class In2018(SystemRuntime):
    def now(self) -> int:
        return THEN + int(self.monotonic() * SECOND)


def register() -> list[dict[str, str]]:
    real = os.environ.get("CCF_REAL_HMDA")
    rows = list(read_csv(Path(real))) if real else list(generate(COUNT, seed=18, year=2018))
    assert len(rows) == COUNT
    return rows


def item(row: dict[str, str]) -> bytes:
    """As the lender's system would write it: the register knows no stage and no lock."""
    return json.dumps({**row, "amount": row["loan_amount"], "stage": "underwriting",
                       "in_hand": "no"}).encode()


def expected(row: dict[str, str], policy: Policy) -> str | None:
    """The example policy's rule in plain Python: None when it may go, else a word of why not."""
    licences = policy.sites["acme"].licences or {}
    if row["state"] not in licences:
        return "licence"
    try:
        amount = float(row["loan_amount"])
    except ValueError:
        return "unknown"
    return None if amount <= 50_000 else "not eligible"


@pytest.fixture
def port(require_server: Any) -> Iterator[int]:
    with start.roto(require_server("roto-server")) as found:
        yield found


@pytest.mark.slow
def test_exactly_the_eligible_ones_move(port: int, tmp_path: Path) -> None:
    runtime = In2018()
    policy = with_item_settings(load(
        ROOT / "policies" / "consumer_loans.yaml", Schemas(), now=THEN, environ={}))
    queue = policy.queues["applications"]
    provider = SqsProvider(
        ProviderSpec("jobs", "sqs", {
            "region": "us-east-1", "endpoint_url": f"http://127.0.0.1:{port}",
            "credentials": {"key_id": "env:A", "secret": "env:B"}}),
        resolve={"env:A": "x", "env:B": "y"}.__getitem__, runtime=runtime)
    boto = boto_client(port)
    boto.create_queue(QueueName="applications-hq")
    boto.create_queue(QueueName="applications-acme.fifo", Attributes={"FifoQueue": "true"})
    rows = register()
    url = boto.get_queue_url(QueueName="applications-hq")["QueueUrl"]
    for begin in range(0, COUNT, 10):
        boto.send_message_batch(QueueUrl=url, Entries=[
            {"Id": str(index), "MessageBody": item(row).decode()}
            for index, row in enumerate(rows[begin:begin + 10])])
    source, target = (lever(queue.backlogs[site]) for site in ("hq", "acme"))
    store = open_store(str(tmp_path / "store.db"), runtime)

    def move(run: str) -> MoveResult:
        return Mover(
            provider.backlog(source), provider.backlog(target), store=store, lease=None, run=run,
            step="applications/1-transfer-hq-acme", queue=queue, source_site="hq",
            target_site=policy.sites["acme"], runtime=runtime,
            eligibility=CelEligibility(queue, policy.sites["acme"], runtime),
            target_capabilities=provider.capabilities({}, {"ref": target.ref}),
        ).run(runtime.monotonic() + 600)

    why = {row["uli"]: expected(row, policy) for row in rows}
    may = {name for name, reason in why.items() if reason is None}
    stay = Counter(reason for reason in why.values() if reason is not None)
    undated = {row["uli"] for row in rows if not row["application_date"].isdigit()}
    first = move("r1")
    assert 0 < len(may) < COUNT and undated
    assert (first.moved, first.complete, first.possible_duplicates) == (len(may), True, 0)
    assert first.undated == len(may & undated)
    told = {"licence": sum(count for words, count in first.left.items() if "licence" in words),
            "unknown": sum(count for words, count in first.left.items() if "unknown" in words),
            "not eligible": first.left.get("not eligible under the policy", 0)}
    assert {name: count for name, count in told.items() if count} == stay
    assert sum(first.left.values()) == COUNT - len(may) and not first.quarantined
    for run in ("r2", "r3"):
        again = move(run)
        assert (again.moved, again.left, again.complete) == (0, first.left, True)
    assert {row.item_id for row in store.items(run="r1") if row.state.value == "settled"} == may
    here = provider.backlog(source).measure()
    there = provider.backlog(target).measure()
    assert (here.visible, here.hidden) == (COUNT - len(may), 0)
    assert (there.visible, there.hidden) == (len(may), 0)
    store.close()
    provider.close()


def lever(found: LeverSpec) -> LeverSpec:
    return replace(found, provider="jobs", params={**found.params, "poll_seconds": 0})


def boto_client(port: int) -> Any:
    import boto3

    return boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                        aws_access_key_id="x", aws_secret_access_key="y")
