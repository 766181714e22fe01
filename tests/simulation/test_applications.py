"""The made-up loan applications, and reading files of their form."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest

from ccfailover.errors import UsageError
from ccfailover.simulation.applications import (
    COLUMNS,
    LENDER,
    MAX_ROW,
    check_digits,
    generate,
    has_valid_check_digits,
    read_csv,
    write_csv,
)

HEADER = ",".join(COLUMNS)
GOOD = "FICTITIOUSLENDER0020A1,20250120,1,1,1000,3,20250301,TX,48001"


def test_check_digits_agree_with_the_regulation() -> None:
    """The worked example of Regulation C, appendix C, comes out, and a slip is noticed."""
    assert check_digits("10Bx939c5543TqA1144M999143X") == "38"
    assert has_valid_check_digits("10Bx939c5543TqA1144M999143X38")
    assert not has_valid_check_digits("10Bx939c5543TqA1144M999134X38")
    with pytest.raises(ValueError, match="ASCII letters"):
        check_digits("A-1")


def test_every_identifier_is_valid_unique_and_plainly_fictitious() -> None:
    """ULIs have the register's length, right check digits and our own made-up lender."""
    ids = [row["uli"] for row in generate(3000, 5)]
    assert len(set(ids)) == 3000
    assert all(len(uli) == 45 and has_valid_check_digits(uli) for uli in ids)
    assert all(uli.startswith(LENDER) and has_valid_check_digits(uli[:20]) for uli in ids)


def test_a_seed_says_everything() -> None:
    """The same seed gives the same applications on every machine; another gives others."""
    text = repr(list(generate(100, 7)))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "de30feba3d7637c5"
    assert list(generate(20, 7)) == list(generate(100, 7))[:20]
    assert not {row["uli"] for row in generate(100, 7)} & {row["uli"] for row in generate(100, 8)}


def test_the_dirt_is_that_of_the_register() -> None:
    """Purchased loans, and only they, have no application date; some places are NA or Exempt."""
    rows = list(generate(5000, 11))
    for row in rows:
        assert tuple(row) == COLUMNS
        assert (row["application_date"] == "NA") == (row["action_taken"] == "6")
        if row["application_date"] != "NA":
            assert row["application_date"] < row["action_date"]
        if row["state"] in ("NA", "Exempt"):
            assert row["county"] == row["state"]
    states = Counter(row["state"] for row in rows)
    counties = Counter(row["county"] for row in rows)
    assert 0.36 < sum(row["application_date"] == "NA" for row in rows) / 5000 < 0.40
    assert 20 < states["NA"] < 90 and 8 < states["Exempt"] < 55
    assert 60 < counties["NA"] < 170 and 15 < counties["Exempt"] < 80
    assert states["CA"] > states["TX"] > states["OK"] > 0
    assert len(states) == 31


def test_counties_lie_in_their_states() -> None:
    """A county's code begins with the code of its state, one code for each state."""
    codes: dict[str, set[str]] = {}
    for row in generate(3000, 3):
        if row["county"].isdecimal():
            codes.setdefault(row["state"], set()).add(row["county"][:2])
    assert all(len(found) == 1 for found in codes.values())
    assert (codes["TX"], codes["CA"], codes["NY"]) == ({"48"}, {"06"}, {"36"})


def test_a_written_file_reads_back(tmp_path: Path) -> None:
    """What is written is read again, dirt included; a failed write leaves nothing."""
    rows = list(generate(500, 2))
    path = tmp_path / "applications.csv"
    assert write_csv(path, rows) == 500
    assert list(read_csv(path)) == rows
    assert path.read_bytes().startswith(HEADER.encode() + b"\r\n")
    with pytest.raises(UsageError, match="cannot write"):
        write_csv(tmp_path / "no" / "such" / "folder.csv", rows)


def test_columns_may_stand_in_any_order_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    """A file that a spreadsheet has rearranged, marked and padded is still understood."""
    names = sorted(COLUMNS)
    cells = dict(zip(COLUMNS, GOOD.split(","), strict=True))
    text = f"{','.join(names)}\n\n{','.join(cells[name] for name in names)}\n\n"
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(read_csv(path)) == [cells]


@pytest.mark.parametrize(("content", "place", "says"), [
    (b"", ":1", "empty"),
    (b"id,name\n1,x\n", ":1", "missing: uli"),
    ((HEADER + ",state\n").encode(), ":1", "twice: state"),
    ((HEADER + ",ssn\n").encode(), ":1", "unknown: ssn"),
    ((HEADER + "\n" + GOOD + ",surplus\n").encode(), ":2", "10 fields instead of 9"),
    ((HEADER + "\n" + GOOD[:-6] + "\n").encode(), ":2", "8 fields instead of 9"),
    ((HEADER + "\n" + GOOD + "\n" + GOOD + "\n").encode(), ":3", "repeats the id of row 2"),
    ((HEADER + "\n" + GOOD.replace("TX", "Texas") + "\n").encode(), ":2", "column state"),
    ((HEADER + "\n" + GOOD.replace("20250120", "2025-01-20") + "\n").encode(), ":2",
     "column application_date"),
    ((HEADER + "\n" + GOOD.replace(",1000,", ",-5,") + "\n").encode(), ":2", "loan_amount"),
    ((HEADER + "\n" + GOOD.replace("A1,", "A\x00,") + "\n").encode(), ":2", ""),
    ((HEADER + "\n" + GOOD.replace("TX", '"TX') + "\n").encode(), ":2", "not CSV"),
    ((HEADER + "\n").encode() + GOOD.encode().replace(b"TX", b"T\xff") + b"\n", ":2", "UTF-8"),
    ((HEADER + "\n" + "A" * 5000 + "\n").encode(), ":2", f"longer than {MAX_ROW:,} bytes"),
    (b"\x89PNG\r\n\x1a\n" + bytes(5000), ":1", "UTF-8"),
])
def test_hostile_files_are_refused_with_their_row(
    tmp_path: Path, content: bytes, place: str, says: str
) -> None:
    """Each names file, row and column, and never shows a value, which is a borrower's."""
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        list(read_csv(path))
    error = caught.value
    assert error.where == f"{path}{place}"
    assert says in error.what
    assert "Texas" not in "".join(error.lines()) and "-5" not in error.what
    assert error.not_done and error.hint


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    """No traceback for a mistyped path, nor for a folder."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            list(read_csv(path))


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    """The memory for ids is bounded."""
    path = tmp_path / "many.csv"
    write_csv(path, generate(11, 1))
    with pytest.raises(UsageError, match="more than 10 applications"):
        list(read_csv(path, limit=10))


@pytest.mark.skipif("CCF_REAL_HMDA" not in os.environ, reason="CCF_REAL_HMDA names no file")
def test_a_real_extract_of_the_register_is_understood() -> None:
    """All 5,000 applications of the public test file, each with an id of its own."""
    rows = list(read_csv(Path(os.environ["CCF_REAL_HMDA"])))
    assert len({row["uli"] for row in rows}) == len(rows) == 5000
    assert all(has_valid_check_digits(row["uli"]) for row in rows)
    assert not {row["uli"] for row in rows} & {row["uli"] for row in generate(5000, 1)}
