"""Two hosts share a store; the network between the store and one of them fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import find_server

pytestmark = [pytest.mark.server("ip", "unshare", "postgres"), pytest.mark.slow, pytest.mark.long]

SCRIPT = Path(__file__).with_name("two_hosts.py")


def seen(folder: Path, how: str) -> dict[str, Any]:
    """What `two_hosts.py` saw, in a network namespace that ends with it."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces are made by root")
    program = find_server("postgres")
    assert program is not None
    folder.chmod(0o755)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(SCRIPT), str(folder), how,
         str(Path(program).resolve().parent)], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("how", ["cable", "replies"])
def test_a_host_without_the_store_stops_before_its_lease_ends(tmp_path: Path, how: str) -> None:
    """By the switch's own log: nothing from host a after its lease, even a call that it would
    try again. Host b takes over when the lease is over, and ends the run. When the network is
    back, host a finds itself fenced, says so and has written nothing."""
    found = seen(tmp_path, how)
    until = found["a_until"]
    assert found["a_writes"], "host a never acted"
    assert found["cut"] < until
    late = [at - until for at in found["a_writes"] if at > until]
    assert late == [], f"host a wrote {late} s after its lease: {found['a_said']}"
    assert min(found["b_writes"]) > until
    assert found["b_codes"][-1] == 0, found["b_said"]
    assert set(found["b_codes"]) <= {0, 5}
    assert found["shares"]["loan_calls"].get("acme") == 100
    assert found["a_code"] == 5, found["a_said"]
    assert "this process may not act for it any more" in found["a_said"]
    assert len(found["fences"]) == 2
    assert found["verify"] == []
