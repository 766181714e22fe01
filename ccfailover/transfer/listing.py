"""Files that providers send: completions and invoices, as CSV or JSONL. Nothing in them is
trusted: each line is read by itself, bounded, and a line that makes no sense is told by its number
and does not stop the others."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ccfailover.errors import UsageError
from ccfailover.model.books import Completion, Outcome, is_canary
from ccfailover.model.plan import Json
from ccfailover.runtime import SECOND
from ccfailover.transfer.rows import usable_id

MAX_LINE = 16_384
"""Bytes of one line."""

MAX_LINES = 5_000_000
"""Lines of one file; more is not read, and said."""

MAX_REFERENCE = 120
MAX_PROBLEMS = 100_000
"""So many lines that make no sense are told one by one; with more, the file is another file."""

AHEAD = 24 * 3600 * SECOND
"""µs by which a time may lie ahead of ours before it is taken for a mistake."""

_AMOUNT = re.compile(r"-?\d{1,9}(\.\d{1,4})?", re.ASCII)

T = TypeVar("T")


class Nonsense(ValueError):
    """A line that cannot be used; the text says why, without its content."""


@dataclass(frozen=True)
class BadLine:
    """`line` counts from 1."""

    line: int
    why: str

    def to_json(self) -> dict[str, Json]:
        return dict(self.__dict__)


@dataclass
class Listing(Generic[T]):
    """Iterate once over the lines that make sense; what was wrong with the others, how many
    there were and the file's digest are known afterwards. Raises UsageError for a file that is no
    listing at all."""

    path: Path
    needed: Sequence[str]
    make: Callable[[dict[str, str], int], T]
    problems: list[BadLine] = field(default_factory=list)
    lines: int = 0
    sha256: str = ""

    def __iter__(self) -> Iterator[T]:
        try:
            with self.path.open("rb") as file:
                yield from self._read(file)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error.strerror}",
                             not_done="nothing of it was used") from error

    def _read(self, file: BinaryIO) -> Iterator[T]:
        digest, columns, is_json = hashlib.sha256(), None, None
        for number in range(1, MAX_LINES + 2):
            raw, whole = _line(file)
            if not raw:
                break
            if number > MAX_LINES:
                raise UsageError(f"{self.path} has more than {MAX_LINES:,} lines",
                                 not_done="what came after was not read", hint="split it")
            digest.update(raw)
            try:
                text = _text(raw, whole)
                if not text.strip():
                    continue
                if is_json is None:
                    is_json = text.lstrip("\ufeff \t").startswith("{")
                if not is_json and columns is None:
                    columns = self._columns(text)
                    continue
                self.lines += 1
                fields = _object(text) if is_json else _cells(text, columns or [])
                made = self.make(fields, number)
            except Nonsense as error:
                self._bad(number, str(error))
                continue
            yield made
        self.sha256 = digest.hexdigest()

    def _bad(self, number: int, why: str) -> None:
        self.problems.append(BadLine(number, why))
        if len(self.problems) > MAX_PROBLEMS:
            raise UsageError(f"more than {MAX_PROBLEMS:,} lines of {self.path} make no sense",
                             not_done="the rest of it was not read",
                             hint=f"it should have the columns {', '.join(self.needed)}")

    def _columns(self, text: str) -> list[str]:
        names = [cell.strip().lower() for cell in _split(text.lstrip("\ufeff"))]
        lacking = [name for name in self.needed if name not in names]
        if lacking or len(set(names)) < len(names):
            what = f"lacks {', '.join(lacking)}" if lacking else "names a column twice"
            raise UsageError(f"the first line of {self.path} {what}",
                             not_done="nothing of it was used",
                             hint=f"CSV with the columns {', '.join(self.needed)}; or one JSON "
                             "object a line")
        return names


def _line(file: BinaryIO) -> tuple[bytes, bool]:
    """The next line, cut off when it is too long (the rest is skipped), and whether it is whole."""
    raw = file.readline(MAX_LINE + 1)
    if len(raw) <= MAX_LINE:
        return raw, True
    rest = raw
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(1 << 16)
    return raw, raw.endswith(b"\n")


def _text(raw: bytes, whole: bool) -> str:
    if not whole:
        raise Nonsense(f"longer than {MAX_LINE} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Nonsense("not UTF-8") from None
    if "\0" in text:
        raise Nonsense("holds a zero byte")
    return text


def _split(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text.rstrip("\r\n")], strict=True))
    except csv.Error:
        raise Nonsense("quotes that do not fit (a field may not run over several lines)") from None
    return rows[0] if rows else []


def _cells(text: str, columns: Sequence[str]) -> dict[str, str]:
    cells = _split(text)
    if len(cells) != len(columns):
        raise Nonsense(f"{len(cells)} fields, {len(columns)} are named in the first line")
    return dict(zip(columns, cells, strict=True))


def _object(text: str) -> dict[str, str]:
    try:
        found = json.loads(text.lstrip("\ufeff"), parse_float=str, parse_int=str,
                           parse_constant=str)
    except (ValueError, RecursionError):
        raise Nonsense("not JSON") from None
    if not isinstance(found, dict):
        raise Nonsense("JSON, but no object")
    return {str(name).lower(): value for name, value in found.items() if isinstance(value, str)}


# --- what stands in them -----------------------------------------------------------------------


def item_id(fields: dict[str, str]) -> str:
    found = fields.get("id", "").strip()
    if not found:
        raise Nonsense("no id")
    if is_canary(found):
        raise Nonsense("the id of a canary, which is no application: whoever works in that queue "
                       "must leave ids that begin with ccf-canary alone")
    if not usable_id(found):
        raise Nonsense("an id that is too long or cannot be printed")
    return found


def reference(fields: dict[str, str]) -> str:
    found = fields.get("reference", "").strip()
    if len(found) > MAX_REFERENCE or not (found.isprintable() or not found):
        raise Nonsense("a reference that is too long or cannot be printed")
    return found


def zone_of(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def instant(text: str, zone: tzinfo, *, end_of_day: bool = True) -> int | None:
    """µs of ISO 8601: with an offset, without one (then in `zone`), or a day alone, which ends at
    its last moment there (or begins with its first). None: no time."""
    said = text.strip()
    if not 8 <= len(said) <= 40 or not said.isascii():
        return None
    try:
        if len(said) <= 10:
            moment = datetime.combine(date.fromisoformat(said),
                                      time.max if end_of_day else time.min, zone)
        else:
            moment = datetime.fromisoformat(said)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=zone)
        since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def completions(path: Path, *, site: str, zone: tzinfo, now: int) -> Listing[Completion]:
    """A site's word on what became of its work: columns `id`, `outcome` (completed, declined,
    withdrawn, returned), `time`, and if it has one its own `reference`."""

    def make(fields: dict[str, str], line: int) -> Completion:
        name = item_id(fields)
        try:
            outcome = Outcome(fields.get("outcome", "").strip().lower())
        except ValueError:
            raise Nonsense("an outcome that is none of "
                           f"{', '.join(each.value for each in Outcome)}") from None
        at = instant(fields.get("time", ""), zone)
        if at is None:
            raise Nonsense("no time in the form of ISO 8601")
        if at > now + AHEAD:
            raise Nonsense("a time that is yet to come")
        return Completion(site, name, outcome, at, reference(fields))

    return Listing(path, ("id", "outcome", "time"), make)


@dataclass(frozen=True)
class Billed:
    """One line of an invoice; `amount` None: it names none. Below 0: a credit."""

    line: int
    item_id: str
    amount: Decimal | None
    reference: str


def invoice(path: Path) -> Listing[Billed]:
    """A provider's invoice: column `id`, and where it has them `amount` and `reference`."""

    def make(fields: dict[str, str], line: int) -> Billed:
        said = fields.get("amount", "").strip()
        if said and not _AMOUNT.fullmatch(said):
            raise Nonsense("an amount that is no plain number")
        return Billed(line, item_id(fields), Decimal(said) if said else None, reference(fields))

    return Listing(path, ("id",), make)
