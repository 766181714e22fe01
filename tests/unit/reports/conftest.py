"""Real runs on real servers, made once: a drill, a failover, a run with a skip, a rollback."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import yaml

from ccfailover.model.plan import Mode
from ccfailover.operations import prepare, runs
from ccfailover.operations.desk import Desk
from ccfailover.runbooks.plan import Request
from ccfailover.simulation.local import CentreSettings, LocalCentre
from ccfailover.wiring.assemble import assemble

HOSTILE = "<script>alert('x')</script> \"&\" \x1b[31mred\x1b[0m \u202eemoc evil"
"""Markup, a terminal's escape sequence, and a sign that turns the line around."""

ELIGIBLE = tuple(f"OK{number:02}" for number in range(12))
HOSTILE_ID = "OK<b>&13"


@dataclass
class Told:
    """The desk, the centre, and the runs by what they are."""

    centre: LocalCentre
    desk: Desk
    policy: Path
    drill: str = ""
    failover: str = ""
    skipped: str = ""
    rolled_back: str = ""

    def begin(self, runbook: str, **more: object) -> runs.RunOutcome:
        request = Request(runbook=runbook, subject="hq", reason=HOSTILE, **more)  # type: ignore[arg-type]
        confirmed = None if runbook == "failback" else "by a test"
        return runs.start(self.desk, prepare.prepare(self.desk, request), confirmed=confirmed)


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("reports")
    settings = CentreSettings(contacts_per_second=0.0, consumers="closed")
    with LocalCentre(folder / "centre", settings) as centre:
        policy = _policy(centre, folder)
        _fill(centre, folder)
        made = Told(centre, assemble(str(policy), environ=centre.environment({})), policy)
        made.drill = made.begin("full_failover", mode=Mode.SHADOW).run.id
        made.failover = made.begin("full_failover").run.id
        runs_after(made)
        yield made
        made.desk.store.close()


def runs_after(made: Told) -> None:
    """Two runs that nobody confirmed: one is rolled back, of the other the step is skipped."""
    desk = made.desk
    first = made.begin("failback").run
    made.rolled_back = runs.rollback(desk, first.id, reason=HOSTILE).run.id
    second = made.begin("failback").run
    runs.note(desk, second.id, HOSTILE)
    runs.skip(desk, second.id, step=None, reason=HOSTILE)
    made.skipped = runs.resume(desk, second.id).run.id


def _policy(centre: LocalCentre, folder: Path) -> Path:
    policy = yaml.safe_load(centre.policy_text(store=folder / "store.db"))
    policy["probe_defaults"] |= {"fall": 1, "rise": 1}
    policy["queues"]["loan_calls"]["shift"] = {"increments": [50, 100], "soak": "0s"}
    branch = ["redirect_intake", "shift_route", "transfer", {"verify": {"interval": 0.02}}]
    policy["runbooks"] = {
        "full_failover": {"before": ["confirm"], "branch": branch},
        "failback": {"before": ["confirm"], "branch": branch},
    }
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(policy))
    return path


def _fill(centre: LocalCentre, folder: Path) -> None:
    sqs = boto3.client(
        "sqs", endpoint_url=centre.url(centre.queue_server("hq")), region_name="us-east-1",
        aws_access_key_id=(folder / "centre" / "sqs.key_id").read_text().strip(),
        aws_secret_access_key=(folder / "centre" / "sqs.secret").read_text().strip())
    bodies = [json.dumps({"uli": uli, "application_date": "20180601", "state": state})
              for uli, state in [*((uli, "TX") for uli in (*ELIGIBLE, HOSTILE_ID)),
                                 ("NO01", "AK"), ("NO02", "AK")]]
    for body in (*bodies, "this is no JSON"):
        sqs.send_message(QueueUrl=centre.queue_url("hq"), MessageBody=body)
    deadline = time.monotonic() + 5
    while sum(centre.depth("hq")) < len(bodies) + 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
