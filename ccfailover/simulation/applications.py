"""Loan applications in the form of the US HMDA loan register, made up or read from a file.

Nothing here comes from a real register: the lender's identifier spells that it is fictitious,
and every value is drawn from a seed. What is kept is the form (nine columns, codes as the
register writes them) and its dirt: `NA` and `Exempt` where a number or a code should be.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

from ccfailover.errors import UsageError

COLUMNS = (
    "uli", "application_date", "loan_type", "loan_purpose", "loan_amount",
    "action_taken", "action_date", "state", "county",
)
MAX_ROW = 2_000
"""Bytes of one row. A row of this form has about 85."""

MAX_ROWS = 1_000_000
LENDER = "FICTITIOUSLENDER00"
"""First 18 characters of the lender's identifier (ISO 17442); two check digits follow."""

T = TypeVar("T")

# State → (FIPS code, weight, counties). Weights follow the population, roughly.
_STATES: Mapping[str, tuple[str, int, int]] = {
    "CA": ("06", 12, 58), "NY": ("36", 8, 62), "IL": ("17", 7, 102), "TX": ("48", 10, 254),
    "FL": ("12", 8, 67), "MI": ("26", 5, 83), "TN": ("47", 4, 95), "PA": ("42", 5, 67),
    "OH": ("39", 5, 88), "MA": ("25", 3, 14), "WV": ("54", 2, 55), "AL": ("01", 2, 67),
    "NJ": ("34", 3, 21), "NC": ("37", 4, 100), "VA": ("51", 3, 95), "MN": ("27", 2, 87),
    "GA": ("13", 4, 159), "AZ": ("04", 3, 15), "MS": ("28", 1, 82), "PR": ("72", 1, 78),
    "IN": ("18", 2, 92), "NM": ("35", 2, 33), "MD": ("24", 2, 24), "OK": ("40", 3, 77),
    "WI": ("55", 2, 72), "KS": ("20", 1, 105), "HI": ("15", 1, 5), "KY": ("21", 2, 120),
    "WA": ("53", 3, 39),
}
_PURCHASED = "6"
"""`action_taken` 6: a loan bought from another lender, whose application date is `NA`."""

_ACTIONS = (("1", 10), ("2", 9), ("3", 10), ("4", 17), ("5", 16), (_PURCHASED, 38))
_TYPES = (("1", 32), ("2", 19), ("3", 21), ("4", 28))
_PURPOSES = (("1", 20), ("2", 21), ("31", 9), ("32", 10), ("4", 21), ("5", 19))
_PER_MILLE_NO_STATE = (("NA", 10), ("Exempt", 5), ("", 985))
_PER_MILLE_NO_COUNTY = (("NA", 12), ("Exempt", 3), ("", 985))

_CODE = re.compile(r"[0-9]{1,2}|NA|Exempt")
_DATE = re.compile(r"[0-9]{8}|NA|Exempt")
_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "uli": (re.compile(r"[A-Za-z0-9]{1,45}"), "1 to 45 letters and digits"),
    "application_date": (_DATE, "YYYYMMDD, NA or Exempt"),
    "loan_type": (_CODE, "a code of one or two digits, NA or Exempt"),
    "loan_purpose": (_CODE, "a code of one or two digits, NA or Exempt"),
    "loan_amount": (re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?|NA|Exempt"),
                    "an amount, NA or Exempt"),
    "action_taken": (_CODE, "a code of one or two digits, NA or Exempt"),
    "action_date": (_DATE, "YYYYMMDD, NA or Exempt"),
    "state": (re.compile(r"[A-Z]{2}|Exempt"), "two capital letters, NA or Exempt"),
    "county": (re.compile(r"[0-9]{5}|NA|Exempt"), "five digits, NA or Exempt"),
}


class _Draws:
    """Numbers from SHA-256 in counter mode: the same for a seed on every Python, for ever."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._n = 0

    def below(self, limit: int) -> int:
        """0 … limit-1. With 64 bits drawn, the bias is under one in 10^12 for limits here."""
        self._n += 1
        digest = hashlib.sha256(f"{self._seed}:{self._n}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % limit

    def weighted(self, choices: Sequence[tuple[T, int]]) -> T:
        at = self.below(sum(weight for _, weight in choices))
        for choice, weight in choices:
            at -= weight
            if at < 0:
                return choice
        raise AssertionError("a draw below the sum of the weights always finds its choice")

    def text(self, length: int) -> str:
        return "".join("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[self.below(36)]
                       for _ in range(length))


def check_digits(text: str) -> str:
    """Two digits that make `text` + digits valid under ISO 7064 MOD 97-10.

    Letters count as 10 … 35, as HMDA's Regulation C, appendix C, prescribes for a ULI and
    ISO 17442 for an LEI. Raises ValueError for anything but ASCII letters and digits.
    """
    return f"{98 - _mod97(text + '00'):02d}"


def has_valid_check_digits(text: str) -> bool:
    """True when the last two characters are right for the rest."""
    return len(text) > 2 and text[-2:].isdecimal() and _mod97(text) == 1


def _mod97(text: str) -> int:
    if not (text.isascii() and text.isalnum()):
        raise ValueError("check digits are of ASCII letters and digits only")
    return int("".join(str(int(character, 36)) for character in text)) % 97


def generate(count: int, seed: int, *, year: int = 2025) -> Iterator[dict[str, str]]:
    """`count` applications of one year, the same for the same seed; every `uli` is unique.

    About 38 % are purchased loans without an application date, 1.5 % lack the state and about
    3 % the county (`NA` or `Exempt`).
    """
    lender = LENDER + check_digits(LENDER)
    states = [(state, weight) for state, (_, weight, _) in _STATES.items()]
    draws = _Draws(seed)
    for index in range(count):
        # The index inside the identifier makes it unique whatever was drawn.
        uli = lender + draws.text(17) + f"{index % 1_000_000:06d}"
        action = draws.weighted(_ACTIONS)
        applied = date(year, 1, 2) + timedelta(days=draws.below(300))
        acted = min(applied + timedelta(days=1 + draws.below(90)), date(year, 12, 31))
        state = draws.weighted(_PER_MILLE_NO_STATE) or draws.weighted(states)
        county = draws.weighted(_PER_MILLE_NO_COUNTY)
        if state not in _STATES:
            county = state
        elif not county:
            code, _, counties = _STATES[state]
            county = f"{code}{2 * draws.below(counties) + 1:03d}"
        yield {
            "uli": uli + check_digits(uli),
            "application_date": "NA" if action == _PURCHASED else f"{applied:%Y%m%d}",
            "loan_type": draws.weighted(_TYPES),
            "loan_purpose": draws.weighted(_PURPOSES),
            "loan_amount": str(1_000 + draws.below(453_000)),
            "action_taken": action,
            "action_date": f"{acted:%Y%m%d}",
            "state": state,
            "county": county,
        }


def write_csv(path: Path, applications: Iterable[Mapping[str, str]]) -> int:
    """Writes a new file of this form, complete or not at all; returns how many rows it has.

    Raises UsageError when the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    written = 0
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for row in applications:
                writer.writerow(row)
                written += 1
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"cannot write: {error.strerror}", where=str(path),
                         not_done="no applications were written") from None
    return written


def read_csv(path: Path, *, limit: int = MAX_ROWS) -> Iterator[dict[str, str]]:
    """The applications in a file of this form, row by row; columns may stand in any order.

    Raises UsageError with `file:row` (the header is row 1) at the first row that is too long,
    not UTF-8, not of this form, or repeats an id. Messages name the column, never the value:
    it belongs to a borrower.
    """
    try:
        with path.open("rb") as file:
            header = _header(path, file.readline(MAX_ROW + 1))
            seen: dict[str, int] = {}
            number = 1
            while line := file.readline(MAX_ROW + 1):
                number += 1
                if not line.strip(b"\r\n"):
                    continue
                row = _row(path, number, header, line)
                first = seen.setdefault(row["uli"], number)
                if first != number:
                    raise _bad(path, number, f"column uli repeats the id of row {first}")
                if len(seen) > limit:
                    raise _bad(path, number, f"more than {limit:,} applications")
                yield row
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror}", where=str(path),
                         not_done="no applications were read",
                         hint="give the path of a readable CSV file") from None


def _header(path: Path, line: bytes) -> list[str]:
    """Raises UsageError unless the first row names each column once."""
    if not line:
        raise _bad(path, 1, "the file is empty")
    names = [name.strip() for name in _cells(path, 1, line.removeprefix(b"\xef\xbb\xbf"))]
    missing = [name for name in COLUMNS if name not in names]
    twice = sorted({name for name in names if name in COLUMNS and names.count(name) > 1})
    unknown = [name[:30] for name in names if name not in COLUMNS]
    wrong = [f"{what}: {', '.join(found[:9])}" for what, found in
             (("missing", missing), ("twice", twice), ("unknown", unknown)) if found]
    if wrong:
        raise _bad(path, 1, f"the header has the wrong columns ({'; '.join(wrong)})")
    return names


def _row(path: Path, number: int, header: Sequence[str], line: bytes) -> dict[str, str]:
    cells = _cells(path, number, line)
    if len(cells) != len(header):
        raise _bad(path, number, f"{len(cells)} fields instead of {len(header)}")
    row = dict(zip(header, cells, strict=True))
    for name in COLUMNS:
        form, meaning = _FORMS[name]
        if not form.fullmatch(row[name]):
            raise _bad(path, number, f"column {name} is not {meaning}")
    return {name: row[name] for name in COLUMNS}


def _cells(path: Path, number: int, line: bytes) -> list[str]:
    if len(line) > MAX_ROW:
        raise _bad(path, number, f"the row is longer than {MAX_ROW:,} bytes")
    try:
        return next(csv.reader([line.decode("utf-8").rstrip("\r\n")], strict=True), [])
    except UnicodeDecodeError:
        raise _bad(path, number, "the row is not UTF-8 text") from None
    except csv.Error:
        raise _bad(path, number, "the row is not CSV (a quote that is not closed?)") from None


def _bad(path: Path, number: int, what: str) -> UsageError:
    return UsageError(what, where=f"{path}:{number}",
                      not_done="no application from this row on was read",
                      hint=f"the form is a CSV file with the header {','.join(COLUMNS)}")
