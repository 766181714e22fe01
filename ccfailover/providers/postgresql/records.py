"""One table as the system of record: the rows that are assigned to one site are its backlog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.providers.postgresql.backlog import Claimed, PostgresqlBacklog
from ccfailover.providers.postgresql.table import Table

Indexed = Sequence[tuple[int, WorkItem]]


@dataclass(frozen=True)
class Held:
    """What a handle says: by which claim, from whom, and which row."""

    claim: str
    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.claim}/{quote(self.source, safe='')}/{self.message}"

    @classmethod
    def of(cls, handle: str) -> Held | None:
        parts = handle.split("/", 2)
        if len(parts) != 3 or not all(parts):
            return None
        return cls(parts[0], unquote(parts[1]), parts[2])


class PostgresqlRecords(PostgresqlBacklog):
    """A put assigns the very row that was claimed, by compare-and-set; nothing is deleted."""

    def _handle(self, claim: str, message: str) -> str:
        return str(Held(claim, self._assignee or "", message))

    def _held(self, handles: Sequence[str]) -> Claimed:
        found = {handle: Held.of(handle) for handle in handles}
        return {handle: (each.claim, each.message) for handle, each in found.items()
                if each is not None}

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """True: the row is not assigned here any more, whenever that is asked. Never raises
        Unavailable."""
        held = [(handle, each) for handle in handles if (each := Held.of(handle)) is not None]
        try:
            rows = self._rows("settle", Table.handed_over, {
                "numbers": list(range(len(held))),
                "messages": [each.message for _, each in held]}) if held else []
        except Unavailable:
            rows = []
        gone = {held[int(row[0])][0] for row in rows}
        return {handle: handle in gone for handle in handles}

    def check_writable(self) -> str:
        """Writes nothing: an assignment of no rows needs every right that one of a row does."""
        depth = self.measure().depth
        self._rows("put", Table.assign, _asked([], {}))
        return f"readable ({depth} waiting), and an assignment of no rows was let through"

    def _cannot_travel(self, item: WorkItem, keys: Mapping[str, str]) -> str:
        if not item.item_id or item.item_id not in keys:
            return "it has no id or no delivery key"
        if Held.of(item.handle) is None or "\0" in item.handle + keys[item.item_id]:
            return "it was not claimed from this table, so that there is no row to assign"
        return ""

    def _insert(self, batch: Indexed, keys: Mapping[str, str]) -> dict[int, PutResult]:
        """Assign; then ask why the others were not: another statement sees what was written
        meanwhile, be it by an earlier attempt of ours whose reply was lost."""
        params = _asked(batch, keys)
        items = dict(batch)
        results: dict[int, PutResult] = {}
        try:
            rows = self._rows("put", Table.assign, params, writes=True)
            for (number,) in rows:
                results[number] = _ok(items[number])
            left = [each for each in batch if each[0] not in results]
            if left:
                told = self._rows("put", Table.assigned, _asked(left, keys))
                results.update({int(row[0]): _why(items[int(row[0])], *row[1:]) for row in told})
        except Rejected as refusal:
            blamed = refusal.what.startswith("the database refuses it")
            if blamed and len(batch) > 1:
                alone: dict[int, PutResult] = {}
                for one in batch:
                    alone.update(self._insert([one], keys))
                return alone
            return {index: results.get(index) or PutResult(
                item.item_id, ok=False, permanent=blamed, detail=str(refusal))
                for index, item in batch}
        except ProviderError as error:
            doubt = isinstance(error, Unavailable) and error.in_doubt
            return {index: results.get(index) or PutResult(
                item.item_id, ok=False, in_doubt=doubt, detail=str(error))
                for index, item in batch}
        return results


def _asked(batch: Indexed, keys: Mapping[str, str]) -> dict[str, object]:
    held = [Held.of(item.handle) or Held("", "", item.message_id) for _, item in batch]
    return {
        "numbers": [index for index, _ in batch], "messages": [each.message for each in held],
        "claims": [each.claim for each in held], "sources": [each.source for each in held],
        "keys": [keys[item.item_id] for _, item in batch],
        "hops": [item.hops for _, item in batch],
    }


def _ok(item: WorkItem) -> PutResult:
    held = Held.of(item.handle)
    return PutResult(item.item_id, ok=True, target_ref=held.message if held else None)


def _why(item: WorkItem, exists: bool, ours: bool | None, still: bool | None,
         free: bool | None) -> PutResult:
    """A lost compare is no doubt: the row is where somebody else has put it, or where it was."""
    if exists and ours:
        return _ok(item)
    if not exists:
        why = "there is no such record any more"
    elif not still:
        why = "somebody has assigned it elsewhere meanwhile"
    elif not free:
        why = "somebody has locked or begun it meanwhile"
    else:
        why = "its claim ended before it was assigned"
    return PutResult(item.item_id, ok=False, permanent=True, detail=why)
