"""One table as a backlog."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.providers.bodies import understand
from ccfailover.providers.params import seconds, text, texts
from ccfailover.providers.postgresql.table import MESSAGE_TYPES, ROLES, Table, quoted

if TYPE_CHECKING:
    from ccfailover.store.postgres_link import Link

T = TypeVar("T")
BATCH: Final = 1000
_CLAIM_SECONDS: Final = 120.0
_LARGEST: Final = 262_144
_COLUMNS: Final = """
    SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a
    WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped"""


Claimed = Mapping[str, tuple[str, str]]
"""A handle → the claim, and the row that it is on."""


class PostgresqlBacklog(Backlog):
    """Threads may share it; their calls go one after the other over one connection."""

    batch = BATCH

    def __init__(self, provider: str, lever: LeverSpec, lock: RLock, connect: Callable[[], Link],
                 drop: Callable[[], None]) -> None:
        self._provider, self._lever = provider, lever
        self._lock, self._connect, self._drop = lock, connect, drop
        self._item = texts(lever.params.get("item"))
        largest = lever.params.get("max_item_bytes")
        self._max_item = largest if isinstance(largest, int) else _LARGEST
        self.claim_seconds = seconds(lever.params.get("claim_seconds"), _CLAIM_SECONDS)
        most = lever.params.get("max_receives")
        self._most = most if isinstance(most, int) else None
        self._assignee = text(lever.params.get("assignee")) or None
        self._known: Table | None = None

    def measure(self) -> BacklogMeasure:
        visible, hidden, age = self._rows("measure", lambda table: table.measure(), {})[0]
        return BacklogMeasure(int(visible), int(hidden),
                              None if age is None else max(0.0, float(age)))

    def max_receives(self) -> int | None:
        return self._most

    def check_writable(self) -> str:
        """Writes nothing: an insert of no rows needs every right that one of a row does."""
        depth = self.measure().depth
        self._rows("put", lambda table: table.put(), _columns([], {}))
        return f"readable ({depth} waiting), and an insert of no rows was let through"

    def claim(self, limit: int) -> Sequence[WorkItem]:
        if limit < 1:
            return []
        rows = self._rows("claim", lambda table: table.claim(self._most),
                          {"limit": min(limit, BATCH), "seconds": self.claim_seconds}, writes=True)
        return [self._decoded(row) for row in rows]

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        held = self._held(handles)
        if not held:
            return dict.fromkeys(handles, False)
        rows = self._rows("extend", lambda table: table.extend(),
                          {**_asked(held), "seconds": max(0.0, seconds)}, writes=True)
        return _which(handles, held, rows)

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """Never raises Unavailable: a source that died leaves its items not deleted (False)."""
        held = self._held(handles)
        if not held:
            return dict.fromkeys(handles, False)
        try:
            rows = self._rows("settle", lambda table: table.settle(), _asked(held), writes=True)
        except Unavailable:
            return dict.fromkeys(handles, False)
        return _which(handles, held, rows)

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        results: dict[int, PutResult] = {}
        good: list[tuple[int, WorkItem]] = []
        for index, item in enumerate(items):
            reason = self._cannot_travel(item, keys)
            if reason:
                results[index] = PutResult(item.item_id, ok=False, permanent=True, detail=reason)
            else:
                good.append((index, item))
        for start in range(0, len(good), BATCH):
            results.update(self._insert(good[start:start + BATCH], keys))
        return [results[index] for index in range(len(items))]

    def _cannot_travel(self, item: WorkItem, keys: Mapping[str, str]) -> str:
        if not item.item_id or item.item_id not in keys:
            return "it has no id or no delivery key"
        if not item.body:
            return "its body is empty"
        if any("\0" in each for each in (item.item_id, item.submitted or "",
                                         *item.attributes, *item.attributes.values())):
            return "it carries a null character, which a text there cannot have"
        return ""

    def _insert(self, batch: Sequence[tuple[int, WorkItem]],
                keys: Mapping[str, str]) -> dict[int, PutResult]:
        """One statement; when it is refused as a whole, each by itself says whose fault it is."""
        params = _columns([item for _, item in batch], keys)
        try:
            rows = self._rows("put", lambda table: table.put(), params, writes=True)
        except Rejected as refusal:
            if len(batch) > 1 and refusal.what.startswith("the database refuses it"):
                alone: dict[int, PutResult] = {}
                for one in batch:
                    alone.update(self._insert([one], keys))
                return alone
            blamed = refusal.what.startswith("the database refuses it")
            return {index: PutResult(item.item_id, ok=False, permanent=blamed, detail=str(refusal))
                    for index, item in batch}
        except ProviderError as error:
            doubt = isinstance(error, Unavailable) and error.in_doubt
            return {index: PutResult(item.item_id, ok=False, in_doubt=doubt, detail=str(error))
                    for index, item in batch}
        made = {str(key): str(message) for key, message in rows}
        # One that is not among them was swallowed: it had been delivered before.
        return {index: PutResult(item.item_id, ok=True, target_ref=made.get(keys[item.item_id]))
                for index, item in batch}

    # --- the table and the connection ----------------------------------------------------------

    def _decoded(self, row: Sequence[Any]) -> WorkItem:
        message, claim, body, submitted, hops, receives, attributes, created = row
        raw = bytes(body or b"")
        found = understand(raw, self._item, self._max_item)
        return WorkItem(
            item_id=found.item_id, message_id=str(message), body=raw, fields=found.fields,
            handle=self._handle(str(claim), str(message)),
            submitted=submitted or found.submitted or _instant(created),
            hops=int(hops or 0), receives=int(receives or 1), problem=found.problem,
            attributes=_carried(attributes))

    def _handle(self, claim: str, message: str) -> str:
        """The row, too: found by its key, and not by a look at all of them."""
        return f"{claim}/{message}"

    def _held(self, handles: Sequence[str]) -> Claimed:
        parts = {handle: handle.partition("/") for handle in handles}
        return {handle: (claim, message) for handle, (claim, _, message) in parts.items()
                if claim and message}

    def _table(self, link: Link) -> Table:
        """Looked up once: which columns there are, and of what type the body is."""
        if self._known is None:
            params = self._lever.params
            columns = {**ROLES, **texts(params.get("columns"))}
            found = {str(name): str(kind) for name, kind in
                     link.execute(_COLUMNS, {"table": quoted(self._lever.ref)}).fetchall()}
            if self._assignee is not None:
                columns = {"assignee": "assignee", **columns}
            missing = sorted(set(columns.values()) - set(found))
            if missing:
                raise Rejected(f"the table lacks the columns {', '.join(missing)}",
                               provider=self._provider, where=self._lever.ref,
                               hint="add them, or say under `columns` what they are called")
            kind = found[columns["body"]]
            if kind not in ("bytea", "text", "json", "jsonb", "character varying"):
                raise Rejected(f"the column {columns['body']} is of type {kind}, which holds no "
                               "body", provider=self._provider, where=self._lever.ref,
                               hint="bytea, text, json or jsonb")
            key = found[columns["message"]]
            if self._assignee is not None and key not in MESSAGE_TYPES:
                raise Rejected(f"the column {columns['message']} is of type {key}",
                               provider=self._provider, where=self._lever.ref,
                               hint=f"one of {', '.join(sorted(MESSAGE_TYPES))}")
            self._known = Table(self._lever.ref, text(params.get("keys")) or None, columns, found,
                                self._assignee)
        return self._known

    def _rows(self, operation: str, statement: Callable[[Table], str],
              params: Mapping[str, object], *, writes: bool = False) -> list[tuple[Any, ...]]:
        """One statement, its errors turned into ours. `writes`: a lost reply leaves doubt."""
        where = f"{self._lever.ref} {operation}"
        with self._lock:
            link = self._connect()

            def asked(call: Callable[[], T], writing: bool) -> T:
                from ccfailover.providers.postgresql.connect import DatabaseError, as_provider_error

                try:
                    return call()
                except DatabaseError as error:
                    if link.closed or not error.sqlstate:
                        self._drop()
                    raise as_provider_error(error, self._provider, where,
                                            writes=writing) from None

            table = asked(lambda: self._table(link), False)
            return asked(lambda: link.execute(  # the statement is ours but for checked names
                statement(table).encode(), {**params, "assignee": self._assignee}).fetchall(),
                         writes)


def _columns(items: Sequence[WorkItem], keys: Mapping[str, str]) -> dict[str, object]:
    return {
        "keys": [keys[item.item_id] for item in items], "bodies": [item.body for item in items],
        "items": [item.item_id for item in items], "submitted": [item.submitted for item in items],
        "hops": [item.hops for item in items],
        "attributes": [json.dumps(dict(item.attributes)) if item.attributes else "{}"
                       for item in items],
    }


def _instant(created: object) -> str | None:
    if not isinstance(created, datetime):
        return None
    return created.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _carried(found: object) -> dict[str, str]:
    """What travels with an item; whatever is not text to text is somebody else's."""
    if not isinstance(found, Mapping):
        return {}
    return {str(name): value for name, value in found.items() if isinstance(value, str)}


def _asked(held: Claimed) -> dict[str, object]:
    return {"claims": [claim for claim, _ in held.values()],
            "messages": [message for _, message in held.values()]}


def _which(handles: Iterable[str], held: Claimed,
           rows: Sequence[tuple[Any, ...]]) -> dict[str, bool]:
    good = {str(row[0]) for row in rows}
    return {handle: handle in held and held[handle][0] in good for handle in handles}
