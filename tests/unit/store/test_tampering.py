"""A journal that was tampered with, by somebody who knows the format and computes every hash anew:
found offline, from the exported file and the heads that a report printed."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ccfailover.model.journal import Actor
from ccfailover.model.plan import Plan
from ccfailover.reports.facts import gather
from ccfailover.reports.text import as_text
from ccfailover.store import open_store
from ccfailover.store.chain import digest, manifest_line, record_line, run_number
from ccfailover.store.verify import verify_export
from tests.unit.store.conftest import Clock

Records = list[dict[str, Any]]


@dataclass
class Evidence:
    """An export as its file's bytes, and what the report of each run said beside it."""

    file: bytes
    heads: dict[str, list[str]]

    @property
    def lines(self) -> list[bytes]:
        return self.file.splitlines(keepends=True)

    @property
    def records(self) -> Records:
        return [json.loads(line)["record"] for line in self.lines[1:]]

    @property
    def runs(self) -> list[str]:
        return list(self.heads)


@pytest.fixture(scope="module")
def evidence() -> Iterator[Evidence]:
    """Three runs (ended, superseded, open) and automation; a report of each."""
    clock, none = Clock(), "none"
    store = open_store(":memory:", clock)
    mary = Actor("mary", "elsewhere", 7)

    def plan(scope: str) -> Plan:
        empty = {"name": none, "steps": []}
        return Plan.from_json({
            "runbook": "full_failover", "subject": "hq", "mode": "real", "policy_name": "p",
            "policy_sha256": "0", "reason": "x", "before": empty, "branches": [], "after": empty,
            "scopes": [scope], "shares_before": {}, "shares_after": {}, "findings": [],
            "basis": {}})

    one, lease = store.create_run(plan("queue:a"), actor=mary, ttl=30)
    store.append("automation", "decision.made", {"trigger": "hq_down"}, actor="cron")
    store.end_run(lease, "run.succeeded", {}, actor="mary")
    two, _ = store.create_run(plan("queue:a"), actor=mary, ttl=30)
    three, lease = store.create_run(plan("queue:b"), actor=mary, ttl=30, supersedes=(two,))
    store.append(f"run:{three}", "note", {"text": "grün\u2028x"}, actor="joe", lease=lease)
    store.append("automation", "ack", {"reason": "seen"}, actor="joe")
    heads = {}
    for run in (one, two, three):
        told = as_text(gather(store, run, made_at=clock.now(), alive=True, version="1"))
        heads[run] = re.findall(r"--head (\d+:[0-9a-f]{64})", told)
        assert len(heads[run]) >= 3
    yield Evidence("".join(f"{line}\n" for line in store.export()).encode(), heads)
    store.close()


def found(lines: list[bytes] | list[str], heads: list[str]) -> bool:
    """Whether `journal verify FILE --head … --head …` calls it changed."""
    return bool(verify_export(lines, heads=heads))


def test_the_export_is_intact_with_every_reports_heads(evidence: Evidence) -> None:
    """Else what follows would prove nothing."""
    for heads in evidence.heads.values():
        assert not found(evidence.lines, heads)
    assert not found(forged(evidence.records), [])
    assert forged(evidence.records) == [line.decode().rstrip("\n") for line in evidence.lines]


def test_every_byte_flipped_is_found(evidence: Evidence) -> None:
    """Each byte of the file in turn, line ends included, in its lowest bit and as if in the other
    letter case."""
    heads = evidence.heads[evidence.runs[-1]]
    file = evidence.file
    for at, flip in itertools.product(range(len(file)), (0x01, 0x20)):
        changed = file[:at] + bytes([file[at] ^ flip]) + file[at + 1:]
        assert found(split(changed), heads), (at, flip, file[max(0, at - 20):at + 20])


def test_every_line_removed_doubled_or_swapped_is_found(evidence: Evidence) -> None:
    """As it is, and with every number and hash computed anew."""
    lines, records = evidence.lines, evidence.records
    heads = evidence.heads[evidence.runs[0]]
    for at in range(len(lines)):
        assert found(lines[:at] + lines[at + 1:], heads), at
        assert found([*lines[:at + 1], *lines[at:]], heads), at
    for at in range(len(records)):
        assert found(forged(records[:at] + records[at + 1:]), heads), at
        if records[at]["seq"] < max(r["seq"] for r in records
                                    if r["stream"] == records[at]["stream"]):
            # One doubled at an end, hashed anew, is what might have come after the report.
            assert found(forged([*records[:at + 1], *records[at:]]), heads), at
    for one, two in itertools.combinations(range(len(lines)), 2):
        assert found(swapped(lines, one, two), heads), (one, two)
    for one, two in itertools.combinations(range(len(records)), 2):
        assert found(forged(swapped(records, one, two)), heads), (one, two)


def test_every_cut_is_found(evidence: Evidence) -> None:
    """After each line, and after each event of each stream with all the rest kept and the first
    line, the chain of runs and every hash written anew; whichever run's report is at hand."""
    lines, records = evidence.lines, evidence.records
    for heads in evidence.heads.values():
        for kept in range(len(lines)):
            assert found(lines[:kept], heads), kept
            assert found(forged(records[:max(0, kept - 1)]), heads), kept
        for record in records:
            short = [r for r in records
                     if r["stream"] != record["stream"] or r["seq"] < record["seq"]]
            assert found(forged(short), heads), (record["stream"], record["seq"])


def test_every_run_taken_out_is_found(evidence: Evidence) -> None:
    """With its entries in the chain of runs; with the later runs renumbered; with their names
    changed wherever they stand: what is left is a journal that is intact by itself, and only
    the heads tell."""
    for gone in evidence.runs:
        left = without(evidence.records, gone)
        lines = forged(left)
        assert not any(gone in line for line in lines)
        if gone != evidence.runs[1]:  # its successor's events name it
            assert not found(lines, []), (gone, verify_export(lines))
        for run, heads in evidence.heads.items():
            assert found(lines, heads), (gone, run)


def test_a_head_that_is_known_proves_only_what_came_before(evidence: Evidence) -> None:
    """One head of three leaves a gap; that is why a report prints all of them."""
    three = evidence.runs[-1]
    short = forged([r for r in evidence.records
                    if r["stream"] != f"run:{three}" or r["kind"] != "note"])
    of_one = {head.partition(":")[2] for head in evidence.heads[evidence.runs[0]]}
    blind = [head for head in of_one if not found(short, [head])]
    assert blind and found(short, list(of_one))


def split(file: bytes) -> list[bytes]:
    """As iterating over an open file does: at line feeds, and at nothing else."""
    return [line + b"\n" for line in file.removesuffix(b"\n").split(b"\n")] \
        if file.endswith(b"\n") else file.split(b"\n")


def swapped(rows: list[Any], one: int, two: int) -> list[Any]:
    changed = list(rows)
    changed[one], changed[two] = changed[two], changed[one]
    return changed


def without(records: Records, gone: str) -> Records:
    """All but that run, the later ones renumbered, and what it superseded open again."""
    number = run_number(gone)
    assert number is not None
    before = {r["stream"].removeprefix("run:") for r in records if r["data"].get("by") == gone}
    left = [r for r in records if r["stream"] != f"run:{gone}" and r["data"].get("by") != gone
            and not (r["stream"] == "runs" and (r["data"]["run"] == gone or (
                r["kind"] == "run.ended" and r["data"]["run"] in before)))]
    text = json.dumps(left)
    for later in sorted({r["data"]["number"] for r in left if r["stream"] == "runs"}):
        if later > number:
            text = re.sub(rf"\br{later}-", f"r{later - 1}-", text)
    renamed: Records = json.loads(text)
    for record in renamed:
        if record["stream"] == "runs":
            record["data"]["number"] = run_number(record["data"]["run"])
    return json.loads(json.dumps(renamed).replace(f'"{gone}"', "null"))  # type: ignore[no-any-return]


def forged(records: Records) -> list[str]:
    """An export in which every number, hash, and reference of the chain of runs fits."""
    first: dict[str, str] = {}
    last: dict[str, tuple[int, str]] = {}
    made: dict[int, str] = {}

    def chain(only: Callable[[str], bool], amend: Callable[[dict[str, Any]], None]) -> None:
        for at, given in enumerate(records):
            stream = given["stream"]
            if not only(stream):
                continue
            seq, prev = last.get(stream, (0, "0" * 64))
            record = {**given, "data": dict(given["data"]), "seq": seq + 1, "prev": prev}
            amend(record["data"])
            text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            last[stream] = (seq + 1, digest(text))
            first.setdefault(stream, digest(text))
            made[at] = record_line(text, digest(text))

    def refer(data: dict[str, Any]) -> None:
        stream = f"run:{data.get('run')}"
        if "planned" in data:
            data["planned"] = first.get(stream, data["planned"])
        if "head" in data and stream in last:
            data["seq"], data["head"] = last[stream]

    chain(lambda stream: stream != "runs", lambda data: None)
    chain(lambda stream: stream == "runs", refer)
    order = {"runs": (0, 0), "automation": (1, 0)}
    heads = dict(sorted(last.items(), key=lambda one: order.get(
        one[0], (2, run_number(one[0].removeprefix("run:")) or 0))))
    return [manifest_line(heads), *(made[at] for at in sorted(made))]
