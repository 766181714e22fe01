"""A small world of kinds, and a policy that is right, to be broken one thing at a time."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from ccfailover.errors import Problem
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import Policy
from ccfailover.policy.kinds import DURATION, SECRET, Schema
from ccfailover.policy.load import check

NOW = 1_790_000_000_000_000  # 2026-09-21

RIGHT = textwrap.dedent("""\
    version: 1
    name: lender
    timezone: America/Chicago
    sites:
      hq:
        kind: in_house
        location: chicago
        hours: "Mo-Fr 08:00-20:00; PH off"
        holidays: US
        depends_on: [los]
        probes: [{kind: tcp, host: hq.example, port: 443}]
        staff: {calls: {agents: 10, handle_time: 5m}}
      acme:
        kind: outsourced
        location: tulsa
        depends_on: [replica]
        staff: {calls: {agents: 10, handle_time: 5m}}
        licences: [TX, OK]
    dependencies:
      los: {location: dc_east}
      replica: {location: dc_west}
    providers:
      edge: {kind: switch, url: "http://127.0.0.1:1/", token: "env:TOKEN"}
      jobs: {kind: mq}
    queues:
      calls:
        channel: voice
        home: hq
        backups: [acme]
        outsource: allowed
        home_down: callback
        objectives: {rto: 15m, mtd: 4h}
        load: {per_hour: 100}
        route: {provider: edge}
      apps:
        channel: application
        home: hq
        backups: [acme]
        outsource: allowed
        eligible: "item.state in target.licences"
        item: {id: uli, state: state}
        intake: {provider: edge}
        backlog: {hq: {provider: jobs}, acme: {provider: jobs, ref: apps_acme}}
    triggers:
      hq_down: {when: 'site.hq.state == "down"', hold: 60s, run: full_failover, mode: approve}
    """)


class SmallKinds:
    """One switch, one queue server, one probe, one step: real schemas, no platform behind them.

    `step` and `destinations` are what the switch can do.
    """

    def __init__(self, step: int = 1, treatments: bool = True,
                 destinations: frozenset[str] | None = None) -> None:
        self._route = Capabilities(routes=True, share_step=step, treatments=treatments,
                                   destinations=destinations)

    def provider_kinds(self) -> Sequence[str]:
        return ["switch", "mq"]

    def provider_schema(self, kind: str) -> Schema:
        if kind == "mq":
            return {"properties": {}}  # closed, although it does not say so
        return {"type": "object", "required": ["url"], "additionalProperties": False,
                "properties": {"url": {"type": "string", "pattern": "^https?://"},
                               "token": SECRET, "timeout": DURATION,
                               "mode": {"enum": ["weights", "percent"]}}}

    def lever_schema(self, kind: str) -> Schema:
        return {"type": "object", "properties": {
            "claim_seconds": {"type": "integer"}, "put_only": {"type": "boolean"},
            "assignee": {"type": "string"}}}

    def capabilities(self, kind: str, params: Mapping[str, object],
                     lever: Mapping[str, object] | None) -> Capabilities:
        if kind == "switch":
            return self._route
        assignee = (lever or {}).get("assignee")
        return Capabilities(backlogs=True, claims=not (lever or {}).get("put_only"),
                            assignee=assignee if isinstance(assignee, str) else None)

    def probe_kinds(self) -> Sequence[str]:
        return ["tcp"]

    def probe_schema(self, kind: str) -> Schema:
        return {"type": "object", "required": ["host", "port"], "additionalProperties": False,
                "properties": {"host": {"type": "string"},
                               "port": {"type": "integer", "minimum": 1, "maximum": 65535}}}

    def step_kinds(self) -> Sequence[str]:
        return ["confirm", "shift_route"]

    def step_schema(self, kind: str) -> Schema:
        return {"type": "object", "properties": {"deadline": DURATION}}


Examine = Callable[..., tuple[Policy | None, list[Problem]]]


@pytest.fixture
def kinds() -> SmallKinds:
    return SmallKinds()


@pytest.fixture
def small_kinds() -> type[SmallKinds]:
    return SmallKinds


@pytest.fixture
def right() -> str:
    return RIGHT


@pytest.fixture
def now() -> int:
    return NOW


@pytest.fixture
def swapped() -> Callable[[str, str], str]:
    """`swapped(old, new)`: the right policy with one passage changed, which must be there."""
    def swap(old: str, new: str) -> str:
        assert RIGHT.count(old) >= 1, f"{old!r} is not in the policy"
        return RIGHT.replace(old, new, 1)

    return swap


@pytest.fixture
def examine(tmp_path: Path, kinds: SmallKinds) -> Examine:
    """`examine(text)`: write it to a file and check that."""
    def run(text: str | bytes, *, with_kinds: SmallKinds | None = None, now: int = NOW,
            validate: bool = True) -> tuple[Policy | None, list[Problem]]:
        path = tmp_path / "policy.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return check(str(path), with_kinds or kinds, now=now, validate=validate)

    return run
