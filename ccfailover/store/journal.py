"""The journal: append-only streams, each a hash chain.

`runs` numbers every run and holds the final head of each; `run:<id>` is one run; `automation`
is what happened outside runs (decisions, acknowledgements, facts).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ccfailover.errors import CcfError, UsageError
from ccfailover.model.journal import Lease, Record
from ccfailover.store import chain
from ccfailover.store.db import Database, Transaction, one_write
from ccfailover.store.leases import require_fence
from ccfailover.store.record import HEAD, insert

_PAGE = 500


class Journal:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    @one_write
    def append(
        self, stream: str, kind: str, data: Mapping[str, Any], *, actor: str,
        lease: Lease | None = None,
    ) -> Record:
        """Add one event to `automation` or to the stream of an open run; durable on return.

        With a lease, that must still be this holder's and not have run out, and is renewed by
        its full time; else Fenced, and nothing is written. Raises UsageError when the run has
        ended (its journal is closed), StoreError when the store cannot be written.
        """
        with self._db.transaction(f"journal {kind} in {stream}", on=stream) as tx:
            if lease is not None:
                if stream not in (chain.AUTOMATION, chain.run_stream(lease.run)):
                    raise CcfError(f"the lease of run {lease.run} is not for stream {stream}")
                require_fence(tx, lease, not_done=f"{kind} was not written to {stream}")
            elif stream != chain.AUTOMATION:
                _require_open_run(tx, stream)
            return insert(tx, stream, kind, data, actor=actor, fence=lease.fence if lease else 0)

    def read(self, stream: str, after: int = 0) -> list[Record]:
        """The events of a stream with a number above `after`, in order; [] for no such stream."""
        rows = self._db.query(
            "SELECT text, hash FROM journal WHERE stream = :stream AND seq > :after ORDER BY seq",
            {"stream": stream, "after": after},
        )
        with self._db.readable():
            return [Record(**json.loads(text), hash=hash_) for text, hash_ in rows]

    def head(self, stream: str) -> tuple[int, str]:
        """(number, hash) of the last event; (0, GENESIS) for an empty stream."""
        rows = self._db.query(HEAD, {"stream": stream})
        return (rows[0][0], rows[0][1]) if rows else (0, chain.GENESIS)

    def streams(self) -> list[str]:
        """Every stream that holds something: the chain of runs, automation, runs by number."""
        return list(self._heads())

    def seal(self, streams: Sequence[str] | None = None) -> str:
        """One hash over the heads of `streams` (None: all), the same that `export` begins with.

        Written on paper, it later proves that no end of any of these streams was cut off.
        """
        return chain.digest(chain.manifest_text(self._chosen(streams)))

    def proof(self) -> dict[str, tuple[int, str]]:
        """The heads that bind everything journaled up to now: whoever has them can tell, for
        ever after, that nothing before them was changed, cut off or taken out.

        The chain of runs holds the final head of each run that has ended; automation and the runs
        that are open stand for themselves.
        """
        rows = self._db.query(
            "SELECT j.stream, j.seq, j.hash FROM journal j JOIN "
            "(SELECT stream, max(seq) AS seq FROM journal WHERE stream IN (:runs, :automation) "
            "OR stream IN (SELECT :prefix || id FROM run WHERE ended IS NULL) GROUP BY stream) "
            "last ON j.stream = last.stream AND j.seq = last.seq",
            {"runs": chain.RUNS, "automation": chain.AUTOMATION, "prefix": chain.RUN_PREFIX})
        return _in_order(rows)

    def export(self, streams: Sequence[str] | None = None) -> Iterator[str]:
        """The journal as JSONL (no line ends): a manifest with every head, then the records.

        `store.verify.verify_export` checks it without a database. `streams`: None for all;
        `runs` brings every run with it, since a chain without its runs proves nothing. What is
        appended while the iterator is read is left out. Raises UsageError for an unknown stream.
        """
        heads = self._chosen(streams)
        yield chain.manifest_line(heads)
        for stream, (last, _) in heads.items():
            for _, _, text, hash_ in self._pages(stream, last):
                yield chain.record_line(text, hash_)

    def verify(self, heads: Sequence[str] = ()) -> list[str]:
        """What is wrong with the store, one sentence each; empty when all is intact.

        Checks the file, every hash and chain, the numbering of runs, each run's first event and
        final head against the chain of runs, and the index of runs against the journal; and that
        each of `heads`, known from elsewhere (HASH or NUMBER:HASH), occurs.
        """
        from ccfailover.store.verify import verify_store

        return verify_store(self._db, self._heads, self._pages, heads)

    def _heads(self) -> dict[str, tuple[int, str]]:
        rows = self._db.query(
            "SELECT j.stream, j.seq, j.hash FROM journal j JOIN "
            "(SELECT stream, max(seq) AS seq FROM journal GROUP BY stream) last "
            "ON j.stream = last.stream AND j.seq = last.seq"
        )
        return _in_order(rows)

    def _chosen(self, streams: Sequence[str] | None) -> dict[str, tuple[int, str]]:
        heads = self._heads()
        if streams is None:
            return heads
        unknown = sorted(set(streams) - set(heads))
        if unknown:
            raise UsageError(
                f"there is no stream {', '.join(unknown)}", where=self._db.path,
                not_done="nothing was exported",
                hint=f"streams here: {', '.join(list(heads)[:20]) or 'none'}",
            )
        with_runs = chain.RUNS in streams
        return {
            stream: head for stream, head in heads.items()
            if stream in streams or (with_runs and stream.startswith(chain.RUN_PREFIX))
        }

    def _pages(self, stream: str, last: int) -> Iterator[tuple[str, int, str, str]]:
        """Rows up to `last`, in pages, so that nothing is locked between two of them."""
        after = 0
        while after < last:
            rows = self._db.query(
                "SELECT stream, seq, text, hash FROM journal "
                "WHERE stream = :stream AND seq > :after AND seq <= :last "
                "ORDER BY seq LIMIT :page",
                {"stream": stream, "after": after, "last": last, "page": _PAGE},
            )
            if not rows:
                return
            yield from rows
            after = rows[-1][1]


def _in_order(rows: list[tuple[Any, ...]]) -> dict[str, tuple[int, str]]:
    """(stream, number, hash) rows as heads by stream, in the order of an export."""
    rows.sort(key=lambda row: chain.stream_order(row[0]) or (9, 0, row[0]))
    return {stream: (seq, hash_) for stream, seq, hash_ in rows}


def _require_open_run(tx: Transaction, stream: str) -> None:
    run = stream.removeprefix(chain.RUN_PREFIX)
    rows = tx.execute("SELECT ended FROM run WHERE id = :run", {"run": run})
    if not rows or not stream.startswith(chain.RUN_PREFIX):
        raise CcfError(f"nothing can be appended to {stream!r}: not automation, nor a known run")
    if rows[0][0] is not None:
        raise UsageError(
            f"run {run} has ended ({rows[0][0]}); its journal is closed", where=stream,
            not_done="nothing was written", hint=f"ccfailover runs show {run}",
        )
