"""`transfer export|prune|invoice|find|reconcile --completions|status` on a store with a past."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ccfailover.commands import run
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.journal import Actor
from ccfailover.model.plan import Branch, Mode, Plan, StepSpec
from ccfailover.operations.ledger_export import EXPORTED
from ccfailover.operations.prune import PRUNED
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.store import Store, open_store
from tests.cli.conftest import Said
from tests.servers.postgres import Postgres

NOW = SystemRuntime().now()
DAY = 86_400 * SECOND
OLD = NOW - 9 * 366 * DAY
SECRET = "123-45-6789"

POLICY: dict[str, Any] = {
    "version": 1, "name": "loans", "timezone": "America/Chicago",
    "retention": {"ledger": "7y"},
    "sites": {
        "hq": {"kind": "in_house", "staff": {"applications": {"per_hour": 90}}},
        "acme": {"kind": "outsourced", "price": {"per_application": 14.50, "per_activation": 100},
                 "staff": {"applications": {"per_hour": 80}}, "timezone": "America/Chicago"}},
    "providers": {
        "jobs": {"kind": "sqs", "region": "us-east-1", "endpoint_url": "http://127.0.0.1:9",
                 "timeout": "1s"},
        "switch": {"kind": "http", "url": "http://127.0.0.1:9", "route": {
            "read": {"path": "/{ref}", "shares": "/shares"},
            "shift": {"method": "PUT", "path": "/{ref}", "body": "{}"}}}},
    "queues": {"applications": {
        "channel": "application", "home": "hq", "backups": ["acme"], "outsource": "allowed",
        "in_disaster": "allow", "intake": {"provider": "switch"}, "item": {"id": "uli"},
        "backlog": {"hq": {"provider": "jobs", "ref": "hq"},
                    "acme": {"provider": "jobs", "ref": "acme", "canary": True}}}},
}


@dataclass
class Office:
    """A policy, its store, and runs that somebody decided."""

    policy: Path
    store: Store
    where: str

    def say(self, *words: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        before, stdin = dict(os.environ), sys.stdin
        os.environ.update({"CCFAILOVER_POLICY": str(self.policy), "USER": "dana",
                           "CCF_TEST_STORE": self.where, "AWS_ACCESS_KEY_ID": "x",
                           "AWS_SECRET_ACCESS_KEY": "x"})
        try:
            with (contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
                  open(os.devnull) as sys.stdin):
                code = run(list(words))
        finally:
            os.environ.clear()
            os.environ.update(before)
            sys.stdin = stdin
        assert "Traceback" not in err.getvalue() and code != 1, (words, code, err.getvalue())
        return Said(code, out.getvalue(), err.getvalue())

    def change(self, **block: Any) -> None:
        policy = yaml.safe_load(self.policy.read_text())
        for name, value in block.items():
            policy.pop(name, None)
            if value is not None:
                policy[name] = value
        self.policy.write_text(yaml.safe_dump(policy))

    def run(self, *items: tuple[str, ItemState], at: int = OLD, ended: bool = True,
            **more: Any) -> str:
        """A failover that somebody approved, of an incident, and what it did with each item."""
        none = Branch("none", ())
        step = StepSpec(id="applications/1-transfer-hq-acme", kind="transfer", title="move",
                        params={"queue": "applications", "source": "hq", "target": "acme"})
        plan = Plan(
            runbook="full_failover", subject="hq", mode=Mode.REAL, policy_name="loans",
            policy_sha256="0" * 64, reason="INC-42 power", before=none,
            branches=(Branch("applications", (step,)),), after=none, scopes=("queue:x",),
            shares_before={"applications": {"hq": 100}},
            shares_after={"applications": {"acme": 100}}, findings=(), basis={})
        person = Actor("mary", "desk7", 7)
        run_id, lease = self.store.create_run(plan, actor=person, ttl=60)
        stream = f"run:{run_id}"
        self.store.append(stream, "approval.given", {"role": "duty"}, actor="bea@desk8[9]")
        self.store.append(stream, "run.started", {"context": {"incident": "INC-42"}},
                          actor=str(person), lease=lease)
        snapshot = {"source": {"visible": len(items), "hidden": 0},
                    "target": {"visible": 0, "hidden": 0}}
        self.store.append(stream, "step.started", {"step": step.id, "snapshot": snapshot,
                                                   "attempt": 1}, actor=str(person), lease=lease)
        for state in (ItemState.CLAIMED, None):
            self.store.record_items([LedgerRow(**({
                "run": run_id, "step": step.id, "item_id": item, "queue": "applications",
                "source": "hq", "target": "acme", "state": state or last,
                "at": at + (state is None), "message_id": f"m-{item}", "handle": f"h-{SECRET}",
                "hop": 1, "submitted": "2018-06-01", "reason": "why", "digest": "a" * 32,
            } | more)) for item, last in items], lease=lease)
        if ended:
            self.store.end_run(lease, "run.succeeded", {}, actor=str(person))
        return run_id


both = pytest.mark.parametrize("office", ["file", "postgres"], indirect=True)
"""Where what is asked of the store is its own SQL."""


@pytest.fixture
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    where = str(tmp_path / "store.db")
    if getattr(request, "param", "file") == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        where = server.new_database()
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump({**POLICY, "store": {
        "path": "env:CCF_TEST_STORE", "location": "colo", "mirror": "off"}}))
    store = open_store(where, SystemRuntime())
    yield Office(policy, store, where)
    store.close()


SETTLED, LEFT = ItemState.SETTLED, ItemState.LEFT


@both
def test_an_export_proves_itself(office: Office, tmp_path: Path) -> None:
    """Header with policy, store and heads; every state; the digest in the last line and in the
    journal; nothing of a handle, a body or its digest."""
    name = office.run(("A1", SETTLED), ("=cmd()", LEFT))
    office.store.append("automation", "note", {"text": "x"}, actor="t")
    out = tmp_path / "ledger.jsonl"
    seal = office.store.seal()
    assert office.say("transfer", "export", "--out", str(out)).code == 0
    text = out.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    head = lines[0]["ledger"]
    assert head["policy"] == "loans" and head["journal"]["seal"] == seal
    assert head["policy_sha256"] == hashlib.sha256(office.policy.read_bytes()).hexdigest()
    assert lines[1] | {"head": ""} == {
        "kind": "run", "run": name, "state": "succeeded", "step": "full_failover", "from": "hq",
        "at": lines[1]["at"], "reason": "INC-42 power", "decided_by": "mary@desk7[7]",
        "approved_by": "bea@desk8[9]", "incident": "INC-42", "head": ""}
    assert [(each["item"], each["state"], each["reason"]) for each in lines[2:-1]] == [
        ("A1", "claimed", "why"), ("A1", "settled", "why"), ("=cmd()", "claimed", "why"),
        ("=cmd()", "left", "why")]
    before = text[:text.rindex('{"end"')]
    digest = hashlib.sha256(before.encode()).hexdigest()
    assert lines[-1]["end"] == {"runs": 1, "states": 4, "completions": 0, "sha256": digest}
    journaled = [each for each in office.store.read("automation") if each.kind == EXPORTED]
    assert [each.data["sha256"] for each in journaled] == [digest]
    assert SECRET not in text and "aaaa" not in text
    again = office.say("transfer", "export", "--out", str(out))
    assert again.code == 2 and "is there already" in again.err and out.read_text() == text
    assert [path.name for path in tmp_path.iterdir() if "ledger" in path.name] == ["ledger.jsonl"]


def test_an_export_of_a_part_and_as_csv(office: Office) -> None:
    """By run, queue and time; a cell that a spreadsheet would calculate is none."""
    first = office.run(("A1", SETTLED))
    second = office.run(("=cmd()", LEFT), at=NOW - DAY)
    told = office.say("transfer", "export", "--run", second, "--format", "csv")
    rows = list(csv.DictReader(line for line in told.out.splitlines() if line[0] != "#"))
    assert {row["run"] for row in rows} == {second}
    assert [row["item"] for row in rows] == ["", "'=cmd()", "'=cmd()"]
    assert rows[0]["approved_by"] == "bea@desk8[9]"
    recent = office.say("transfer", "export", "--since", "2025-01-01").out
    assert second in recent and f'"{first}"' not in recent
    assert office.say("transfer", "export", "--queue", "none").out.count("\n") == 2
    assert office.say("transfer", "export", "--since", "never").code == 2
    assert office.store.fact(EXPORTED) is None, "no part counts as a complete export"


@both
def test_prune_shows_first_and_keeps_what_must_be_kept(office: Office) -> None:
    """Old, finished, of an ended run, exported: that goes. Everything else stays, with reasons."""
    old = office.run(("A1", SETTLED), ("A1#copy:m2", SETTLED), ("A2", LEFT),
                     ("Q", ItemState.QUARANTINED), ("S", ItemState.STRANDED))
    office.run(("young", SETTLED), at=NOW - 30 * DAY)
    office.run(("running", SETTLED), ended=False)
    words = ("transfer", "prune", "--before", "2019-01-31")
    dry = office.say(*words, "--json")
    assert dry.code == 0 and dry.json["deleted"] is False and dry.json["applications"] == 2
    assert dry.json["kept"] == {
        "quarantined": 1, "stranded": 1, "touched on or after that day": 1,
        "a run that has not ended has it": 1}
    refused = office.say(*words, "--delete", "--yes")
    assert refused.code == 4 and "in no complete export" in refused.err
    assert office.say("transfer", "export").code == 0
    asked = office.say(*words, "--delete")
    assert asked.code == 2 and "nobody can be asked" in asked.err
    assert len(office.store.find_item("A1")) == 1
    done = office.say(*words, "--delete", "--yes", "--json")
    assert done.code == 0 and done.json["deleted"] is True
    assert (done.json["applications"], done.json["rows"]) == (2, 3)
    left = {row.item_id for row in office.store.items()}
    assert left == {"Q", "S", "young", "running"}
    assert office.store.item_history("A1") == []
    (event,) = [each for each in office.store.read("automation") if each.kind == PRUNED]
    assert event.data["applications"] == 2 and event.actor.startswith("dana")
    lost = office.say("transfer", "find", "A1")
    assert lost.code == 8 and "pruned of what was older than 2019-01-31" in lost.err
    assert office.store.verify() == []
    (move,) = office.say("report", old, "--json").json["moves"]
    assert move["balanced"] is None and "pruned from the ledger" in move["note"]
    nothing = office.say(*words, "--delete")
    assert nothing.code == 0 and "nothing was deleted" in nothing.out


def test_prune_keeps_to_the_retention(office: Office) -> None:
    """Younger than the policy says, or a policy that says nothing: refused, also to look."""
    office.run(("A1", SETTLED))
    young = office.say("transfer", "prune", "--before", "2025-01-31")
    assert young.code == 4 and "kept for 7y" in young.err and "--before 20" in young.err
    assert office.say("transfer", "prune", "--before", "soon").code == 2
    done = office.say("transfer", "prune", "--before", "2019-01-31", "--delete", "--yes",
                      "--no-export", "moved to the archive by hand")
    assert done.code == 0 and office.store.find_item("A1") == []
    (event,) = [each for each in office.store.read("automation") if each.kind == PRUNED]
    assert event.data["no_export"] == "moved to the archive by hand"
    office.change(retention=None)
    silent = office.say("transfer", "prune", "--before", "2019-01-31")
    assert silent.code == 4 and "retention: {ledger: 7y}" in silent.err
    office.change(retention={"ledger": "20mo"})
    assert "25 months" in office.say("validate").out + office.say("validate").err
    office.change(retention={"ledger": "7 years"})
    assert office.say("validate").code == 3


def test_completions_are_kept_and_known_from_then_on(office: Office, tmp_path: Path) -> None:
    """`reconcile --completions`: bad lines told, the balance by id, differences with actions, more
    than a screen counted; then `find`, `transfer status` and `status` know it."""
    name = office.run(*((f"A{n:03}", SETTLED) for n in range(60)), at=NOW - 3 * DAY,
                      submitted="2026-01-02")
    told = tmp_path / "acme.csv"
    moment = _iso(NOW - DAY)
    told.write_text("id,outcome,time,reference\n"
                    f"A000,completed,{moment},R-77\nA001,returned,{moment},\n"
                    f"A002,completed,{moment},\nbroken\nalien,completed,{moment},\n")
    said = office.say("transfer", "reconcile", "--completions", str(told), "--json")
    recorded, (proof,) = said.json["completions"], said.json["proofs"]
    assert (recorded["site"], recorded["new"], recorded["known"]) == ("acme", 4, 0)
    assert [bad["line"] for bad in recorded["problems"]] == [5]
    terms = {term["name"]: term["value"] for term in proof["terms"]}
    assert (terms["completed"], terms["returned"], terms["at_target"]) == (2, 1, 57)
    (of,) = proof["accounts"]
    assert (of["sent"], of["completed"], of["returned"], of["in_work"]) == (60, 2, 1, 57)
    assert of["late"] == 57 and len(of["differences"]) == 59
    assert all(each["action"] for each in of["differences"])
    again = office.say("transfer", "reconcile", name, "--completions", str(told), "--site", "acme")
    assert "0 new, 4 known, 1 that make no sense" in again.out and "line 5" in again.out
    assert "… and 9 more: --json has them all" in again.out
    found = office.say("transfer", "find", "A000")
    for part in ("acme says completed", "R-77", "mary@desk7[7]", "approved by bea@desk8[9]",
                 "incident INC-42", "INC-42 power", f"run {name}"):
        assert part in found.out, part
    status = office.say("transfer", "status", "--json").json["queues"][0]["providers"][0]
    assert (status["in_work"], status["late"], status["waiting"]) == (57, 57, None)
    assert "57 still there, 57 of them past their deadline" in status["says"]
    facts = office.say("status", "--json").json
    assert facts["in_work"] == [{"queue": "applications", "site": "acme", "items": 57,
                                 "told": True}]


def _iso(at: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at // SECOND, UTC).isoformat()


def test_find_says_that_a_canary_is_no_application(office: Office) -> None:
    """Also of one that is in no books."""
    told = office.say("transfer", "find", "ccf-canary-r1-abc", "--json").json
    assert told["state"] == "canary" and "no application" in told["says"]
    assert "no application" in office.say("transfer", "find", "ccf-canary-r1-abc").out


def test_the_providers_invoice(office: Office, tmp_path: Path) -> None:
    """Figures, price, and each line that does not fit; exit 11, journaled, as CSV as well."""
    office.run(("A1", SETTLED), ("A2", SETTLED), ("A3", ItemState.RETURNED), at=NOW - DAY)
    first, last = _iso(NOW - 3 * DAY)[:10], _iso(NOW + DAY)[:10]
    period = ("transfer", "invoice", "--from", first, "--to", last)
    plain = office.say(*period, "--json")
    assert plain.code == 0 and plain.json["bill"]["total"] == "129.00"
    assert plain.json["bill"]["activations"] == 1 and plain.json["invoice"] is None
    bill, out = tmp_path / "bill.csv", tmp_path / "out.csv"
    bill.write_text("id,amount\nA1,14.50\nA1,14.50\nA3,14.50\nX,14.50\nY,1e3\n")
    told = office.say(*period, "--provider", "acme", "--invoice", str(bill), "--csv", str(out))
    assert told.code == 11 and "credit to claim 43.50 USD" in told.out
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["what"], row["item"], row["credit"]) for row in rows] == [
        ("billed twice", "A1", "14.50"), ("billed, and returned", "A3", "14.50"),
        ("billed, never sent", "X", "14.50"), ("sent, not billed", "A2", "0"),
        ("line makes no sense", "", "")]
    assert office.store.read("automation")[-1].kind == "invoice.compared"
    assert office.say(*period, "--provider", "none").code == 2
    assert office.say("transfer", "invoice", "--from", last, "--to", first).code == 2
