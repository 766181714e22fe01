"""A report is true to journal and ledger, hides no exception, and is safe to open anywhere."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest

from ccfailover.errors import StoreError
from ccfailover.model.items import ItemState
from ccfailover.operations.report import report
from ccfailover.reports.as_json import as_json
from ccfailover.reports.facts import Facts
from ccfailover.reports.html import as_html
from ccfailover.reports.objectives import phases
from ccfailover.reports.text import as_text
from ccfailover.reports.timeline import LEFT, RIGHT, plot
from ccfailover.reports.words import clock, safe, shares, span
from ccfailover.store.verify import verify_export
from tests.unit.reports.conftest import ELIGIBLE, HOSTILE, HOSTILE_ID, Told

KINDS = ["drill", "failover", "skipped", "rolled_back"]


def facts_of(told: Told, name: str) -> Facts:
    return report(told.desk, getattr(told, name))


def page_of(facts: Facts) -> ET.Element:
    """The page, parsed; it is written as well-formed XML on purpose."""
    text = as_html(facts).removeprefix("<!DOCTYPE html>\n").replace("&nbsp;", " ")
    return ET.fromstring(text)


def test_the_newest_run_is_the_default(told: Told) -> None:
    """Without a name the last run that was made is reported, ended or not, drill or not."""
    assert report(told.desk, None).header.run == told.desk.store.run_ids()[-1]


@pytest.mark.parametrize("name", KINDS)
def test_html_is_well_formed_and_self_contained(told: Told, name: str) -> None:
    """It parses; nothing is loaded from elsewhere and nothing runs."""
    page = page_of(facts_of(told, name))
    tags = {element.tag for element in page.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "a", "base", "form"}
    attributes = {key for element in page.iter() for key in element.attrib}
    assert not {key for key in attributes if key in {"href", "src"} or key.startswith("on")}
    text = as_html(facts_of(told, name))
    assert "http://" not in re.sub(r"http://127\.0\.0\.1:\d+", "", text)
    assert "https://" not in text and "url(#" in text
    assert not re.search(r"url\((?!#)", text) and "@import" not in text


@pytest.mark.parametrize("name", KINDS)
def test_hostile_text_is_escaped(told: Told, name: str) -> None:
    """Markup in a reason stays text; escape sequences and direction signs are made visible."""
    facts = facts_of(told, name)
    html, text = as_html(facts), as_text(facts)
    assert "<script" not in html and "&lt;script&gt;" in html
    for shown in (html, text):
        assert not {"\x1b", "\u202e", "\x00"} & set(shown)
        assert "\\x1b[31mred" in shown and "\\u202e" in shown
    assert json.loads(json.dumps(as_json(facts)))["header"]["reason"] == facts.header.reason


def test_a_hostile_id_is_escaped_where_it_is_listed(told: Told) -> None:
    """An item's id may hold what it likes; it is shown as text."""
    facts = facts_of(told, "failover")
    move = facts.moves[0]
    flagged = replace(facts, moves=(replace(move, possible_duplicates=(HOSTILE_ID,)),))
    html = as_html(flagged)
    assert "OK&lt;b&gt;&amp;13" in html and "OK<b>" not in html
    assert page_of(flagged) is not None and HOSTILE_ID in as_text(flagged)


def test_a_drill_is_stamped_in_every_format(told: Told) -> None:
    """Nobody can take a rehearsal for evidence of a real move, wherever the page is cut."""
    facts = facts_of(told, "drill")
    text, html, data = as_text(facts), as_html(facts), as_json(facts)
    lines = text.strip().splitlines()
    assert "D R I L L" in lines[0] and "D R I L L" in lines[-1]
    assert all(line.startswith("DRILL") for line in lines
               if re.fullmatch(r"(DRILL  )?[A-Z ]+", line))
    assert html.count("<b>DRILL</b>") == 2 and "<title>DRILL" in html
    assert data["stamp"] == "DRILL" and data["drill"] is True and "DRILL" in data["what"]
    real = facts_of(told, "failover")
    assert "DRILL" not in as_text(real) + as_html(real).partition("<body>")[2]
    assert as_json(real)["stamp"] is None


def test_a_drill_claims_no_recovery(told: Told) -> None:
    """Nothing was served from elsewhere, so no objective was met."""
    facts = facts_of(told, "drill")
    assert all(o.rto_met is None and o.served_at is None for o in facts.objectives)
    assert {step.word for step in facts.steps} == {"rehearsed"}


def test_a_run_with_a_skip_never_succeeded_plainly(told: Told) -> None:
    """All three formats say "with exceptions" and name the skip with its reason."""
    facts = facts_of(told, "skipped")
    assert facts.outcome.state == "succeeded_with_exceptions"
    assert any("confirm skipped" in said for said in facts.outcome.exceptions)
    head = as_text(facts).splitlines()[0]
    assert head.endswith("SUCCEEDED WITH EXCEPTIONS")
    badge = next(e for e in page_of(facts).iter("span") if "badge" in e.get("class", ""))
    assert badge.text == "SUCCEEDED WITH EXCEPTIONS"
    assert as_json(facts)["outcome"]["words"] == "SUCCEEDED WITH EXCEPTIONS"
    assert facts.outcome.resumes == 1 and facts.outcome.interruptions == 0


def test_exceptions_of_the_ledger_show_even_if_no_step_told_them(told: Told) -> None:
    """A quarantined item alone keeps a run from being plainly succeeded."""
    facts = facts_of(told, "failover")
    assert facts.outcome.state == "succeeded_with_exceptions"
    assert any("1 quarantined" in said for said in facts.outcome.exceptions)


def test_numbers_equal_the_ledger(told: Told) -> None:
    """Counts by state, moved, left with reasons, and ids are those of the store."""
    facts = facts_of(told, "failover")
    counts = told.desk.store.item_counts(run=told.failover)
    (move,) = facts.moves
    assert move.counts == {state.value: number for state, number in counts.items()}
    # The failback of the other run took them on, and this run's ledger says so.
    assert counts[ItemState.RETURNED] == len(ELIGIBLE) + 1 and counts[ItemState.LEFT] == 2
    assert move.left == {"not eligible under the policy": 2}
    assert [item.state for item in move.listed] == ["quarantined"]
    assert move.balanced is True
    assert move.equation == (
        "present 16 + arrived 0 = left 2 + not looked at 0 + claimed 0 + at target 0 + "
        "returned 13 + stranded 0 + quarantined 1 + collapsed 0")
    assert move.equation in as_html(facts)
    assert as_json(facts)["moves"][0]["equation"] == move.equation
    (back,) = facts_of(told, "skipped").moves
    assert back.moved == 13 and back.source == "acme"


def test_every_event_is_in_the_timeline(told: Told) -> None:
    """Each record of the journal, with time, actor, fence and hash, in order."""
    for name in KINDS:
        facts = facts_of(told, name)
        records = told.desk.store.read(f"run:{facts.header.run}")
        assert [(e.seq, e.at, e.kind, e.actor, e.fence, e.hash) for e in facts.events] == [
            (r.seq, r.at, r.kind, r.actor, r.fence, r.hash) for r in records]
        assert all(f"#{event.seq} " in as_text(facts) for event in facts.events)


def test_the_heads_are_the_journals(told: Told) -> None:
    """What the report prints is what `journal verify --head` wants, this run's and those that
    bind all the rest."""
    facts = facts_of(told, "failover")
    store = told.desk.store
    assert facts.evidence.head == store.head(f"run:{told.failover}")
    heads = facts.evidence.heads
    assert heads["runs"] == store.head("runs") and facts.evidence.problems == ()
    assert heads[f"run:{told.failover}"] == facts.evidence.head
    for shown in (as_text(facts), as_html(facts), json.dumps(as_json(facts))):
        assert all(f"--head {number}:{hash_}" in shown for number, hash_ in heads.values())
    assert verify_export(store.export(), heads=[hash_ for _, hash_ in heads.values()]) == []


def test_a_changed_journal_is_reported_as_such(told: Told) -> None:
    """A report of a journal that does not verify says so, in large letters."""
    facts = facts_of(told, "failover")
    bad = replace(facts, evidence=replace(facts.evidence, problems=("event 3 was changed",)))
    assert "DOES NOT VERIFY" in as_text(bad) and "does not verify" in as_html(bad)


def test_objectives_are_taken_from_the_plan(told: Told) -> None:
    """No policy file is needed: the plan holds what was promised."""
    facts = facts_of(told, "failover")
    promised = {o.queue: o.rto for o in facts.objectives}
    assert promised == {name: queue.rto for name, queue in told.desk.policy.queues.items()}
    assert all(o.rto_met and o.by_request and o.actual_upper is not None
               for o in facts.objectives)
    for goal in facts.objectives:
        known = [part for part in goal.phases.values() if part is not None]
        assert sum(known) == pytest.approx(goal.actual_lower, abs=0.001)


def test_whoever_asked_before_detection_did_not_wait(told: Told) -> None:
    """Phases never sum to more than the recovery time."""
    from ccfailover.operations import runs

    run = runs.load(told.desk, told.failover)
    asked = run.planned_at
    split = phases(run, "loan_calls", asked - 5_000_000, asked + 9_000_000, asked + 30_000_000)
    assert split["detect"] == 5 and split["decide"] == 0


def test_a_rolled_back_run_shows_no_service(told: Told) -> None:
    """What was undone is not evidence of a recovery."""
    facts = facts_of(told, "rolled_back")
    assert facts.outcome.state == "rolled_back"
    why = next(event.text for event in facts.events if event.kind == "rollback.started")
    assert why == HOSTILE
    assert all(o.served_at is None for o in facts.objectives)


@pytest.mark.parametrize("name", KINDS)
def test_the_plot_stays_inside_its_frame(told: Told, name: str) -> None:
    """Every step has a row, every bar lies within the axis."""
    facts = facts_of(told, name)
    drawn = plot(facts)
    assert len(drawn.rows) == len(facts.steps) + len(facts.branches)
    for row in drawn.rows:
        for bar in row.bars:
            assert bar.x >= LEFT and bar.x + bar.width <= RIGHT + 0.2
            assert bar.title and (not bar.label or bar.label[0] in "✓✗»?○↶…")
        for one, two in pairwise([bar for bar in row.bars if bar.label]):
            assert abs(one.at - two.at) >= 64
    assert all(LEFT <= tick.x <= RIGHT for tick in drawn.ticks) and len(drawn.ticks) >= 2


def test_words() -> None:
    """Spans, instants and shares as people read them; unknown is never 0."""
    assert [span(x) for x in (None, 0, 0.008, 0.44, 59.96, 61, 3600, 90_061)] == [
        "not known", "0 s", "8 ms", "0.4 s", "60 s", "1 min 1 s", "1 h", "1 d 1 h"]
    assert clock(1_500_000, micro=True) == "1970-01-01 00:00:01.500Z" and clock(None) == "–"
    assert shares(None) == "unknown" and shares({"hq": 50}) == "not valid: {'hq': 50}"
    assert safe("a\nb\x07\u2066") == "a b\\x07\\u2066" and safe("x" * 9, 5) == "xxxxx… (4 more)"


def test_a_run_without_a_plan_is_an_error(told: Told) -> None:
    """A journal that does not begin with a plan is told as such, not as a bug."""
    from ccfailover.reports.facts import gather

    with pytest.raises(StoreError):
        gather(told.desk.store, "r99-none", made_at=0, alive=None, version="0")
