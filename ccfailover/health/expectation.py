"""What an HTTP answer must be: status ranges, a text in the body, a JSON field; and its figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ccfailover.model.health import Outcome
from ccfailover.policy.units import duration

Json = object
_MISSING = object()


@dataclass(frozen=True)
class Expectation:
    """`statuses` are inclusive ranges; `slow` is the seconds from which a good answer is WARN."""

    statuses: tuple[tuple[int, int], ...]
    contains: bytes | None
    pointer: str | None
    equals: Json
    slow: float | None

    @property
    def reads_body(self) -> bool:
        return self.contains is not None or self.pointer is not None

    @classmethod
    def of(cls, params: Mapping[str, object]) -> Expectation:
        """From a probe's parameters. Raises ValueError on a status range that makes no sense."""
        contains, field, slow = params.get("contains"), params.get("field"), params.get("slow")
        pointer, equals = (field["path"], field["equals"]) if isinstance(field, Mapping) \
            else (None, None)
        return cls(
            status_ranges(str(params.get("status", "200-299"))),
            str(contains).encode() if contains is not None else None,
            str(pointer) if pointer is not None else None,
            equals,
            duration(slow) if slow is not None else None,
        )

    def judge(
        self, status: int, body: bytes, truncated: bool, seconds: float
    ) -> tuple[Outcome, str]:
        if not any(low <= status <= high for low, high in self.statuses):
            return Outcome.BAD, f"answered {status}, expected {self._wanted()}"
        fault = self._body_fault(body, truncated)
        if fault:
            return Outcome.BAD, f"answered {status}, but {fault}"
        if self.slow is not None and seconds > self.slow:
            return Outcome.WARN, f"answered {status}, slowly: {seconds:.2f} s, over {self.slow:g} s"
        return Outcome.GOOD, f"answered {status}"

    def _wanted(self) -> str:
        return ",".join(str(low) if low == high else f"{low}-{high}"
                        for low, high in self.statuses)

    def _body_fault(self, body: bytes, truncated: bool) -> str | None:
        """Never quotes the body: it may hold anything."""
        if self.contains is not None and self.contains not in body:
            return "the body lacks the expected text" + (
                f" in its first {len(body)} bytes" if truncated else "")
        if self.pointer is None:
            return None
        if truncated:
            return f"the body is longer than the {len(body)} bytes that are read"
        try:
            found = at_pointer(json.loads(body), self.pointer)
        except (ValueError, RecursionError):
            return "the body is not JSON"
        if found is _MISSING:
            return f"the body has no {self.pointer}"
        if not same(found, self.equals):
            return f"{self.pointer} is not {json.dumps(self.equals)}"
        return None


def figures(body: bytes, truncated: bool, pointers: Mapping[str, str]) -> dict[str, float]:
    """The numbers that RFC 6901 pointers name in a JSON body. One that is missing, or is no
    finite number, is left out: it is unknown, and never 0."""
    if not pointers or truncated:
        return {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    found = {name: at_pointer(document, pointer) for name, pointer in pointers.items()}
    return {name: number for name, value in found.items()
            if (number := _number(value)) is not None}


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def status_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """`200-299,401` → ((200, 299), (401, 401)). Raises ValueError for anything else."""
    ranges = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        first, last = int(low), int(high or low)
        if not 100 <= first <= last <= 599:
            raise ValueError(f"no range of HTTP statuses: {part.strip()[:20]}")
        ranges.append((first, last))
    return tuple(ranges)


def at_pointer(document: Json, pointer: str) -> Json:
    """The value that an RFC 6901 pointer names, or a marker that equals nothing."""
    found = document
    for raw in pointer.split("/")[1:]:
        token = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(token, _MISSING)
        elif isinstance(found, list) and (token == "0" or (token.isdecimal() and token[0] != "0")):
            found = found[int(token)] if int(token) < len(found) else _MISSING
        else:
            return _MISSING
    return found


def same(found: Json, wanted: Json) -> bool:
    """JSON equality: 1 and 1.0 are one number, but true is not 1."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return found == wanted
