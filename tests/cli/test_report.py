"""`report`, `transfer` and `doctor` as a person uses them: real processes on a real store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ccfailover.reports.work import RECONCILED
from tests.unit.reports.conftest import HOSTILE_ID, Told, told  # noqa: F401 - a fixture

Ran = subprocess.CompletedProcess[str]
Call = Callable[..., Ran]


@pytest.fixture(scope="module")
def call(told: Told) -> Call:  # noqa: F811
    """Runs the program against the store of `told`."""
    def run(*words: str, policy: Path | None = None) -> Ran:
        environ = told.centre.environment({"PATH": os.defpath, "USER": "examiner"})
        return subprocess.run(
            [sys.executable, "-m", "ccfailover", *words], capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=60, check=False,
            env=environ | {"CCFAILOVER_POLICY": str(policy or told.policy)})

    return run


def test_text_is_the_default_and_the_newest_run_its_subject(call: Call, told: Told) -> None:  # noqa: F811
    """`ccfailover report` alone prints the last run; exit 0 although that run had exceptions."""
    ran = call("report")
    assert ran.returncode == 0 and "SUCCEEDED WITH EXCEPTIONS" in ran.stdout.splitlines()[0]
    assert told.skipped in ran.stdout and ran.stderr == ""


def test_html_is_written_whole_and_never_over_another(call: Call, told: Told,  # noqa: F811
                                                      tmp_path: Path) -> None:
    """A file that is there is kept unless --force; no half file is left behind."""
    aim = tmp_path / "r.html"
    assert call("report", told.failover, "--html", str(aim)).returncode == 0
    assert aim.read_text().rstrip().endswith("</html>")
    aim.write_text("mine")
    ran = call("report", told.failover, "--html", str(aim))
    assert ran.returncode == 2 and "is there already" in ran.stderr and aim.read_text() == "mine"
    assert call("report", told.failover, "--html", str(aim), "--force").returncode == 0
    assert aim.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    lost = call("report", "--html", str(tmp_path / "none" / "r.html"))
    assert lost.returncode == 2 and "cannot be written" in lost.stderr


def test_the_printed_commands_verify_the_journal(call: Call, told: Told,  # noqa: F811
                                                 tmp_path: Path) -> None:
    """An examiner who copies the two lines out of the report gets "intact"; a changed file not."""
    told_json = json.loads(call("report", told.failover, "--json").stdout)
    export, verify = told_json["verify"]
    exported = call(*export.split(" > ")[0].split()[1:])
    file = tmp_path / "journal.jsonl"
    file.write_text(exported.stdout)
    head = verify.split()[-1]
    assert call("journal", "verify", str(file), "--head", head).returncode == 0
    file.write_text(exported.stdout.replace("run.started", "run.resumed", 1))
    assert call("journal", "verify", str(file), "--head", head).returncode == 8


def test_wrong_use(call: Call) -> None:
    """No such run, and options that exclude each other: exit 2 and nothing on stdout."""
    for words in (("report", "r99"), ("report", "--json", "--text"), ("report", "--force")):
        ran = call(*words)
        assert (ran.returncode, ran.stdout.count("\n")) in ((2, 0), (2, 1))
        assert ran.stderr.startswith("Error: ")


def test_find_tells_every_hop(call: Call, told: Told) -> None:  # noqa: F811
    """Out with the failover, home with the failback: where, since when, by whom."""
    found = json.loads(call("transfer", "find", HOSTILE_ID, "--json").stdout)
    assert (found["where"], found["state"], found["run"]) == ("hq", "settled", told.skipped)
    assert found["decided_by"].startswith(told.desk.actor.name + "@")
    states = [(hop["run"], hop["state"]) for hop in found["history"]]
    assert states[0] == (told.failover, "claimed") and (told.failover, "settled") in states
    assert (told.failover, "returned") in states and states[-1][0] in (told.skipped,
                                                                       told.failover)
    shown = call("transfer", "find", HOSTILE_ID).stdout
    assert "hq has it" in shown and "\x1b[31m" not in shown
    ran = call("transfer", "find", "NEVER-SEEN")
    assert ran.returncode == 8 and "no run has looked at it" in ran.stderr


def test_status_counts_what_the_sites_count(call: Call, told: Told) -> None:  # noqa: F811
    """13 went and came back, 2 stayed, 1 is quarantined; hq counts all 16."""
    (row,) = json.loads(call("transfer", "status", "--json").stdout)["queues"]
    waiting = {site["site"]: site["waiting"] for site in row["sites"]}
    assert waiting == {"hq": 16, "acme": 0} and row["quarantined"] == 1
    assert row["last_seen_at"] == {"hq": 16}


def test_reconcile_is_written_into_the_report(call: Call, told: Told) -> None:  # noqa: F811
    """Balanced, with the quarantined item as an exception: 11; the report then shows it."""
    ran = call("transfer", "reconcile", told.failover, "--json")
    (proof,) = json.loads(ran.stdout)
    assert (ran.returncode, proof["exit_code"], proof["balanced"]) == (11, 11, True)
    assert any("quarantined" in each["what"] for each in proof["differences"])
    kinds = [record.kind for record in told.desk.store.read("automation")]
    assert kinds[-1] == RECONCILED
    assert proof["equation"] in call("report", told.failover, "--json").stdout
    assert "reconciled with the platforms" in call("report", told.failover).stdout
    assert call("transfer", "reconcile", "--run", told.drill).returncode == 2


def test_reconcile_cannot_tell_when_the_source_is_gone(call: Call, told: Told,  # noqa: F811
                                                       tmp_path: Path) -> None:
    """A source that does not answer is unknown: exit 8, never balanced, never 0."""
    policy = yaml.safe_load(told.policy.read_text())
    policy["providers"]["hq_jobs"]["endpoint_url"] = "http://127.0.0.1:9"
    policy["providers"]["hq_jobs"]["timeout"] = "1s"
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(policy))
    ran = call("transfer", "reconcile", told.failover, "--json", policy=path)
    (proof,) = json.loads(ran.stdout)
    assert (ran.returncode, proof["balanced"], proof["verdict"]) == (8, None, "cannot be told")
    assert "hq does not answer" in proof["detail"]
    (row,) = json.loads(call("transfer", "status", "--json", policy=path).stdout)["queues"]
    hq = next(site for site in row["sites"] if site["site"] == "hq")
    assert hq["waiting"] is None and hq["error"]


def doctor(call: Call, policy: Path | None = None) -> tuple[int, dict[str, list[dict[str, str]]]]:
    ran = call("doctor", "--json", policy=policy)
    found: dict[str, list[dict[str, str]]] = {}
    for each in json.loads(ran.stdout)["findings"]:
        found.setdefault(each["check"], []).append(each)
    return ran.returncode, found


def test_doctor_is_content_after_a_check(call: Call) -> None:
    """Never checked: 8 and the cron line. After a check: 0, and what a failover would move."""
    code, found = doctor(call)
    assert code == 8 and found["check"][0]["level"] == "bad" and "cron" in found["check"][0]["todo"]
    call("check")
    code, found = doctor(call)
    assert code == 0, found
    assert "failover hq would move" in found["failover"][0]["said"]
    assert {"policy", "store", "disk", "place", "clock", "secrets", "levers", "runs"} <= set(found)


def test_doctor_names_a_secret_that_leads_nowhere(call: Call, told: Told,  # noqa: F811
                                                  tmp_path: Path) -> None:
    """The reference is named, its value never; exit 3."""
    policy = yaml.safe_load(told.policy.read_text())
    token = Path(policy["providers"]["edge"]["auth"]["bearer"].removeprefix("file:"))
    policy["providers"]["edge"]["auth"]["bearer"] = f"file:{tmp_path}/none"
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(policy))
    ran = call("doctor", "--json", policy=path)
    assert ran.returncode == 3 and f"{tmp_path}/none" in ran.stdout
    assert token.read_text().strip() not in ran.stdout + ran.stderr


def test_doctor_speaks_without_a_policy(call: Call, tmp_path: Path) -> None:
    """No policy, a broken one: one line each with what to do, exit 3, no traceback."""
    ran = call("doctor", policy=tmp_path / "none.yaml")
    assert ran.returncode == 3 and ran.stdout.splitlines()[1].startswith("✗ policy")
    broken = tmp_path / "broken.yaml"
    broken.write_text("version: 1\n")
    code, found = doctor(call, broken)
    assert code == 3 and len(found["policy"]) > 1
    assert all(str(broken) in each["said"] for each in found["policy"])


def test_the_report_needs_no_platform(call: Call, told: Told, tmp_path: Path) -> None:  # noqa: F811
    """With every server address wrong, the same evidence comes out: journal and ledger alone."""
    policy = yaml.safe_load(told.policy.read_text())
    for provider in policy["providers"].values():
        for key in ("url", "endpoint_url"):
            if key in provider:
                provider[key] = "http://127.0.0.1:9"
    copy = tmp_path / "store.db"
    for file in told.policy.parent.glob("store.db*"):
        shutil.copy(file, tmp_path / file.name)
    policy["store"]["path"] = str(copy)
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(policy))
    ours = json.loads(call("report", told.failover, "--json").stdout)
    theirs = json.loads(call("report", told.failover, "--json", policy=path).stdout)
    for body in (ours, theirs):
        body["header"].pop("made_at")
        body["evidence"].pop("store")
    assert ours == theirs
