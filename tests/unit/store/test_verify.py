"""An exported journal proves itself offline; a store, on the spot."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess

import pytest

from ccfailover.errors import UsageError
from ccfailover.store import open_store
from ccfailover.store.chain import digest, manifest_line, record_line
from ccfailover.store.verify import verify_export


@pytest.fixture
def written(store, plan_for, person, clock):
    """Three runs (ended, superseded, open) and some automation; the store that holds them."""
    one, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    store.append(f"run:{one}", "step.started", {"step": "calls/1", "note": "grün"},
                 actor="mary", lease=lease)
    store.append("automation", "decision.made", {"trigger": "hq_down"}, actor="cron")
    store.end_run(lease, "run.succeeded", {}, actor="mary")
    two, _ = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    three, lease = store.create_run(plan_for("queue:b"), actor=person("joe"), ttl=30,
                                    supersedes=(two,))
    clock.pass_time(1)
    store.append(f"run:{three}", "step.started", {"n": 1.5}, actor="joe", lease=lease)
    store.append("automation", "ack", {"sentence": "line\u2028separator"}, actor="joe")
    return store


def test_an_intact_export_has_no_problems(written):
    """As text or bytes, with line ends or without, with every head that a report may carry."""
    lines = list(written.export())
    assert verify_export(lines) == []
    assert verify_export([line + "\n" for line in lines], heads=[written.seal()]) == []
    assert verify_export([(line + "\n").encode() for line in lines]) == []
    for stream in written.streams():
        assert verify_export(lines, heads=[written.head(stream)[1]]) == []
    assert len(lines) == 1 + sum(written.head(stream)[0] for stream in written.streams())
    assert written.verify() == []


def test_the_heads_that_bind_all_are_few(written, plan_for, person):
    """The chain of runs, automation, and each run that is open: no matter how many have ended."""
    assert set(written.proof()) == {"runs", "automation", f"run:{written.run_ids()[-1]}"}
    proof = written.proof()
    run, lease = written.create_run(plan_for("queue:z"), actor=person("mary"), ttl=30)
    assert set(written.proof()) == {*proof, f"run:{run}"}
    written.end_run(lease, "run.succeeded", {}, actor="mary")
    assert set(written.proof()) == set(proof)
    heads = [f"{number}:{hash_}" for number, hash_ in proof.values()]
    assert written.verify(heads) == [] == verify_export(written.export(), heads=heads)
    assert written.verify([*heads, "f" * 64])


def test_a_report_from_before_is_still_proven_after_the_journal_went_on(written):
    """A head printed last week occurs in this week's export."""
    head = written.head("automation")[1]
    written.append("automation", "note", {}, actor="a")
    assert verify_export(written.export(), heads=[head]) == []


def test_removed_repeated_and_swapped_lines_are_found(written):
    """Each line in turn is dropped, doubled, and swapped with the next."""
    lines = list(written.export())
    seal = written.seal()
    for index in range(len(lines)):
        assert verify_export(lines[:index] + lines[index + 1:], heads=[seal])
        assert verify_export([*lines[:index], lines[index], *lines[index:]], heads=[seal])
        if index + 1 < len(lines):
            swapped = lines.copy()
            swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
            assert verify_export(swapped, heads=[seal])


def test_a_cut_end_is_found_even_when_the_first_line_was_written_anew(written):
    """A forger recounts the heads after cutting: only a hash from elsewhere tells, and does."""
    lines = list(written.export())
    seal, head = written.seal(), written.head(written.streams()[-1])[1]
    for kept in range(1, len(lines)):
        cut = _remade([json.loads(line)["record"] for line in lines[1:kept]])
        assert verify_export(cut, heads=[seal])
        assert verify_export(cut, heads=[head])
        assert verify_export(lines[:kept])


def test_a_run_taken_out_whole_is_found(written):
    """Its own events, its entries in the chain of runs, both: something always shows."""
    records = [json.loads(line)["record"] for line in list(written.export())[1:]]
    for run in written.run_ids():
        without = [r for r in records if r["stream"] != f"run:{run}"]
        problems = verify_export(_remade(without))
        assert any("events are missing" in problem for problem in problems)
        unnumbered = [r for r in without if r["data"].get("run") != run]
        assert verify_export(_remade(unnumbered)), run


def test_a_gap_in_the_numbers_of_runs_is_found(written):
    """Even with a chain computed anew: numbers go 1, 2, 3 and nothing else."""
    records = [json.loads(line)["record"] for line in list(written.export())[1:]]
    kept = [r for r in records if "r2-" not in r["stream"]
            and not (r["stream"] == "runs" and r["data"]["number"] == 2)]
    problems = verify_export(_remade(kept, rechain=True))
    assert any("run numbers go from 1 to 3" in problem for problem in problems)


def test_a_changed_ending_of_a_closed_run_is_found(written):
    """What a run's end was is fixed by the chain of runs."""
    records = [json.loads(line)["record"] for line in list(written.export())[1:]]
    run = written.run_ids()[0]
    problems = verify_export(_remade(
        [r for r in records if r["kind"] != "run.succeeded"], rechain=True))
    assert any(problem.startswith(f"run:{run}: ends at event 2") for problem in problems)


def test_an_event_with_a_new_hash_does_not_fit_the_next_one(written):
    """A forger who changes one event and its hash would have to change all that follow."""
    records = [json.loads(line)["record"] for line in list(written.export())[1:]]
    first = next(r for r in records if r["stream"] == "automation")
    first["data"] = {"trigger": "another"}
    problems = verify_export(_remade(records))
    assert len(problems) == 1
    assert "automation event 2 does not follow from the event before it" in problems[0]


def test_a_line_that_only_looks_different_is_found(written):
    """A blank between two words of JSON changes no value, and yet it is no longer the line."""
    lines = list(written.export())
    for index in (0, 3):
        changed = lines.copy()
        changed[index] = changed[index].replace('","', '", "', 1).replace('":{', '": {', 1)
        (problem,) = verify_export(changed)
        assert problem == f"line {index + 1}: the line is not as it was written"


def test_a_stale_holders_event_is_found(written):
    """The fence never falls within a run."""
    records = [json.loads(line)["record"] for line in list(written.export())[1:]]
    last = next(r for r in reversed(records) if r["kind"] == "step.started")
    last["fence"] = 1
    problems = verify_export(_remade(records, rechain=True))
    assert any("the fence falls to 1" in problem for problem in problems)


def test_one_stream_can_be_exported_alone(written):
    """A single run verifies by itself; the chain of runs brings its runs along."""
    run = f"run:{written.run_ids()[0]}"
    lines = list(written.export([run]))
    assert len(lines) == 4
    assert verify_export(lines, heads=[written.head(run)[1]]) == []
    assert verify_export(lines, heads=[written.seal([run])]) == []
    assert verify_export(lines, heads=[written.seal()])
    assert verify_export(written.export(["runs"])) == []
    with pytest.raises(UsageError, match=r"no stream run:r9-none"):
        list(written.export([run, "run:r9-none"]))


def test_what_is_appended_during_an_export_does_not_break_it(written):
    """The first line fixes how far the export goes."""
    lines = written.export()
    first = next(lines)
    written.append("automation", "note", {}, actor="a")
    rest = list(lines)
    assert verify_export([first, *rest]) == []


@pytest.mark.parametrize("junk", [
    b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b'{"hash":1,"record":2}',
    b'{"hash":"x","manifest":{"format":1,"heads":{"runs":3}}}',
    b'{"hash":"x","manifest":{"format":2,"heads":{}}}', b'{"hash":"x","manifest":[]}',
    b'{"hash":"x","record":{"seq":NaN}}', b"9" * 10_000, b"x" * 9_000_000,
])
def test_junk_is_told_and_never_crashes(written, junk):
    """Hostile lines, first or in between, give sentences."""
    lines = [line.encode() for line in written.export()]
    for changed in ([junk], [junk, *lines[1:]], [*lines[:3], junk, *lines[4:]]):
        problems = verify_export(changed)
        assert problems
        assert all(len(problem) < 400 for problem in problems)


def test_any_value_in_any_field_is_told_and_never_crashes(written):
    """A forger who computes every hash anew, with nonsense in one field after the other."""
    records = [json.loads(line)["record"] for line in list(written.export())[1:]]
    for index, record in enumerate(records):
        for name in record:
            for junk in (None, [], {}, -1, 2**70, True, "", "x", ["by"]):
                forged = [dict(each) for each in records]
                forged[index][name] = junk
                assert isinstance(_checked(forged), list)
        for name in record["data"]:
            for junk in (None, [], {}, -1, 2**70, True, "", "r0-a", "r1-\n"):
                forged = [dict(each) for each in records]
                forged[index]["data"] = {**record["data"], name: junk}
                assert isinstance(_checked(forged), list)


def _checked(records: list[dict]) -> list[str]:
    lines = []
    for record in records:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        lines.append(record_line(text, digest(text)))
    return verify_export([manifest_line({}), *lines])


@pytest.mark.parametrize("junk", [None, [], {}, 1, "x", {"runs": [None, []]}, {"runs": [1]}])
def test_any_manifest_is_told_and_never_crashes(junk):
    """The first line may be anything."""
    for line in ({"hash": junk, "manifest": {"format": 1, "heads": {}}},
                 {"hash": "x", "manifest": junk},
                 {"hash": "x", "manifest": {"format": junk, "heads": {}}},
                 {"hash": "x", "manifest": {"format": 1, "heads": junk}}):
        assert verify_export([json.dumps(line)], heads=["x"])


def test_an_empty_export_is_no_export():
    """No line at all proves nothing; an empty store does export something."""
    assert verify_export([])
    assert verify_export([manifest_line({})]) == []


def test_the_list_of_problems_is_bounded(written):
    """A million bad lines do not fill the memory."""
    problems = verify_export(["junk"] * 5_000)
    assert len(problems) < 250
    assert re.match(r"and \d+ more", problems[-1])


def test_the_verifier_needs_no_database(python):
    """It runs where there is no SQLite at all."""
    program = (
        "import sys; sys.modules['sqlite3'] = None\n"
        "import ccfailover; ccfailover.__path__\n"
        "import importlib.util as u, types\n"
        "pkg = types.ModuleType('ccfailover.store')\n"
        "pkg.__path__ = [ccfailover.__path__[0] + '/store']\n"
        "sys.modules['ccfailover.store'] = pkg\n"
        "from ccfailover.store.verify import verify_export\n"
        "print(verify_export([]))"
    )
    done = subprocess.run([*python, "-c", program], capture_output=True, text=True, check=True)
    assert "the export is empty" in done.stdout


@pytest.mark.parametrize(("sql", "said"), [
    ("UPDATE journal SET text = replace(text, 'hq_down', 'hq_upp!') WHERE stream = 'automation'",
     "does not fit its hash"),
    ("DELETE FROM journal WHERE stream = 'automation' AND seq = 1", "from event 0 to 2"),
    ("DELETE FROM journal WHERE stream LIKE 'run:r1-%'", "its events are missing"),
    ("DELETE FROM journal WHERE stream LIKE 'run:r1-%' AND seq = 3", "closed it at event 3"),
    ("UPDATE journal SET stream = 'run:r9-dead' WHERE stream = 'automation'", "another stream"),
    ("UPDATE journal SET stream = 'nonsense' WHERE stream = 'automation'", "no stream can have"),
    ("UPDATE journal SET text = '{}' WHERE stream = 'automation'", "no event in the journal"),
    ("UPDATE journal SET text = text || ' ' WHERE stream = 'automation'", "not as it was written"),
    ("UPDATE run SET ended = NULL WHERE number = 1", "the index of runs says"),
    ("UPDATE run SET number = 7 WHERE number = 1", "the index of runs says"),
    ("DELETE FROM run WHERE number = 3", "the index of runs says"),
])
def test_tampering_with_the_tables_is_found(tmp_path, clock, request, sql, said):
    """Somebody with the right to write to the file changes one thing; verify names it."""
    path = tmp_path / "tampered.db"
    store = open_store(str(path), clock)
    request.getfixturevalue("written_into")(store)
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TRIGGER journal_is_append_only_u")
        raw.execute("DROP TRIGGER journal_is_append_only_d")
        raw.execute(sql)
    raw.close()
    again = open_store(str(path), clock)
    problems = again.verify()
    again.close()
    assert any(said in problem for problem in problems), problems


@pytest.fixture
def written_into(plan_for, person):
    """Fills a store with two ended runs and some automation."""

    def fill(store) -> None:
        for name in ("a", "b", "c"):
            run, lease = store.create_run(plan_for(f"queue:{name}"), actor=person("mary"), ttl=30)
            store.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
            if name != "c":
                store.end_run(lease, "run.succeeded", {}, actor="mary")
        store.append("automation", "decision.made", {"trigger": "hq_down"}, actor="cron")
        store.append("automation", "ack", {}, actor="joe")

    return fill


def _remade(records: list[dict], *, rechain: bool = False) -> list[str]:
    """A forger's export: heads recounted and, with `rechain`, numbers and hashes too."""
    heads: dict[str, tuple[int, str]] = {}
    lines = []
    for given in records:
        seq, prev = heads.get(given["stream"], (0, "0" * 64))
        record = {**given, "seq": seq + 1, "prev": prev} if rechain else given
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        heads[record["stream"]] = (record["seq"], digest(text))
        lines.append(record_line(text, digest(text)))
    return [manifest_line(heads), *lines]
