"""Files from outside: what makes sense is read, what does not is told by its line."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ccfailover.errors import UsageError
from ccfailover.model.books import Completion, Outcome
from ccfailover.runtime import SECOND
from ccfailover.transfer import listing

NOW = 1_790_000_000 * SECOND
"""2026-09-21 14:13:20 UTC."""


def read(path: Path, data: bytes | str) -> tuple[list[Completion], dict[int, str]]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    found = listing.completions(path, site="acme", zone=ZoneInfo("America/Chicago"), now=NOW)
    words = list(found)
    return words, {bad.line: bad.why for bad in found.problems}


def test_csv_with_everything_that_goes_wrong(tmp_path: Path) -> None:
    """Every bad line is told, by number and without its content, and the good ones are kept."""
    rows = ["\ufeffID,Outcome,Time,Reference,Extra",
            "A1,completed,2026-09-20T10:00:00Z,R1,x", '"A,2",DECLINED,2026-09-20 10:00:00,,',
            "A3,returned,2026-09-20,,", "", "A4,lost,2026-09-20,,", ",completed,2026-09-20,,",
            "A5,completed,yesterday,,", "A6,completed,2027-09-20,,", "A7,completed", 'A8,"x,y,,',
            "ccf-canary-r1-1,completed,2026-09-20,,", "A\x1b[31m,completed,2026-09-20,,",
            "A9" * 200 + ",completed,2026-09-20,,", "B1,completed,2026-09-20," + "r" * 200 + ",",
            "B2,completed,20260920,,"]
    text = "\r\n".join(rows).encode() + b"\r\n\xff\xfe,completed,2026-09-20,,\r\n"
    text += b"B3,completed,2026-09-20,\0,\n" + b"x" * 50_000 + b"\nB4,withdrawn,2026-09-20,,"
    words, bad = read(tmp_path / "c.csv", text)
    assert [(each.item_id, each.outcome) for each in words] == [
        ("A1", Outcome.COMPLETED), ("A,2", Outcome.DECLINED), ("A3", Outcome.RETURNED),
        ("B2", Outcome.COMPLETED), ("B4", Outcome.WITHDRAWN)]
    assert sorted(bad) == [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19]
    assert "canary" in bad[12] and "yet to come" in bad[9] and "longer than" in bad[19]
    assert not any("\x1b" in why or "A9" in why for why in bad.values())
    assert words[0].at == listing.instant("2026-09-20T10:00:00+00:00", UTC)
    assert words[1].at - words[0].at == 5 * 3600 * SECOND, "the site's own time zone"


def test_json_lines(tmp_path: Path) -> None:
    """One object a line; numbers are ids as they are written; depth and size are bounded."""
    deep = '{"id":' + "[" * 5000 + "]" * 5000 + "}"
    words, bad = read(tmp_path / "c.jsonl", "\n".join([
        '{"id": 1200000000000000000042, "outcome": "completed", "time": "2026-09-20T10:00:00Z"}',
        deep, "[1]", '{"id": {"x": 1}, "outcome": "completed", "time": "2026-09-20"}', "{"]))
    assert [each.item_id for each in words] == ["1200000000000000000042"]
    assert sorted(bad) == [2, 3, 4, 5]


def test_a_day_alone_ends_at_its_end_there(tmp_path: Path) -> None:
    """So that what was delivered and completed on one day is not completed before it came; the
    same file later gives the same instant."""
    words, _ = read(tmp_path / "c.csv", "id,outcome,time\nA,completed,2026-09-21\n")
    assert words[0].at == listing.instant("2026-09-22T04:59:59.999999Z", UTC)


@pytest.mark.parametrize("text, what", [
    ("a,b,c\n1,2,3\n", "lacks id, outcome, time"), ("id,outcome,time,id\n", "names a column twice"),
])
def test_no_such_list(tmp_path: Path, text: str, what: str) -> None:
    """A file of another kind is refused, and says which columns it should have."""
    with pytest.raises(UsageError, match=what):
        read(tmp_path / "c.csv", text)
    with pytest.raises(UsageError, match="cannot be read"):
        list(listing.completions(tmp_path / "none", site="acme", zone=UTC, now=NOW))


def test_amounts_are_plain_numbers(tmp_path: Path) -> None:
    """No exponents, no infinities, no separators."""
    path = tmp_path / "i.csv"
    path.write_text("id,amount\nA,14.50\nB,\nC,1e9\nD,NaN\nE,\"1,000\"\nF,-14.50\nG,99999999999\n")
    found = listing.invoice(path)
    assert [(each.item_id, str(each.amount)) for each in found] == [
        ("A", "14.50"), ("B", "None"), ("F", "-14.50")]
    assert [bad.line for bad in found.problems] == [4, 5, 6, 8]
