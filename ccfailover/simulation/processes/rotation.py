"""Smooth weighted rotation: which destination the next contact goes to."""

from __future__ import annotations

from collections.abc import Mapping


class Rotation:
    """Deterministic, and as even as whole contacts allow.

    Each pick raises every destination's credit by its share, takes the largest (the first by
    name on a tie) and charges it the sum. Over any 100 picks in a row with the same shares each
    destination gets its share exactly; over fewer it is never off by a whole contact or more
    with two destinations. (The scheme that nginx calls smooth weighted round-robin.)
    """

    def __init__(self, shares: Mapping[str, int]) -> None:
        self._credit: dict[str, int] = {}
        self._shares: dict[str, int] = {}
        self.set(shares)

    def set(self, shares: Mapping[str, int]) -> None:
        """New shares start with even credit: what an old share was owed does not carry over."""
        self._shares = {name: shares[name] for name in sorted(shares) if shares[name] > 0}
        self._credit = dict.fromkeys(self._shares, 0)

    def pick(self) -> str:
        for name, share in self._shares.items():
            self._credit[name] += share
        best = max(self._credit, key=lambda name: self._credit[name])
        self._credit[best] -= sum(self._shares.values())
        return best
