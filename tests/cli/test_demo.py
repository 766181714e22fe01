"""`ccfailover demo`: the main job on real processes, and its proof."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ccfailover.simulation.applications import generate, write_csv

pytestmark = [pytest.mark.server("roto-server"), pytest.mark.slow, pytest.mark.long]


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ccfailover", "demo", *words], cwd=cwd, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(demo: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """Its JSON and its talk. Fails with what it printed unless it exits 0."""
    out, err = demo.communicate(timeout=150)
    assert demo.returncode == 0, f"{err[-4000:]}\n{out}"
    return json.loads(out), err


def processes(marker: str) -> list[str]:
    """Command lines of living processes that name `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if marker in line:
                found.append(line)
    return found


def test_two_side_by_side(tmp_path: Path) -> None:
    """Both exit 0; each accounts for its own ids, from the servers' counts, and leaves nothing."""
    write_csv(tmp_path / "own.csv", generate(150, 77))
    kept = tmp_path / "kept"
    one = start("--json", "--count", "150", "--keep", str(kept), cwd=tmp_path)
    other = start("--json", "--applications", "own.csv", "--report", "other.html", cwd=tmp_path)
    first, talk = end(one)
    second, _ = end(other)
    for facts in (first, second):
        assert facts["ok"] and all(check["holds"] for check in facts["checks"])
        ids = facts["applications"]
        assert ids["seeded"] == 150 and ids["submitted"] > 10
        # What hq had done and not yet taken off its queue when it was killed is done once more.
        assert sum(ids["completed"].values()) + sum(ids["waiting"].values()) \
            == ids["known"] + len(ids["in_hand"])
        assert not ids["lost"] and not ids["unknown"] and not ids["twice"]
        assert ids["completed"]["acme"] > 50
        stretch = {row["name"]: row for row in facts["contacts"]}
        assert stretch["fault → detected"]["lost"] > 20, "nobody noticed that hq was dead"
        assert stretch["away"]["lost"] == stretch["failback"]["lost"] == 0
        assert stretch["away"]["answered"]["acme"] > 50
        assert stretch["away"]["answered"]["callback"] > 0
        assert stretch["failback"]["answered"]["hq"] > 20
        (account,) = facts["equations"]
        assert account["balanced"] and account["terms"]["completed"] > 20
        recovery = {row["queue"]: row for row in facts["recovery"]}
        assert set(recovery) == {"loan_calls", "applications"}
        for row in recovery.values():
            assert 0 < row["actual_lower"] <= row["actual_upper"] <= row["rto"]
            assert set(row["phases"]) == {"detect", "decide", "approve", "execute", "verify"}
        html = Path(facts["report"]).read_text(encoding="utf-8")
        assert html.lstrip().lower().startswith("<!doctype html") and "loan_calls" in html
    assert "kill -9" in talk and "$ ccfailover failover hq" in talk
    assert (kept / "policy.yaml").is_file() and (tmp_path / "other.html").is_file()
    assert not processes(str(kept))


def test_the_source_dies(tmp_path: Path) -> None:
    """The home queue's server dies in mid-transfer: calls still move, the run says what it could
    not reach, and every id is found in the end: delivered, stranded, or where it was."""
    facts, talk = end(start("--json", "--count", "120", "--source-dies", cwd=tmp_path))
    assert "succeeded with exceptions" in talk
    checks = {check["name"]: check for check in facts["checks"]}
    assert checks["found again"]["holds"] and checks["failover"]["holds"]
    terms = facts["equations"][0]["terms"]
    assert terms["unreachable"] > 20 and terms["left"] == 0
    ids = facts["applications"]
    assert sum(ids["completed"].values()) + sum(ids["waiting"].values()) == ids["known"]
    assert not ids["lost"] and not ids["twice"]
    os.unlink(facts["report"])


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_nothing(tmp_path: Path, by: signal.Signals) -> None:
    """Ctrl-C, or a service manager's SIGTERM, ends every process that it started."""
    kept = tmp_path / f"kept-{by.name}"
    demo = start("--count", "20", "--keep", str(kept), cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (kept / "commands").is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    assert processes(str(kept)), "it had not started its servers"
    demo.send_signal(by)
    demo.communicate(timeout=30)
    assert demo.returncode == 8
    assert not processes(str(kept))


def test_what_it_cannot_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    """A file that is not of the form, and a directory that is in use: exit 2 and no server."""
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    for words in (["--applications", "bad.csv"], ["--keep", str(tmp_path)]):
        demo = start(*words, cwd=tmp_path)
        _, err = demo.communicate(timeout=30)
        assert demo.returncode == 2, err
        assert "Try:" in err and "Traceback" not in err
    assert not processes(str(tmp_path))


@pytest.mark.skipif("CCF_REAL_HMDA" not in os.environ,
                    reason="CCF_REAL_HMDA names no file of real form")
def test_with_a_real_file(tmp_path: Path) -> None:
    """Thousands of applications of the real form go through, in time, and all are found."""
    file = os.environ["CCF_REAL_HMDA"]
    facts, _ = end(start("--json", "--applications", file, "--report", "r.html", cwd=tmp_path))
    with open(file, encoding="utf-8") as rows:
        assert facts["applications"]["seeded"] == sum(1 for _ in rows) - 1
