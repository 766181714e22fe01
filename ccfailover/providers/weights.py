"""Shares and weights, of platforms that spread by weights and not by percent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from ccfailover.model.shares import Shares


def shares_of(weights: Mapping[str, int | Fraction]) -> Shares:
    """What these weights come to in whole percent, by largest remainder.

    Whoever gets anything has 1 % at least: a share that is there is never shown as none. Raises
    ValueError when nobody gets anything, or when so many do that 1 % each is too much.
    """
    total = sum(weights.values())
    taking = sorted(name for name, weight in weights.items() if weight > 0)
    if not taking:
        raise ValueError("no destination has a weight")
    if len(taking) > 100:
        raise ValueError("more than 100 destinations have a weight")
    exact = {name: Fraction(weights[name] * 100) / total for name in taking}
    parts = {name: max(1, math.floor(share)) for name, share in exact.items()}
    while (rest := 100 - sum(parts.values())) != 0:
        # Each turn mends one percent, where the rounding is furthest off.
        gap = {name: exact[name] - parts[name] for name in taking if rest > 0 or parts[name] > 1}
        name = max(gap, key=lambda name: gap[name] if rest > 0 else -gap[name])
        parts[name] += 1 if rest > 0 else -1
    return Shares(parts)


def weights_of(shares: Shares, members: Mapping[str, int], most: int) -> dict[str, list[int]]:
    """Whole weights up to `most` (100 at least) whose sums over each site's members stand exactly
    as `shares` do, and which are as equal as can be among the members of one site.

    `members`: how many servers, or records, each site has; those of `shares` have one at least.
    """
    alike = math.lcm(*(members[name] for name in shares))
    scale = min(alike, *(most * members[name] // percent for name, percent in shares.items()))
    found = {}
    for name, count in members.items():
        each, more = divmod(shares.of(name) * scale, count) if count else (0, 0)
        found[name] = [each + 1] * more + [each] * (count - more)
    return found
