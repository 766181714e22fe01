"""perfdata.py: what we read from plugins and what we write ourselves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfailover.health.perfdata import read_perfdata, write_perfdata


@pytest.mark.parametrize(("text", "values"), [
    ("time=0.5s;1;2;0;10", {"time_s": 0.5}),
    ("rta=12.5ms;100,0;500;0 pl=3%;;", {"rta_s": 0.0125, "pl_percent": 3.0}),
    ("'in use'=2KB 'it''s'=1", {"in_use_bytes": 2000.0, "it_s": 1.0}),
    ("a=-1.5e3 b=+2 c=3c", {"a": -1500.0, "b": 2.0, "c_count": 3.0}),
    ("a=1 a=2", {"a": 1.0}),
    ("a=U b=1", {"b": 1.0}),
    ("a=nan b=inf c=1e999 d=0x10 e= =5 f g=1,5 h=1zz", {}),
    ("a=1;~:5;@3:4 junk b=2", {"a": 1.0, "b": 2.0}),
    ("", {}),
])
def test_numbers_are_read_and_the_rest_is_left_out(text: str, values: dict[str, float]) -> None:
    """Units end up in the name, in base units; what does not parse is not guessed at."""
    assert read_perfdata(text) == pytest.approx(values)


@given(st.text(max_size=400))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever a plugin writes: finite numbers under plain names, or nothing."""
    for name, value in read_perfdata(text).items():
        assert name.isascii()
        assert math.isfinite(value)


@given(st.lists(st.tuples(
    st.from_regex(r"[a-z][a-z '=|]{0,10}[a-z]", fullmatch=True),
    st.floats(-1e9, 1e9).map(lambda value: round(value, 6)),
), max_size=8, unique_by=lambda pair: pair[0].translate(str.maketrans(" '=|", "____"))))
def test_what_is_written_reads_back(items: list[tuple[str, float]]) -> None:
    """Labels with blanks, quotes, `=` and `|` are quoted so that any reader gets the numbers."""
    line = " ".join(write_perfdata(label, value, least="0") for label, value in items)
    assert "|" not in line
    found = read_perfdata(line)
    wanted = [value for _, value in items]
    assert all(any(math.isclose(value, other, abs_tol=1e-6) for other in found.values())
               for value in wanted)


def test_the_form_is_exact() -> None:
    """`'label'=value[UOM];warn;crit;min;max`, trailing fields left out, `U` without a unit."""
    assert write_perfdata("a b", 50, "%", least="0", most="100") == "'a b'=50%;;;0;100"
    assert write_perfdata("it's", 1.25, "s") == "'it''s'=1.25s"
    assert write_perfdata("x", None, "s", least="0") == "'x'=U;;;0"
