"""The hash chain: what is hashed, how, and the order in which an export tells it.

A record's text is the canonical JSON of everything but its hash; the text is stored and hashed
as it is, byte for byte, so that no database can reorder it. `prev` is part of the text: a record
vouches for all before it in its stream. Nothing here needs a database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
"""`prev` of the first record of a stream."""

RUNS = "runs"
AUTOMATION = "automation"
RUN_PREFIX = "run:"

MAX_TEXT = 8 * 1024 * 1024
"""Bytes of one record. A plan of a thousand steps takes less than one."""

_RUN_ID = re.compile(r"r([1-9][0-9]{0,14})-[0-9a-z]+\Z")


def digest(text: str) -> str:
    """SHA-256 of the text as UTF-8, in hexadecimal."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def run_stream(run: str) -> str:
    return RUN_PREFIX + run


def run_number(run: str) -> int | None:
    """17 of `r17-ab12`; None when this is no run id."""
    found = _RUN_ID.match(run)
    return int(found[1]) if found else None


def stream_order(stream: str) -> tuple[int, int, str] | None:
    """Sort key of a stream: the chain of runs, automation, then runs by number.

    None when no stream can have that name.
    """
    if stream == RUNS:
        return (0, 0, "")
    if stream == AUTOMATION:
        return (1, 0, "")
    if stream.startswith(RUN_PREFIX):
        number = run_number(stream.removeprefix(RUN_PREFIX))
        if number is not None:
            return (2, number, stream)
    return None


@dataclass(frozen=True)
class Origin:
    """Where an imported run comes from: its id there, and its last event as it was then."""

    run: str
    seq: int
    head: str


def origin_of(data: Mapping[str, Any]) -> Origin | None:
    """From a `run.imported`; None when it makes no sense."""
    found = data.get("origin")
    if not isinstance(found, dict):
        return None
    run, seq, head = (found.get(name) for name in ("run", "seq", "head"))
    if isinstance(run, str) and type(seq) is int and isinstance(head, str):
        return Origin(run, seq, head)
    return None


def record_line(text: str, digest_: str) -> str:
    """One record as a line of an export; canonical JSON, since `text` is."""
    return f'{{"hash":"{digest_}","record":{text}}}'


def manifest_line(heads: dict[str, tuple[int, str]]) -> str:
    """First line of an export: how far each stream went, and one hash over all of that."""
    text = manifest_text(heads)
    return f'{{"hash":"{digest(text)}","manifest":{text}}}'


def manifest_text(heads: dict[str, tuple[int, str]]) -> str:
    from ccfailover.model.plan import canonical

    shown = {stream: [seq, hash_] for stream, (seq, hash_) in heads.items()}
    return canonical({"format": 1, "heads": shown})
