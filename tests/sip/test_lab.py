"""Real calls: SIPp through Kamailio, sites in network namespaces, and hq fails.

The lab is examples/sip-lab; here it must hold what it shows. One test is one whole story, so that
several workers share them out and none is played twice. What the lab holds against the clock (the
last INVITE at hq within a second of the decision, acme's first answer within 250 ms) is not judged
here, where other tests take the processor away: the order of events is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

LAB = ROOT / "examples" / "sip-lab"

pytestmark = [pytest.mark.server("kamailio", "sipp", "ip", "nft"), pytest.mark.slow,
              pytest.mark.long,
              pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root")]


def played(folder: Path, fault: str, cps: int) -> dict[str, Any]:
    """The facts of one story, as short as it can be: calls of three seconds."""
    written, told = folder / "facts.json", folder / "told"
    with told.open("wb") as out, subprocess.Popen(
        [sys.executable, str(LAB / "run.py"), "--fault", fault, "--cps", str(cps), "--hold", "3",
         "--away", "1", "--every", "2",
         # A machine that also runs other tests: not given up at the first silence.
         "--patience", "1", "--json", str(written)],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
    ) as lab:
        try:
            code = lab.wait(400)
        except subprocess.TimeoutExpired:
            lab.terminate()  # it takes everything down, which a SIGKILL would leave
            code = lab.wait(200)
    assert code in (0, 1), told.read_text()
    left = [name for name in os.listdir("/run/netns") if name.startswith(f"siplab{lab.pid}x")]
    assert left == [], "namespaces are left"
    (facts,) = json.loads(written.read_text())
    found: dict[str, Any] = {**facts, "said": told.read_text()}
    return found


def phase(facts: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in facts["phases"] if one["name"] == name]
    return dict(found)


@pytest.mark.parametrize("fault, cps", [
    ("frozen", 200), ("frozen", 50), ("killed", 50), ("cut", 50), ("mute", 50),
])
def test_hq_fails_and_the_calls_go_and_come_back(tmp_path: Path, fault: str, cps: int) -> None:
    """None lost after the shift, none dropped at a healthy site, no new call to hq after the shift,
    a failback that lets calls end and fails none; and everybody's counts are the same."""
    facts = played(tmp_path, fault, cps)
    it_was_a_story(facts, cps)
    judged = [one for one in facts["checks"] if not one["timed"]]
    assert len(judged) == 11 and len(facts["checks"]) == 13
    assert [one for one in judged if not one["holds"]] == [], facts["said"]
    the_edge_saved_new_calls(facts)


def it_was_a_story(facts: dict[str, Any], cps: int) -> None:
    """hq did fail under load, the calls did leave it and came back: else nothing was proven."""
    before = phase(facts, "before")
    # Where the machine stalls for a second, the edge tries acme for a call that hq would have had.
    assert before["lost"] == 0 and before["answered"]["hq"] > 0.5 * before["new"], facts["said"]
    at_fault = {one["site"]: one for one in facts["held"]["fault"]}
    assert at_fault["hq"]["calls"] > cps and at_fault["acme"]["calls"] > 0
    away = phase(facts, "away")
    assert away["answered"]["hq"] == 0
    assert away["answered"]["acme"] > away["answered"]["message"] > 0, "70 % and 30 %"
    assert phase(facts, "return")["answered"]["hq"] > cps
    marks = facts["marks"]
    order = ["calls", "fault", "broken", "decision", "shift_begun", "shift_done", "mended",
             "healthy", "failback_begun", "failback_done", "drained"]
    assert [name for name in marks if name in order] == order


def the_edge_saved_new_calls(facts: dict[str, Any]) -> None:
    """Until the shift, the shipped configuration gives a call that hq does not answer to another
    site. Only one that hq had answered before it was quite gone is beyond its help."""
    until = [phase(facts, name) for name in ("detect", "decide", "execute")]
    assert sum(one["lost"] for one in until) == 0, facts["said"]
    assert sum(one["rerouted"] for one in until) > 0, "no caller met the broken hq"
    for one in until:
        assert one["dropped"] <= one["answered"]["hq"], facts["said"]
