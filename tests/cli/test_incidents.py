"""An incident from its declaration to its report."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import World

pytestmark = pytest.mark.server("roto-server")

HOSTILE = "power\x1b[31m \u202eevil <b>"


def declare(world: World, name: str = "INC-42", **environment: str) -> None:
    world.ok("incident", "declare", name, "--commander", "mary", "--reason", "hq lost power",
             **environment)


def test_an_incident_from_its_declaration_to_its_report(world: World) -> None:
    """Declared, led, handed over, determined, with two runs, closed: status says it while it is
    open, every run's report carries it, and the journal verifies with the heads that were told."""
    declare(world)
    said = world.act("failover", "hq")
    assert said.code == 0 and "incident INC-42, commander mary (the only open one" in said.err
    run = world.ok("runs", "list", "--json").json[0]
    assert run["incident"] == "INC-42"
    world.ok("note", "INC-42", "the regulator was called")
    world.ok("note", "INC-42", HOSTILE)
    world.ok("incident", "hand-over", "--to", "joe", "--note", "hq asked for 10:00")
    world.ok("incident", "determine", "INC-42", "the carrier's router failed")
    world.ok("ack", "--reason", "a test")
    world.act("failback", "hq")

    told = world.ok("status", "--json").json["incidents"]
    assert [(one["incident"], one["commander"], len(one["runs"])) for one in told] == [
        ("INC-42", "joe", 2)]
    screen = world.ok("status").out
    (line,) = [line for line in screen.splitlines() if "INCIDENT" in line]
    assert "INC-42, commander joe, declared" in line and "the carrier's router failed" in line
    assert screen.splitlines()[-1].startswith("NEXT: ")

    for words in (["report", run["run"]], ["report", run["run"], "--json"],
                  ["incident", "show", "INC-42"], ["report", "--incident", "INC-42"]):
        out = world.ok(*words).out
        for part in ("INC-42", "mary", "joe", "hq asked for 10:00", "the regulator was called",
                     "router failed"):
            assert part in out, (words, part)
        assert "--json" in words or ("\x1b" not in out and "\u202e" not in out), words
    page = world.policy.parent / "r.html"
    world.ok("report", run["run"], "--html", str(page))
    text = page.read_text()
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n").replace("&nbsp;", " "))
    assert 'id="incident"' in text and "hq asked for 10:00" in text and "<b> evil" not in text

    world.ok("incident", "close", "--reason", "all at hq again")
    assert world.ok("status", "--json").json["incidents"] == []
    report = world.ok("report", "--incident", "INC-42").out
    assert "closed" in report and report.count("SUCCEEDED") == 2
    heads = [word for word in report.split() if word.count(":") == 1 and len(word) >= 66]
    assert len(set(heads)) >= 2
    assert world.ok("journal", "verify", *[part for head in sorted(set(heads))
                                           for part in ("--head", head)])
    events = {line["event"] for line in world.ok("outbox", "--list", "--json").json["waiting"]}
    assert {"incident.declared", "incident.determined", "incident.handed_over",
            "incident.closed"} <= events
    listed = world.ok("incident", "list").out
    assert "INC-42" in listed and "closed" in listed


def test_an_incident_is_no_part_of_what_a_plan_does(world: World) -> None:
    """A plan made before it was declared still fits, with the same hash."""
    before = world.ok("plan", "failover", "hq", "--json").json["hash"]
    declare(world)
    assert world.ok("plan", "failover", "hq", "--json").json["hash"] == before
    said = world.say("failover", "hq", "--reason", "x", "--yes", "--plan", before)
    assert said.code == 0
    assert world.ok("incident", "show", "--json").json["runs"]


def test_which_incident_a_run_is_of(world: World) -> None:
    """The one that is named; none when several are open, and that is said; none if one says so;
    a drill belongs to none; one that is closed or unknown is refused before anything moves."""
    declare(world)
    declare(world, "INC-43")
    world.ok("drill", "failover", "hq")
    said = world.act("failover", "hq", "--queue", "loan_calls")
    assert said.code == 0 and "2 incidents are open (INC-42, INC-43)" in said.err
    assert [run["incident"] for run in world.ok("runs", "list", "--json").json] == [None, None]
    world.ok("incident", "add", "INC-43", "r2")
    assert world.say("incident", "add", "INC-42", "r2").code == 4
    world.ok("incident", "close", "INC-42")
    for name in ("INC-42", "INC-9"):
        plan = world.ok("plan", "failover", "hq", "--json").json["hash"]
        refused = world.say("failover", "hq", "--reason", "x", "--incident", name, "--yes",
                            "--plan", plan)
        assert refused.code in (2, 4) and "Not done:" in refused.err, name
    assert "hq" in world.shares("applications")
    plan = world.ok("plan", "failover", "hq", "--json").json["hash"]
    assert world.say("failover", "hq", "--reason", "x", "--incident", "none", "--yes", "--plan",
                     plan).code == 0
    assert world.ok("runs", "list", "--json").json[0]["incident"] is None
    (run,) = world.ok("incident", "show", "INC-43", "--json").json["runs"]
    assert "INC-43" in world.ok("report", run).out


def test_declared_and_determined_are_the_times_that_people_say(world: World) -> None:
    """For the clocks of regulators: with --at, next to when it was written down; never to come."""
    world.ok("incident", "declare", "INC-7", "--commander", "mary", "--reason", "x", "--at",
             "2026-01-02T08:30:00+00:00")
    world.ok("incident", "determine", "the router", "--at", "2026-01-02T09:00:00+00:00")
    found = world.ok("incident", "show", "--json").json
    assert found["declared_at"] == int(datetime(2026, 1, 2, 8, 30, tzinfo=UTC).timestamp()) * 10**6
    assert found["determined_at"] - found["declared_at"] == 1800 * 10**6
    assert found["written_at"] > found["declared_at"]
    assert "written down" in world.ok("incident", "show").out
    for bad in ("2199-01-01T00:00", "soon", "25:00"):
        assert world.say("incident", "declare", "INC-8", "--commander", "m", "--reason", "x",
                         "--at", bad).code == 2
    again = world.say("incident", "determine", "something else")
    assert again.code == 4 and "determined already: the router" in again.err


@pytest.mark.parametrize("words", [
    ["declare", "INC 1", "--commander", "m", "--reason", "x"],
    ["declare", "none", "--commander", "m", "--reason", "x"],
    ["declare", "INC-1", "--reason", "x"], ["declare", "INC-1", "--commander", "m"],
    ["close"], ["show"], ["show", "INC-1"], ["hand-over", "--to", "joe"], ["determine", "x"],
    ["add", "r1"], ["determine", "a", "b", "c"]])
def test_what_makes_no_sense_is_told(world: World, words: list[str]) -> None:
    """Exit 2, what was not done and what to say; nothing is in the journal."""
    said = world.say("incident", *words)
    assert said.code == 2 and said.err
    assert world.ok("incident", "list", "--json").json == []


def test_a_second_declaration_and_a_word_after_the_end_are_refused(world: World) -> None:
    """One incident, one beginning, one end."""
    declare(world)
    assert world.say("incident", "declare", "INC-42", "--commander", "m", "--reason", "x").code == 2
    world.ok("incident", "close", "INC-42")
    for words in (["close", "INC-42"], ["hand-over", "INC-42", "--to", "x"],
                  ["determine", "INC-42", "x"]):
        said = world.say("incident", *words)
        assert said.code == 4 and "was closed by" in said.err
    assert world.say("note", "INC-42", "late").code == 4


def test_status_reads_no_long_stream(world: World) -> None:
    """With 20,000 other events in `automation` between an incident's own, status reads those
    alone: the database is asked for them by number."""
    declare(world)
    with sqlite3.connect(world.store) as raw:
        raw.executemany("INSERT INTO journal (stream, seq, text, hash) VALUES ('automation', ?, "
                        "'no event', '')", [(seq,) for seq in range(1000, 21_000)])
    raw.close()
    (one,) = world.ok("status", "--json").json["incidents"]
    assert one["incident"] == "INC-42"
    assert json.loads(world.ok("incident", "show", "--json").out)["open"]
