"""A real SIP edge under the commands: moved, restarted, found elsewhere, set again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.kamailio import Kamailio


@pytest.fixture
def edge(require_server: Callable[[str], str]) -> Iterator[Kamailio]:
    """One of our own, for it is restarted."""
    edge = Kamailio(require_server("kamailio"))
    try:
        yield edge.start()
    finally:
        edge.discard()


def test_an_edge_that_was_restarted_is_set_again_by_itself(
        edge: Kamailio, tmp_path: Path) -> None:
    """All calls are at acme when the edge restarts, and begins with its configuration's shares:
    `status` calls it drift, and `execute-due` sets it to what the journal says."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"""\
version: 1
name: edge
store: {{path: {tmp_path / "store.db"}}}
sites:
  hq: {{kind: in_house, staff: {{loan_calls: {{agents: 40, handle_time: 5m}}}}}}
  acme: {{kind: outsourced, staff: {{loan_calls: {{agents: 60, handle_time: 6m}}}}}}
providers:
  edge:
    kind: kamailio
    socket: {edge.socket}
    destinations: {{hq: 10, acme: 20, message: 30}}
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: message
    normal: {{hq: 100}}
    route: {{provider: edge, reassert: true}}
""")

    def run(*words: str, code: int | None = 0) -> str:
        done = subprocess.run([sys.executable, "-m", "ccfailover", *words, "--policy", policy],
                              capture_output=True, text=True, timeout=60)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def shares() -> str:
        value: str = edge.rpc("htable.get", "split", "loan_calls")["item"]["value"]
        return value.partition(";v=")[0]

    made = re.search(r'"hash": "([0-9a-f]{12})"',
                     run("plan", "failover", "hq", "--reason", "a test", "--json"))
    assert made is not None
    run("failover", "hq", "--reason", "a test", "--yes", "--plan", made[1])
    assert shares() == "10=0;20=100;30=0"
    run("execute-due", code=None)
    assert shares() == "10=0;20=100;30=0"

    edge.stop()
    edge.start()
    assert shares() == "10=100;20=0;30=0"
    assert "DRIFT" in run("status", "--probe")
    run("execute-due", code=None)
    assert shares() == "10=0;20=100;30=0"
    assert "DRIFT" not in run("status", "--probe")
    assert json.loads(run("runs", "list", "--json"))
