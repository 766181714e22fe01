"""How one event gets into its stream, within a transaction that belongs to the caller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ccfailover.errors import CcfError
from ccfailover.model.journal import Record
from ccfailover.store import chain
from ccfailover.store.db import Transaction

HEAD = "SELECT seq, hash FROM journal WHERE stream = :stream ORDER BY seq DESC LIMIT 1"


def insert(
    tx: Transaction, stream: str, kind: str, data: Mapping[str, Any], *, actor: str, fence: int
) -> Record:
    """Append within a transaction that has already checked what it must."""
    from ccfailover.model.plan import canonical

    last, prev = head_in(tx, stream)
    body = {"stream": stream, "seq": last + 1, "at": tx.now, "fence": fence, "actor": actor,
            "kind": kind, "data": data, "prev": prev}
    try:
        text = canonical(body)
        size = len(text.encode())
    except UnicodeEncodeError:
        # Half a character from outside (a lone surrogate) must not stop a run: it becomes "?".
        text = canonical(json.loads(text.encode("utf-8", "replace")))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise CcfError(
            f"{kind} holds what JSON cannot carry: {error}", where=stream,
            not_done="nothing was written",
        ) from error
    if size > chain.MAX_TEXT:
        raise CcfError(
            f"{kind} is too long for the journal: {size} bytes, at most {chain.MAX_TEXT}",
            where=stream, not_done="nothing was written",
        )
    hash_ = chain.digest(text)
    tx.journal(stream, last + 1, text, hash_)
    return Record(**json.loads(text), hash=hash_)


def head_in(tx: Transaction, stream: str) -> tuple[int, str]:
    rows = tx.execute(HEAD, {"stream": stream})
    return (rows[0][0], rows[0][1]) if rows else (0, chain.GENESIS)
