"""What each probe kind lets a policy say."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ccfailover.health import Probe
from ccfailover.health.probes.backlog import BacklogProbe
from ccfailover.health.probes.command import CommandProbe
from ccfailover.health.probes.http import HttpProbe
from ccfailover.health.probes.route import RouteProbe
from ccfailover.health.probes.tcp import TcpProbe

URL = {"url": "https://hq.example/health"}


@pytest.mark.parametrize("kind", [HttpProbe, TcpProbe, CommandProbe, BacklogProbe, RouteProbe])
def test_every_schema_is_one(kind: type[Probe]) -> None:
    """A broken schema would let anything through."""
    Draft202012Validator.check_schema(dict(kind.PARAMS))
    assert kind.summary


@pytest.mark.parametrize(("kind", "params", "valid"), [
    (HttpProbe, URL, True),
    (HttpProbe, URL | {"status": "200-299,401", "contains": "ok", "slow": "2s",
                       "field": {"path": "/a/0", "equals": None}, "verify_tls": False}, True),
    (HttpProbe, URL | {"headers": {"Authorization": "Bearer env:TOKEN"}}, True),
    (HttpProbe, URL | {"headers": {"A": "b"}, "follow_redirects": True}, False),
    (HttpProbe, URL | {"headers": {"A": "b\r\nC: d"}}, False),
    (HttpProbe, URL | {"headers": {"A: b": "c"}}, False),
    (HttpProbe, {"url": "file:///etc/passwd"}, False),
    (HttpProbe, URL | {"status": "2xx"}, False),
    (HttpProbe, URL | {"slow": 2}, False),
    (HttpProbe, URL | {"contain": "ok"}, False),
    (TcpProbe, {"host": "127.0.0.1", "port": 5060}, True),
    (TcpProbe, {"host": "127.0.0.1", "port": 0}, False),
    (CommandProbe, {"argv": ["/bin/true"], "env": {"A": "env:B"}}, True),
    (CommandProbe, {"argv": "/bin/true"}, False),
    (CommandProbe, {"argv": []}, False),
    (BacklogProbe, {}, False),
    (RouteProbe, {}, False),
])
def test_parameters(kind: type[Probe], params: dict[str, Any], valid: bool) -> None:
    """What a person may write, and what is refused before it could do harm."""
    assert Draft202012Validator(dict(kind.PARAMS)).is_valid(params) is valid
