"""What the benchmarks share: the page that they write to, and what they say of the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
QUIET = 0.3
"""Load per core up to which a machine counts as quiet."""


def machine() -> str:
    """Where the figures were taken. To be called before the measuring adds to the load."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    state = "quiet" if load <= QUIET * cores else f"load {load:.1f} by others: trust ratios only"
    return (f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
            f"{cores} cores, {state}")


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over rounds of ours against theirs of the same round."""
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are figures."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))


def write(name: str, text: str, path: Path = RESULTS) -> None:
    """Put a table between its markers. Raises SystemExit when the file has lost them."""
    first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = path.read_text(encoding="utf-8")
    head, begin, rest = page.partition(first)
    _, end, tail = rest.partition(last)
    if not begin or not end:
        raise SystemExit(f"{path}: the markers {first} and {last} are missing")
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
