"""A shadow drill reads the real sites and cannot write: by construction, and by what they saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from crash_world import CrashWorld, Trial

from ccfailover.errors import Refused
from ccfailover.model.plan import Mode
from ccfailover.operations.run_list import load
from ccfailover.providers import Backlog, Gate, Route

pytestmark = [pytest.mark.server("roto-server")]

WRITES = {"shift", "set_open", "claim", "extend", "settle", "put"}


class Rehearsed(Trial):
    """A trial that knows how its hq is."""

    state = "healthy"


@pytest.fixture(params=["healthy", "down"])
def trial(crash_world: CrashWorld, request: pytest.FixtureRequest) -> Iterator[Rehearsed]:
    """A trial whose hq is healthy, or down: its probe is a plugin that says so."""
    made = crash_world.trial()
    found = Rehearsed(made.world, made.policy, made.hq, made.acme)
    found.state = request.param
    policy = yaml.safe_load(found.policy.read_text())
    end = "0" if request.param == "healthy" else "2"
    policy["sites"]["hq"]["probes"] = [
        {"kind": "command", "argv": ["/bin/sh", "-c", f"exit {end}"], "observer": observer}
        for observer in ("one", "two")]
    found.policy.write_text(yaml.safe_dump(policy))
    yield found


def cli(trial: Rehearsed, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**trial.world.environ, "CCFAILOVER_POLICY": str(trial.policy),
               "PATH": os.environ.get("PATH", os.defpath), "HOME": str(trial.policy.parent)}
    return subprocess.run([sys.executable, "-m", "ccfailover", *arguments], env=environ,
                          capture_output=True, text=True, timeout=50,
                          stdin=subprocess.DEVNULL, check=False)


def versions(trial: Rehearsed) -> dict[str, Any]:
    centre = trial.world.centre
    return {route: centre.get("switch", f"/routes/{route}")["version"]
            for route in ("loan_calls", "applications")}


@pytest.mark.parametrize("verb", ["failover", "failback"])
def test_nothing_outside_notices_a_drill(trial: Rehearsed, verb: str) -> None:
    """Levers at the same version, gate as it was, no application ever received; a journal and a
    report stamped DRILL are left."""
    before, gate = versions(trial), trial.world.centre.get("hq", "/consumers")
    done = cli(trial, "drill", verb, "hq", "--reason", "Q4", "--json")
    if verb == "failback" and trial.state == "down":
        assert done.returncode == 4 and "hq is down" in done.stderr, "guards hold in a drill, too"
        assert trial.desk().store.run_ids() == []
    else:
        assert done.returncode == 0, done.stderr
        stamped(trial, json.loads(done.stdout))
    assert versions(trial) == before
    assert trial.world.centre.get("hq", "/consumers") == gate
    assert received(trial) == {1}, "an application had been claimed before we looked"


def stamped(trial: Rehearsed, facts: dict[str, Any]) -> None:
    assert facts["drill"] is True and facts["mode"] == "shadow"
    desk = trial.desk()
    run = load(desk, facts["run"])
    assert {step.status.value for step in run.steps.values()} == {"rehearsed"}
    kinds = {record.kind for record in desk.store.read(f"run:{run.id}")}
    assert not {kind for kind in kinds if kind.startswith(("step.started", "undo"))}
    created, = (r for r in desk.store.read("runs") if r.kind == "run.created")
    assert created.data["mode"] == "shadow"
    assert "DRILL" in cli(trial, "report", run.id).stdout
    assert desk.store.verify() == [] and desk.store.leases() == []


def received(trial: Rehearsed) -> set[int]:
    """How often each waiting application has been received, our own look included."""
    got, counts = True, set()
    while got:
        got = trial.world._sqs.receive_message(
            QueueUrl=trial.hq, MaxNumberOfMessages=10,
            AttributeNames=["ApproximateReceiveCount"]).get("Messages", [])
        counts |= {int(message["Attributes"]["ApproximateReceiveCount"]) for message in got}
    return counts


def test_a_drill_leaves_normal_traffic_as_expected_shares(trial: Rehearsed) -> None:
    """What a drill rehearsed is not what `status` expects afterwards."""
    cli(trial, "drill", "failover", "hq", "--reason", "Q4")
    told = json.loads(cli(trial, "status", "--json").stdout)
    calls, = (queue for queue in told["queues"] if queue["queue"] == "loan_calls")
    assert calls["expected"] == {"hq": 100}, calls


def test_no_write_is_within_reach_of_a_drill(trial: Rehearsed) -> None:
    """Asked for a lever, the shadow's door refuses; its views have no method that writes."""
    desk = trial.desk()
    levers = desk.kinds.levers(Mode.SHADOW)
    for queue in desk.policy.queues.values():
        for lever in (queue.route, queue.intake):
            if lever is None:
                continue
            with pytest.raises(Refused) as told:
                levers.route(lever)
            assert told.value.guard == "drill"
            view = levers.route_view(lever)
            assert not isinstance(view, Route) and not WRITES & set(dir(view))
        for lever in queue.consumers.values():
            with pytest.raises(Refused):
                levers.gate(lever)
            gate = levers.gate_view(lever)
            assert not isinstance(gate, Gate) and not WRITES & set(dir(gate))
        for lever in queue.backlogs.values():
            with pytest.raises(Refused):
                levers.backlog(lever)
            backlog = levers.backlog_view(lever)
            assert not isinstance(backlog, Backlog) and not WRITES & set(dir(backlog))
