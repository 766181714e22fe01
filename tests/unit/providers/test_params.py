"""Durations and references as policies write them."""

from __future__ import annotations

import jsonschema
import pytest

from ccfailover.providers.params import DURATION, REFERENCE, is_reference, seconds


@pytest.mark.parametrize("value, wanted", [
    (None, 7.0), (3, 3.0), (0.5, 0.5), ("500ms", 0.5), ("10s", 10.0), ("2m", 120.0),
    ("1h", 3600.0), ("1.5s", 1.5),
])
def test_durations_are_seconds(value: object, wanted: float) -> None:
    """Numbers are seconds; units say otherwise."""
    assert seconds(value, 7.0) == wanted
    if value is not None:
        jsonschema.validate(value, DURATION)


@pytest.mark.parametrize("value", ["", "10", "ten", "-1s", "1 s", 0, -1, True, "1d",
                                   "0s", "0ms", "00.0h"])
def test_other_durations_do_not_pass_the_schema(value: object) -> None:
    """What `seconds` could not read never reaches it."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, DURATION)


@pytest.mark.parametrize("value, yes", [
    ("env:TOKEN", True), ("file:/run/secrets/x", True), ("aws-secretsmanager:a/b", True),
    ("hunter2", False), ("env:", False), ("https://x", False), ("environment:x", False),
])
def test_a_secret_in_plain_text_is_no_reference(value: str, yes: bool) -> None:
    """The schema and `is_reference` agree on what is one."""
    assert is_reference(value) is yes
    assert jsonschema.Draft202012Validator(REFERENCE).is_valid(value) is yes
