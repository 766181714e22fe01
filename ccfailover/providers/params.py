"""What several kinds' parameters share: durations, references, and their JSON Schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

REFERENCE: Final[Mapping[str, object]] = {
    "type": "string",
    "pattern": "^(env|file|aws-secretsmanager):.+$",
    "description": "a reference to a secret (env:NAME, file:PATH), never the secret itself",
}
DURATION: Final[Mapping[str, object]] = {
    "type": ["number", "string"],
    "exclusiveMinimum": 0,
    "maximum": 43_200,
    "pattern": r"^(?![0.]+[a-z])[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h)$",
    "description": "seconds, or 500ms, 10s, 2m, 1h",
}
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_REFERENCE = re.compile(r"(env|file|aws-secretsmanager):.")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def seconds(value: object, default: float) -> float:
    """A duration parameter in seconds. The kind's schema has checked its form."""
    if value is None:
        return default
    if isinstance(value, int | float):
        return float(value)
    match = _DURATION.fullmatch(str(value))
    if match is None:
        raise ValueError(f"not a duration: {value!r}")
    return float(match[1]) * _UNITS[match[2]]


def is_reference(value: str) -> bool:
    return _REFERENCE.match(value) is not None


def mapping(value: object) -> Mapping[str, object]:
    """A nested block, or nothing."""
    return value if isinstance(value, Mapping) else {}


def text(value: object, default: str = "") -> str:
    return value if isinstance(value, str) else default


def texts(value: object) -> dict[str, str]:
    """A block of names and strings."""
    return {str(name): str(item) for name, item in mapping(value).items()}
