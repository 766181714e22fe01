"""Shares: where a queue's arrivals go, in whole percent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

TREATMENTS = frozenset({"message", "callback", "voicemail"})
"""Destinations that are not sites: the caller is told, called back, or recorded."""


class Shares(Mapping[str, int]):
    """Percentages over destinations (sites and treatments); immutable; they sum to 100.

    A destination with 0 is dropped, so that two ways to write the same shares are equal.
    Raises ValueError when a percentage is outside 0..100 or not whole, or the sum is not 100.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: Mapping[str, int]) -> None:
        for name, value in parts.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
                raise ValueError(f"share of {name} must be a whole percentage 0..100, is {value!r}")
        if sum(parts.values()) != 100:
            raise ValueError(f"shares sum to {sum(parts.values())}, not to 100")
        self._parts = {name: parts[name] for name in sorted(parts) if parts[name]}

    def __getitem__(self, name: str) -> int:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __hash__(self) -> int:
        return hash(tuple(self._parts.items()))

    def __repr__(self) -> str:
        return f"Shares({self._parts})"

    def __str__(self) -> str:
        """Largest first: `acme 70 % · callback 30 %`."""
        order = sorted(self._parts.items(), key=lambda part: (-part[1], part[0]))
        return " · ".join(f"{name} {value} %" for name, value in order)

    def of(self, name: str) -> int:
        """The share of `name`, 0 when it has none."""
        return self._parts.get(name, 0)

    def to_json(self) -> dict[str, int]:
        return dict(self._parts)
