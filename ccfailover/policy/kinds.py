"""What `check` must know of the kinds that a policy names; `wiring` answers it.

A kind's schema is JSON Schema (2020-12). Beside the standard keywords these are understood:
`x-secret: true` (the value must be a reference, and is never repeated in a message), `x-message`
(the sentence to show when the value is wrong) and `x-check` (`date`, `timezone`, `country`).
Unknown keys are errors, also where a schema forgets to say `additionalProperties: false`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from ccfailover.model.capabilities import Capabilities

Schema = Mapping[str, object]


class KindSchemas(Protocol):
    """Kinds by name. The methods that take a kind are only called with one of its `*_kinds()`."""

    def provider_kinds(self) -> Sequence[str]: ...

    def provider_schema(self, kind: str) -> Schema:
        """Of the provider block's own keys (all but `kind`)."""
        ...

    def lever_schema(self, kind: str) -> Schema:
        """Of what a route, intake, backlog or consumers entry may hold beside `provider`."""
        ...

    def capabilities(self, kind: str, params: Mapping[str, object],
                     lever: Mapping[str, object] | None) -> Capabilities: ...

    def probe_kinds(self) -> Sequence[str]: ...

    def probe_schema(self, kind: str) -> Schema: ...

    def step_kinds(self) -> Sequence[str]: ...

    def step_schema(self, kind: str) -> Schema: ...


DURATION: Final[Schema] = {
    "anyOf": [
        {"type": "string", "maxLength": 40,
         "pattern": r"^(?=\d)(\d+(\.\d+)?d)?(\d+(\.\d+)?h)?(\d+(\.\d+)?m(?!s))?(\d+(\.\d+)?s)?"
                    r"(\d+ms)?$"},
        {"const": 0},
    ],
    "x-message": "must be a duration with its unit, such as 10s, 5m, 2h, 1d or 1h30m",
}
"""For the schemas of kinds; `units.duration` reads the value."""

SECRET: Final[Schema] = {"type": "string", "x-secret": True}
"""For the schemas of kinds: `env:NAME`, `file:/path` or `aws-secretsmanager:ID`."""
