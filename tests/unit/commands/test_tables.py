"""Tables and progress where there is no terminal: one line each, as they are, and no rich."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from ccfailover.commands.common import plain_table, table
from ccfailover.commands.live import Ticker
from ccfailover.model.journal import Record


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ROWS = [("loan_calls", "hq 100 %", "–"), ("applications", "acme 70 % · message 30 %", "a  [b] c")]
COLUMNS = ("queue", "now", "why")


def test_a_table_without_a_terminal_is_that_of_a_terminal_without_colour() -> None:
    """The same cells under the same heads in the same order; markup is text in both."""
    drawn, plain = Terminal(), io.StringIO()
    for stream in (drawn, plain):
        with contextlib.redirect_stdout(stream):
            table("Title", COLUMNS, ROWS)

    def words(text: str) -> list[list[str]]:
        bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
        return [line.split() for line in bare.splitlines() if line.strip()]

    assert words(plain.getvalue()) == words(drawn.getvalue())
    assert "[b]" in plain.getvalue()


def test_columns_stand_under_their_heads() -> None:
    """Every cell of a column begins where its head does, and no line ends in blanks."""
    lines = plain_table("", COLUMNS, ROWS)
    assert lines[0] == "" and lines[-1] == ""
    head, rule, *rows = lines[1:-1]
    assert set(rule.strip()) == {"─"}
    assert len(rule) == max(map(len, (head, *rows)))
    for row, cells in zip(rows, ROWS, strict=True):
        at = [head.index(name) for name in COLUMNS]
        assert [row[place:].startswith(cell) for place, cell
                in zip(at, cells, strict=True)] == [True] * 3
    assert all(line == line.rstrip() for line in lines)


def test_a_long_cell_stays_on_one_line() -> None:
    """Whatever reads a pipe line by line finds a row whole, line breaks inside a cell included."""
    lines = plain_table("", ("why",), [("x" * 300 + "\nsecond",)])
    (row,) = [line for line in lines if "x" in line]
    assert row == " " + "x" * 300 + " second"


def test_a_table_without_rows_has_its_head() -> None:
    """Nothing to tell is told as an empty table."""
    assert plain_table("", ("a", "b"), []) == ["", " a   b", " ─────", ""]


def record(kind: str, **data: str) -> Record:
    return Record("run:r1-abcd", 1, 0, 1, "dana", kind, data, "0" * 64, "0" * 64)


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_without_a_terminal_is_a_line_a_step(
    quiet: bool, capsys: pytest.CaptureFixture[str],
) -> None:
    """On stderr: what ended and how; nothing of what only began, nothing with --json."""
    ticker = Ticker(quiet=quiet)
    ticker.event(record("step.started", step="b/1-x"))
    ticker.event(record("step.succeeded", step="b/1-x", detail="reads [acme] 100 %"))
    ticker.event(record("branch.paused", branch="b", reason="asked to stop"))
    ticker.progress("b/2-y", 3, 10, "on the way")
    ticker.close()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ([] if quiet else [
        "✓ done          b/1-x  reads [acme] 100 %", "‖ PAUSED        b  asked to stop"])


def test_progress_at_a_terminal_has_a_live_line() -> None:
    """At a terminal a long step's count is shown while it goes on."""
    stream = Terminal()
    with contextlib.redirect_stderr(stream):
        ticker = Ticker(quiet=False)
        ticker.progress("b/2-y", 3, 10, "on the way")
        ticker.event(record("step.succeeded", step="b/1-x", detail="reads [acme] 100 %"))
        ticker.close()
    assert "b/2-y: 3 of 10" in stream.getvalue()
    assert "b/1-x  reads [acme] 100 %" in stream.getvalue()
