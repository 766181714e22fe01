"""A provider's account: every kind of thing that its word and the ledger can disagree on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from ccfailover.model.books import Completion, Outcome
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.policy import Price, Sla
from ccfailover.runtime import SECOND
from ccfailover.transfer.account import Account, account
from ccfailover.transfer.invoice import Compared, Figures, Period, compare, figures
from ccfailover.transfer.listing import Billed
from ccfailover.transfer.reconcile import Measures, reconcile
from tests.unit.transfer.world import QUEUE, START, World, queue, site

Make = Callable[..., World]
HOUR = 3600 * SECOND
DAY = 24 * HOUR


def row(item: str, state: ItemState = ItemState.SETTLED, **more: object) -> LedgerRow:
    values: dict[str, object] = dict(run="r1", step="2-transfer", queue=QUEUE, source="hq",
                                     target="acme", at=START, message_id=f"m-{item}", hop=1,
                                     submitted="2026-09-01")
    return LedgerRow(item_id=item, state=state, **(values | more))  # type: ignore[arg-type]


def word(item: str, outcome: Outcome = Outcome.COMPLETED, at: int = START + HOUR,
         where: str = "acme") -> Completion:
    return Completion(where, item, outcome, at, f"A-{item}")


def told(world: World, rows: Sequence[LedgerRow], words: Sequence[Completion], *,
         now: int = START + 2 * DAY, sla: Sla | None = None) -> Account:
    world.store.record_items(rows, lease=None)
    world.store.record_completions(words)
    return account(world.store, queue(), replace(site("acme"), sla=sla), now=now)


def what(found: Account, item: str) -> str:
    """The differences about an item, each with an action."""
    mine = [each for each in found.differences if each.item_id == item]
    assert all(each.action for each in mine)
    return "; ".join(each.what for each in mine)


def test_sent_is_the_sum_of_what_became_of_it(make_world: Make) -> None:
    """Completed, brought back, returned by its word, still there; and nothing is a difference."""
    found = told(make_world(), [
        row("done"), row("declined"), row("withdrawn"), row("open"), row("stays", ItemState.LEFT),
        row("home", ItemState.RETURNED), row("gave"), row("gave", ItemState.LEFT, run="r2",
                                                          source="hq", at=START + 3 * HOUR),
        row("done#copy:m2")],
        [word("done"), word("declined", Outcome.DECLINED), word("withdrawn", Outcome.WITHDRAWN),
         word("gave", Outcome.RETURNED)])
    assert (found.sent, found.completed, found.brought_back, found.returned, found.in_work) == (
        6, 3, 1, 1, 1)
    assert found.differences == () and found.late == 0
    assert found.done == {"done", "declined", "withdrawn"} and found.gave_back == {"gave"}


def test_each_disagreement_is_told_with_what_to_do(make_world: Make) -> None:
    """Item by item: nowhere, twice, at both ends, never sent, both done and returned."""
    found = told(make_world(), [
        row("nowhere"), row("twice"), row("back", ItemState.RETURNED), row("both"),
        row("doubt", ItemState.CLAIMED), row("here", ItemState.LEFT, possible_duplicate=True),
        row("kept", ItemState.LEFT), row("two_sites")],
        [word("nowhere", Outcome.RETURNED), word("twice"), word("twice", at=START + 5 * HOUR),
         word("back"), word("both"), word("both", Outcome.RETURNED, at=START + 3 * HOUR),
         word("doubt"), word("here"), word("kept"), word("alien"), word("two_sites"),
         word("two_sites", where="hq")])
    assert "no run has seen it anywhere since" in what(found, "nowhere")
    assert "done 2 times" in what(found, "twice")
    assert "two may be working on it" in what(found, "back")
    assert "says completed" in what(found, "both") and "returned" in what(found, "both")
    assert "in doubt in the ledger" in what(found, "doubt") and "doubt" in found.done
    assert "left at hq after a put in doubt" in what(found, "here")
    assert "no run ever sent it there" in what(found, "kept")
    assert "no run ever sent it there" in what(found, "alien")
    assert "acme and hq both say" in what(found, "two_sites")


@pytest.mark.parametrize("sla, days, late", [
    (None, 8, 0), (None, 40, 1), (Sla(decision_time=86_400.0), 2, 1),
    (Sla(decision_time=86_400.0), 0, 0),
])
def test_past_its_deadline(make_world: Make, sla: Sla | None, days: int, late: int) -> None:
    """The nearer of the promise and the law; only where the site tells at all, and never of what
    it has completed."""
    rows = [row("open"), row("done"), row("undated", submitted=None)]
    found = told(make_world(), rows, [word("done")], now=START + days * DAY, sla=sla)
    assert found.late == late + (late and sla is not None)
    assert bool(what(found, "open")) is bool(late) and not what(found, "done")
    silent = told(make_world(), rows, [], now=START + 400 * DAY)
    assert silent.late is None and silent.differences == () and silent.in_work == 3
    assert "has not said" in silent.sentence


def test_the_equation_knows_completed_and_returned(make_world: Make) -> None:
    """at target + completed + returned stay what was delivered."""
    world = make_world()
    for number in range(6):
        world.hq.add(f"a{number}")
    world.move()
    words = [word(f"a{number}") for number in range(3)] + [word("a4", Outcome.RETURNED)]
    found = told(world, [], words)
    result = reconcile(world.store, ("r1",), QUEUE, source="hq", target="acme", measures=Measures(
        present=6, source_now=world.hq.measure(), completed_ids=found.done,
        returned_ids=found.gave_back))
    values = {name: term.value for name, term in result.terms.items() if term.value}
    assert values == {"present": 6, "completed": 3, "returned": 1, "at_target": 2}
    assert result.balanced is True


# --- the bill --------------------------------------------------------------------------------

MONTH = Period(START - 5 * DAY, START + 10 * DAY, "America/Chicago")
PRICE = Price(per_application=Decimal("14.50"))


def bill(world: World, rows: Sequence[LedgerRow], words: Sequence[Completion],
         *lines: tuple[str, str | None]) -> tuple[Figures, Compared]:
    world.store.record_items(rows, lease=None)
    world.store.record_completions(words)
    found = figures(world.store.sent(QUEUE, "acme"), world.store.never_sent("acme"), MONTH,
                    tells=world.store.tells("acme"))
    return found, compare([Billed(number, item, None if amount is None else Decimal(amount), "")
                           for number, (item, amount) in enumerate(lines, 2)], found, PRICE)


def test_each_line_of_an_invoice(make_world: Make) -> None:
    """Never sent, twice, returned, too dear, not done yet, and what was forgotten."""
    found, compared = bill(make_world(), [
        row("good"), row("twice"), row("gave"), row("home", ItemState.RETURNED), row("dear"),
        row("open"), row("forgotten"), row("early", at=START - 9 * DAY), row("dup",
                                                                             possible_duplicate=True)],
        [word("good"), word("twice"), word("gave", Outcome.RETURNED), word("dear"),
         word("forgotten"), word("early", at=START - 8 * DAY), word("intake"), word("dup")],
        ("good", None), ("twice", "14.50"), ("twice", "14.50"), ("gave", "14.50"),
        ("home", "14.50"), ("dear", "20"), ("open", "14.50"), ("alien", "14.50"),
        ("intake", "14.50"), ("early", "14.50"), ("dup", "14.50"), ("gave", "-4.50"))
    by = {(each.item_id, each.what): each for each in compared.findings}
    assert set(by) == {
        ("twice", "billed twice"), ("gave", "billed, and returned"),
        ("home", "billed, and returned"), ("dear", "billed too dear"),
        ("open", "billed, not completed"), ("alien", "billed, never sent"),
        ("intake", "billed, sent by no run"), ("dup", "possible duplicate"),
        ("forgotten", "completed, not billed")}
    assert compared.credit == Decimal("14.50") * 4 + Decimal("5.50") - Decimal("4.50")
    assert compared.billed == Decimal("14.50") * 10 + 20 - Decimal("4.50") and compared.lines == 12
    assert by["twice", "billed twice"].line == 4 and "line 3" in by["twice", "billed twice"].detail
    assert found.due == 5 and found.total("sent") == 8 and found.total("completed") == 5
    assert found.total("returned") == 2 and found.total("possible_duplicates") == 1


def test_a_site_that_says_nothing_is_priced_by_what_it_was_sent(make_world: Make) -> None:
    """Less what came back; nothing is called unfinished that nobody asked about."""
    found, compared = bill(make_world(), [row("a"), row("b"), row("c", ItemState.RETURNED)], [],
                           ("a", None))
    assert found.due == 2 and [each.what for each in compared.findings] == ["sent, not billed"]


def test_an_item_that_went_twice_is_done_once(make_world: Make) -> None:
    """Out, back, out again: sent twice, completed once, due once."""
    rows = [row("a", ItemState.RETURNED), row("a", run="r3", at=START + DAY, hop=3)]
    found, _ = bill(make_world(), rows, [word("a", at=START + 2 * DAY)])
    assert (found.total("sent"), found.total("completed"), found.due) == (2, 1, 1)
