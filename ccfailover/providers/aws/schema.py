"""The parameters that all of Amazon's kinds take, and readers of what is nested in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ccfailover.providers.params import DURATION, REFERENCE

REGION: Final[Mapping[str, object]] = {"type": "string", "pattern": "^[a-z]{2}(-[a-z]+)+-[0-9]+$"}
ACCOUNT: Final[Mapping[str, object]] = {
    "endpoint_url": {
        "type": "string", "pattern": "^https?://",
        "description": "another address than Amazon's own, for a private endpoint or a test",
    },
    "profile": {"type": "string", "minLength": 1,
                "description": "a profile of the shared AWS configuration"},
    "credentials": {
        "type": "object", "required": ["key_id", "secret"], "additionalProperties": False,
        "description": "without it boto3 looks in its usual places",
        "properties": {"key_id": REFERENCE, "secret": REFERENCE, "session_token": REFERENCE},
    },
    "timeout": DURATION,
}


def names(description: str, pattern: str = "") -> Mapping[str, object]:
    """The schema of a block of sites and treatments, each with the platform's name for it."""
    value: dict[str, object] = {"type": "string", "minLength": 1, "maxLength": 500}
    if pattern:
        value["pattern"] = pattern
    return {"type": "object", "minProperties": 1, "additionalProperties": value,
            "description": description}
