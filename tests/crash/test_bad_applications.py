"""What stands in a real queue: malformed, doubled, oversized, ineligible. Totals still add up."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import boto3
import pytest
import yaml
from crash_world import CrashWorld, Trial

from ccfailover.model.items import ItemState
from ccfailover.operations.run_list import load

pytestmark = [pytest.mark.server("roto-server")]

LARGEST = 2_000
"""Bytes: the policy's `max_item_bytes` here, so that an oversized item is a small file."""


def body(**fields: Any) -> str:
    return json.dumps({"application_date": "20180601", "state": "TX", **fields})


MALFORMED = {
    "not JSON": "%PDF-1.4 scanned by hand",
    "cut off": '{"uli": "CUT01", "state": "T',
    "a list": "[1, 2, 3]",
    "no id": body(state="TX"),
    "an empty id": body(uli=""),
    "a list for an id": body(uli=[17]),
    "deep": "[" * 1_000 + "]" * 1_000,
}
OVERSIZED = body(uli="BIG01", notes="x" * LARGEST)
INELIGIBLE = {
    "AK01": body(uli="AK01", state="AK"),
    "NOSTATE": json.dumps({"uli": "NOSTATE", "application_date": "20180601"}),
    "NASTATE": body(uli="NASTATE", state="NA"),
    "NULLSTATE": body(uli="NULLSTATE", state=None),
}
DOUBLED = body(uli="TWICE")


@pytest.fixture
def trial(crash_world: CrashWorld) -> Trial:
    found = crash_world.trial()
    policy = yaml.safe_load(found.policy.read_text())
    policy["queues"]["applications"]["max_item_bytes"] = LARGEST
    found.policy.write_text(yaml.safe_dump(policy))
    for text in (*MALFORMED.values(), OVERSIZED, *INELIGIBLE.values(), DOUBLED, DOUBLED):
        send(crash_world, found.hq, text)
    return found


def client(world: CrashWorld) -> Any:
    return boto3.client("sqs", endpoint_url=world.centre.url(world.centre.queue_server("hq")),
                        region_name="us-east-1",
                        aws_access_key_id=(world.folder / "centre" / "sqs.key_id").read_text(),
                        aws_secret_access_key=(world.folder / "centre" / "sqs.secret").read_text())


def send(world: CrashWorld, url: str, text: str) -> None:
    client(world).send_message(QueueUrl=url, MessageBody=text)


def bodies(world: CrashWorld, url: str) -> list[str]:
    """Every body in the queue, hidden ones included, read with the lender's own client."""
    sqs, found = client(world), []
    while True:
        got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in got:
            found.append(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[
            "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"])["Attributes"]
        if not got and not any(int(value) for value in counts.values()):
            return found


def test_each_with_its_reason_and_nothing_lost(trial: Trial) -> None:
    """Quarantined, delivered once, or left where it is, each with a reason; nothing vanishes."""
    world = trial.world
    sent = Counter([*MALFORMED.values(), OVERSIZED, *INELIGIBLE.values(), DOUBLED, DOUBLED])
    code = trial.start("full_failover")
    assert code == 11, f"items in quarantine are an exception: {code} {trial.errors()}"
    desk = trial.desk()
    run = load(desk, None if desk.store.open_run_ids() else desk.store.run_ids()[-1])
    told = " ".join(run.exceptions())
    assert f"{len(MALFORMED) + 1} quarantined at hq" in told, told

    rows = {row.item_id: row for row in desk.store.items(queue="applications")}
    quarantined = [row for row in rows.values() if row.state is ItemState.QUARANTINED]
    left = {row.item_id: row.reason for row in rows.values() if row.state is ItemState.LEFT}
    assert len(quarantined) == len(MALFORMED) + 1
    assert all(row.reason for row in quarantined)
    assert any(str(LARGEST) in row.reason for row in quarantined), "the size is named"
    assert set(left) == {*INELIGIBLE, *Trial.INELIGIBLE} and all(left.values())

    secret = [row for row in rows.values() if "scanned" in row.reason or "xxx" in row.reason]
    assert secret == [], "what an application says is nobody's business here"

    at_acme, at_hq = bodies(world, trial.acme), bodies(world, trial.hq)
    ids = Counter(json.loads(text)["uli"] for text in at_acme)
    assert set(ids) == {*Trial.ELIGIBLE, "TWICE"}
    assert all(ids[name] == 1 for name in Trial.ELIGIBLE)
    # The same application twice in the queue: delivered once. Either its copy was deleted as one
    # that acme owns, or it still stands at hq; it is never at acme twice.
    assert ids["TWICE"] == 1
    here = Counter(at_hq)
    for text in (*MALFORMED.values(), OVERSIZED, *INELIGIBLE.values()):
        assert here[text] == 1, f"left exactly as it was: {text[:40]}"
    everything = len(at_acme) + len(at_hq)
    collapsed = sum(step.data.get("duplicates_collapsed", 0) or 0 for step in run.steps.values())
    whole = sum(sent.values()) + len(Trial.ELIGIBLE) + len(Trial.INELIGIBLE)
    assert everything + collapsed == whole, (everything, collapsed, whole)


def test_totals_add_up_in_the_report(trial: Trial) -> None:
    """The run's own figures: what was there equals moved, left, quarantined and collapsed."""
    assert trial.start("full_failover") == 11, trial.errors()
    desk = trial.desk()
    run = load(desk, desk.store.run_ids()[-1])
    move = next(step for step in run.steps.values() if step.spec.kind == "transfer")
    there = move.snapshot["source"]["visible"] + move.snapshot["source"]["hidden"]
    data = move.data
    counted = (data["moved"] + sum(data["left"].values()) + data["quarantined"]
               + data["duplicates_collapsed"] + data["in_doubt"])
    assert counted == there, (dict(data), there)
    assert data["in_doubt"] == 0 and data["possible_duplicates"] == 0
