"""JSON from outside: strict parsing, JSON pointers, names made safe to print."""

from __future__ import annotations

import pytest

from ccfailover.providers.documents import MISSING, at, parse, quoted


@pytest.mark.parametrize("body", [
    b"", b"{", b"\xff", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1, "a": 2}',
    b"[" * 100_000, b"9" * 5000, b"{} {}",
])
def test_what_is_no_strict_json_is_a_value_error(body: bytes) -> None:
    """Every kind of nonsense ends in ValueError, never in another exception."""
    with pytest.raises(ValueError):
        parse(body)


def test_an_error_holds_nothing_of_the_document() -> None:
    """The text may be logged, so the content must not be in it."""
    with pytest.raises(ValueError) as caught:
        parse(b'{"ssn": 078-05-1120}')
    assert "078" not in str(caught.value)


@pytest.mark.parametrize("pointer, found", [
    ("", {"a": [1, {"b/c": 2, "~": None}], "": 3}),
    ("/a/0", 1), ("/a/1/b~1c", 2), ("/a/1/~0", None), ("/", 3),
    ("/a/2", MISSING), ("/a/-1", MISSING), ("/a/01", MISSING), ("/b", MISSING),
    ("/a/0/x", MISSING), ("/a/٣", MISSING),
])
def test_pointers_follow_the_rfc(pointer: str, found: object) -> None:
    """RFC 6901: escapes, list indices without sign or leading zero, and nothing is not None."""
    assert at({"a": [1, {"b/c": 2, "~": None}], "": 3}, pointer) == found


def test_a_foreign_name_is_safe_to_print() -> None:
    """Control characters are escaped and length is cut."""
    assert "\n" not in quoted("a\nb\x1b[31m") and "\x1b" not in quoted("a\nb\x1b[31m")
    assert len(quoted("x" * 10_000)) < 80
