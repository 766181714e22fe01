"""Whether a journal is what was written: for a store, and offline for an exported file.

A chain proves that nothing in it was changed, swapped or taken out; it cannot show that its end
was cut off. For that one needs a hash from elsewhere: every report and notification carries one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ccfailover.errors import StoreError
from ccfailover.model.plan import canonical
from ccfailover.store import chain, incidents

if TYPE_CHECKING:
    from ccfailover.store.db import Database

MAX_PROBLEMS = 200
"""More are counted, not listed."""

_FIELDS = frozenset(("stream", "seq", "at", "fence", "actor", "kind", "data", "prev"))
_NUMBERS = ("seq", "at", "fence")
_TEXTS = ("stream", "actor", "kind", "prev")


class ChainCheck:
    """Takes records in order of stream and number; `problems` says what is wrong."""

    def __init__(self, heads: Sequence[str] = ()) -> None:
        """`heads`: hashes that must occur, as HASH or NUMBER:HASH."""
        self.problems: list[str] = []
        self._unlisted = 0
        self.heads: dict[str, tuple[int, str]] = {}
        self.hashes_wanted = {head.strip().rpartition(":")[2]: False for head in heads}
        self._created: dict[str, Mapping[str, Any]] = {}
        self._ended: dict[str, Mapping[str, Any]] = {}
        self._successors: dict[str, object] = {}
        self._numbers = 0
        self._fences: dict[str, int] = {}
        self._origins: dict[str, chain.Origin] = {}
        self._there: dict[str, str] = {}
        self._aliases: set[str] = set()
        self._incidents: dict[str, list[int]] = {}
        self._names: dict[str, list[str]] = {"open": [], "all": []}

    def say(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self._unlisted += 1

    def record(self, place: str, text: str, hash_: str) -> str | None:
        """One record; its stream, or None when it cannot be understood."""
        body = _parse(text)
        if body is None or not _well_formed(body):
            self.say(f"{place}: no event in the journal's form")
            return None
        if canonical(body) != text:
            self.say(f"{place}: the text is not as it was written")
        if chain.digest(text) != hash_:
            self.say(f"{place}: the text does not fit its hash: one of them was changed")
        stream, seq = body["stream"], body["seq"]
        last, head = self.heads.get(stream, (0, chain.GENESIS))
        if seq != last + 1:
            self.say(f"{place}: {stream} goes from event {last} to {seq}")
        elif body["prev"] != head:
            self.say(f"{place}: {stream} event {seq} does not follow from the event before it")
        self.heads[stream] = (seq, hash_)
        if stream in self._origins:
            self._as_at_its_origin(place, body)
        if stream.startswith(chain.RUN_PREFIX) and body["fence"]:
            if body["fence"] < self._fences.get(stream, 0):
                self.say(f"{place}: the fence falls to {body['fence']}: a stale holder wrote this")
            self._fences[stream] = body["fence"]
        if hash_ in self.hashes_wanted:
            self.hashes_wanted[hash_] = True
        if stream == chain.RUNS:
            self._chain_of_runs(place, body)
        elif stream == chain.AUTOMATION and body["kind"].startswith(incidents.KIND):
            name = str(body["data"].get("incident"))
            self._incidents.setdefault(name, []).append(seq)
            self._names = incidents.after({name: body["kind"]}, self._names)
        elif seq == 1 and stream.startswith(chain.RUN_PREFIX):
            self._first_of_run(place, body, hash_)
        elif body["kind"] == "run.superseded":
            self._successors[stream] = body["data"].get("by")
        return str(stream)

    def finish(self) -> list[str]:
        """Check what only the whole shows: every run against the chain of runs."""
        if chain.RUNS in self.heads:
            for stream in self.heads:
                if stream.startswith(chain.RUN_PREFIX):
                    run = stream.removeprefix(chain.RUN_PREFIX)
                    if run not in self._created:
                        self.say(f"{stream}: the chain of runs does not know this run")
            for run in self._created:
                self._run_is_whole(run)
            for stream, origin in self._origins.items():
                if stream in self.heads and self.heads[stream][0] < origin.seq:
                    self.say(f"{stream}: was imported with {origin.seq} events, has "
                             f"{self.heads[stream][0]}")
            for stream, by in self._successors.items():
                if not isinstance(by, str) or by not in {*self._created, *self._aliases}:
                    self.say(f"{stream}: superseded by {by!r}, which the chain of runs does not "
                             "know")
        for hash_, found in self.hashes_wanted.items():
            if not found:
                self.say(f"the hash {hash_[:64]} does not occur: something was cut off or taken "
                         "out, or it belongs to another journal")
        if self._unlisted:
            self.problems.append(f"and {self._unlisted} more")
        return self.problems

    def index_of_runs(self, indexed: Mapping[str, tuple[int, str | None]]) -> None:
        """Compare the store's table of runs (number, how it ended) with what was journaled."""
        for run in sorted(set(indexed) | set(self._created)):
            ended, created = self._ended.get(run), self._created.get(run)
            journaled = None
            if created is not None:
                journaled = (created["number"], ended.get("state") if ended else None)
            if indexed.get(run) != journaled:
                self.say(f"run {run}: the index of runs says {indexed.get(run)}, the journal "
                         f"{journaled}")

    def index_of_incidents(self, indexed: Mapping[str, Any]) -> None:
        """Compare the store's index of incidents with what was journaled."""
        for problem in incidents.index_problems(self._incidents, self._names, indexed):
            self.say(problem)

    def _chain_of_runs(self, place: str, body: Mapping[str, Any]) -> None:
        data, kind = body["data"], body["kind"]
        run, number = data.get("run"), data.get("number")
        if kind == "run.created":
            if number != self._numbers + 1:
                self.say(f"{place}: run numbers go from {self._numbers} to {number}")
            if (not isinstance(run, str) or type(number) is not int
                    or chain.run_number(run) != number):
                self.say(f"{place}: run {run!r} does not carry its number {number!r}")
                return
            self._numbers = number
            self._created[run] = data
        elif kind == "run.imported":
            self._imported(place, data)
        elif kind == "run.extended":
            if not isinstance(run, str) or run not in self._created or run in self._ended:
                self.say(f"{place}: run {run!r} got events from elsewhere, but was not open")
        elif kind == "run.ended":
            if not isinstance(run, str) or run not in self._created:
                self.say(f"{place}: run {run!r} ends, but was never created")
            elif run in self._ended:
                self.say(f"{place}: run {run} ends twice")
            else:
                self._ended[run] = data
        else:
            self.say(f"{place}: {kind!r} has no place in the chain of runs")

    def _imported(self, place: str, data: Mapping[str, Any]) -> None:
        """A run from another journal keeps its id where that was free; its number is new."""
        run, number, origin = data.get("run"), data.get("number"), chain.origin_of(data)
        if number != self._numbers + 1:
            self.say(f"{place}: run numbers go from {self._numbers} to {number}")
        if (not isinstance(run, str) or type(number) is not int or chain.run_number(run) is None
                or run in self._created or origin is None):
            self.say(f"{place}: run {run!r} cannot have been imported so")
            return
        self._numbers = number
        self._created[run] = data
        self._aliases.add(origin.run)
        self._origins[chain.run_stream(run)] = origin

    def _as_at_its_origin(self, place: str, body: Mapping[str, Any]) -> None:
        """What was imported hashes, under its former name, to what it hashed to there."""
        origin = self._origins[body["stream"]]
        if body["seq"] > origin.seq:
            return
        there = {**body, "stream": chain.run_stream(origin.run),
                 "prev": self._there.get(body["stream"], chain.GENESIS)}
        self._there[body["stream"]] = chain.digest(canonical(there))
        if body["seq"] == origin.seq and self._there[body["stream"]] != origin.head:
            self.say(f"{place}: {body['stream']} is not as it was in the journal that it was "
                     "imported from")

    def _first_of_run(self, place: str, body: Mapping[str, Any], hash_: str) -> None:
        run = body["stream"].removeprefix(chain.RUN_PREFIX)
        created = self._created.get(run)
        if created is None:
            return  # said at the end, or there is no chain of runs to compare with
        if created.get("planned") != hash_:
            self.say(f"{place}: run {run} does not begin with the event that the chain of runs "
                     "names")

    def _run_is_whole(self, run: str) -> None:
        stream = chain.run_stream(run)
        if stream not in self.heads:
            self.say(f"{stream}: the chain of runs names this run, but its events are missing")
            return
        ended = self._ended.get(run)
        if ended is not None and (ended.get("seq"), ended.get("head")) != self.heads[stream]:
            self.say(f"{stream}: ends at event {self.heads[stream][0]}, but the chain of runs "
                     f"closed it at event {ended.get('seq')} with another hash")


def verify_export(lines: Iterable[str | bytes], *, heads: Sequence[str] = ()) -> list[str]:
    """What is wrong with an exported journal; empty when it is as it was written.

    `lines` are the JSONL lines (UTF-8 when bytes), with or without line ends: iterate over an
    open file; `str.splitlines` would also split inside a record. `heads` are hashes known from
    elsewhere, as HASH or NUMBER:HASH: those that a report or a notification printed, or
    `Store.seal()`; without them nobody can tell whether somebody cut the end off, or took a run
    out, and wrote all the rest anew.
    """
    check = ChainCheck(heads)
    manifest: dict[str, tuple[int, str]] | None = None
    current: tuple[int, int, str] = (-1, 0, "")
    number = 0
    for number, raw in enumerate(lines, 1):
        place = f"line {number}"
        line = _text(raw)
        parsed = _parse(line) if len(line) <= chain.MAX_TEXT + 200 else None
        if number == 1:
            manifest = _manifest(check, line, parsed)
            continue
        if parsed is None or set(parsed) != {"hash", "record"}:
            check.say(f"{place}: not a line of an export")
            continue
        text = canonical(parsed["record"])
        if line != chain.record_line(text, str(parsed["hash"])):
            check.say(f"{place}: the line is not as it was written")
        stream = check.record(place, text, str(parsed["hash"]))
        order = chain.stream_order(stream) if stream is not None else None
        if stream is not None and (order is None or order < current):
            check.say(f"{place}: {stream} is out of order")
        current = order if order is not None and order > current else current
    if number == 0:
        check.say("line 1: the export is empty")
    if manifest is not None and manifest != check.heads:
        for stream in sorted(set(manifest) | set(check.heads)):
            if manifest.get(stream) != check.heads.get(stream):
                wanted = manifest.get(stream, (0, ""))[0]
                found = check.heads.get(stream, (0, ""))[0]
                check.say(f"{stream}: the first line announces {wanted} events, found {found}, "
                          "or the last one differs")
    return check.finish()


def verify_store(
    db: Database, heads_of: Callable[[], Mapping[str, tuple[int, str]]],
    pages: Callable[[str, int], Iterator[tuple[str, int, str, str]]],
    wanted: Sequence[str] = (),
) -> list[str]:
    """As `verify_export`, for an open store: also the file itself and the index of runs."""
    check = ChainCheck(wanted)
    try:
        for problem in db.integrity():
            check.say(f"the file is damaged: {problem}")
        with db.snapshot():  # a run that starts just now is in both or in neither
            heads = heads_of()
            indexed = {row[0]: (row[1], row[2]) for row in
                       db.query("SELECT id, number, ended FROM run ORDER BY number")}
            facts = db.query("SELECT name, value FROM fact WHERE name >= :first AND name < :last",
                             {"first": incidents.PREFIX, "last": incidents.NAMES + "a"})
        for stream, (last, _) in heads.items():
            if chain.stream_order(stream) is None:
                check.say(f"{stream!r}: no stream can have this name")
            for column, seq, text, hash_ in pages(stream, last):
                place = f"{column} event {seq}"
                if check.record(place, text, hash_) is not None and (
                    check.heads.get(column, (0, ""))[0] != seq
                ):
                    check.say(f"{place}: kept under another stream or number than it says")
        check.index_of_runs(indexed)
        with db.readable():
            check.index_of_incidents({name: json.loads(value) for name, value in facts})
    except StoreError as error:
        check.say(str(error))
    return check.finish()


def _manifest(
    check: ChainCheck, line: str, parsed: Mapping[str, Any] | None
) -> dict[str, tuple[int, str]] | None:
    try:
        if parsed is None or set(parsed) != {"hash", "manifest"}:
            raise ValueError("no manifest")
        shown = parsed["manifest"]
        if set(shown) != {"format", "heads"} or shown["format"] != 1:
            raise ValueError("another format")
        heads = {str(stream): (int(seq), str(hash_))
                 for stream, (seq, hash_) in shown["heads"].items()}
    except (ValueError, TypeError, AttributeError):
        check.say("line 1: not the first line of an export (or of a newer format)")
        return None
    if line != chain.manifest_line(heads):
        check.say("line 1: the line is not as it was written")
    if str(parsed["hash"]) in check.hashes_wanted:
        check.hashes_wanted[str(parsed["hash"])] = True
    return heads


def _text(raw: str | bytes) -> str:
    """A line without its end; bytes that are no UTF-8 become text that no hash fits."""
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    return text.removesuffix("\n")


def _parse(text: str) -> dict[str, Any] | None:
    """The object in `text`; None when it is none, or holds what canonical JSON cannot."""
    try:
        found = json.loads(text)
        canonical(found).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _well_formed(body: Mapping[str, Any]) -> bool:
    return (
        set(body) == _FIELDS and isinstance(body["data"], dict)
        and all(type(body[name]) is int for name in _NUMBERS)
        and all(isinstance(body[name], str) for name in _TEXTS)
    )
