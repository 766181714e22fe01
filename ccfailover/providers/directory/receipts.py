"""What the receiver says of batches, in acknowledgement files.

    {"format": "ccfailover-ack/1", "batch": "<batch>", "status": "accepted",
     "manifest_sha256": "…"}
    {"format": "ccfailover-ack/1", "batch": "<batch>", "items": [
      {"file": "…", "sha256": "…", "status": "rejected", "reason": "wrong_state"}]}

The first speaks for the whole batch. A checksum that is not echoed, or is not ours, proves that
something else was read there: then nothing is accepted. A rejection stands, whatever comes later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from ccfailover.model.items import Acknowledged, Receipt
from ccfailover.providers.directory import layout
from ccfailover.providers.directory.files import Files, TooMany
from ccfailover.providers.directory.folder import Folder
from ccfailover.providers.directory.sending import Sending
from ccfailover.providers.documents import parse

_CODE: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UNKNOWN: Final = "no reason was given as a code"
_OTHER: Final = "the checksum echoed is not the one sent"
_MOST_ACKS: Final = 200_000
_WAITING: Final = Receipt(Acknowledged.WAITING)


class Receipts:
    def __init__(self, folder: Folder, sending: Sending) -> None:
        self._folder, self._sending = folder, sending

    def of(self, files: Files, keys: Sequence[str]) -> Mapping[str, Receipt]:
        """Keys that were never delivered are left out."""
        wanted = list(dict.fromkeys(keys))
        owners = files.each(lambda key: self._sending.find(files, key), wanted)
        batches: dict[str, list[str]] = {}
        for key, batch in zip(wanted, owners, strict=True):
            if batch is not None:
                batches.setdefault(batch, []).append(key)
        return self.of_batches(files, batches)

    def of_batches(self, files: Files,
                   batches: Mapping[str, Sequence[str]]) -> Mapping[str, Receipt]:
        """Batch → keys, all known to have been delivered."""
        acks = self._acks(files, batches)
        found: dict[str, Receipt] = {}
        for batch, keys in batches.items():
            found.update(dict.fromkeys(keys, _WAITING))
            if acks.get(batch):
                said = self._said(files, batch, acks[batch])
                found.update({key: said[key] for key in keys if key in said})
        return found

    def _acks(self, files: Files, batches: Mapping[str, object]) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        try:
            entries = files.names(self._folder.at(layout.ACKS), _MOST_ACKS)
        except FileNotFoundError:
            return found
        for entry in sorted(entry.name for entry in entries if not layout.ignored(entry.name)):
            batch = entry.partition(".")[0]
            if batch in batches and entry.endswith(".json"):
                found.setdefault(batch, []).append(entry)
        return found

    def _said(self, files: Files, batch: str, names: Sequence[str]) -> Mapping[str, Receipt]:
        sent = files.read(self._folder.at(f"{layout.SENT}/{batch}.json"), layout.MOST_MANIFEST)
        lines = layout.lines(sent)
        found: dict[str, Receipt] = {}
        for name in names:
            try:
                raw = parse(files.read(self._folder.at(f"{layout.ACKS}/{name}"),
                                       layout.MOST_MANIFEST))
            except (ValueError, TooMany, FileNotFoundError):
                continue  # half written, or no acknowledgement: the items go on waiting
            if not isinstance(raw, dict) or raw.get("batch") != batch:
                continue
            for file, receipt in _spoken(raw, layout.sha256(sent), lines).items():
                key = lines[file].key
                if found.get(key, _WAITING).state is not Acknowledged.REJECTED:
                    found[key] = receipt
        return found


def _spoken(raw: Mapping[str, object], whole: str,
            lines: Mapping[str, layout.Line]) -> Mapping[str, Receipt]:
    """File → receipt, by one acknowledgement."""
    found: dict[str, Receipt] = {}
    if "status" in raw and (receipt := _receipt(raw, raw.get("manifest_sha256"), whole)):
        found.update(dict.fromkeys(lines, receipt))
    items = raw.get("items")
    for each in items if isinstance(items, list) else []:
        if not isinstance(each, dict):
            continue
        file = each.get("file")
        line = lines.get(file) if isinstance(file, str) else None
        if line and (receipt := _receipt(each, each.get("sha256"), line.sha256)):
            found[line.file] = receipt
    return found


def _receipt(said: Mapping[str, object], echoed: object, ours: str) -> Receipt | None:
    """A reason is shown only when it is a code: a sentence could hold a borrower's name."""
    reason = said.get("reason")
    code = reason if isinstance(reason, str) and _CODE.fullmatch(reason) else ""
    if said.get("status") == "rejected":
        return Receipt(Acknowledged.REJECTED, code or _UNKNOWN)
    if said.get("status") == "accepted" and isinstance(echoed, str):
        if echoed.lower() == ours:
            return Receipt(Acknowledged.ACCEPTED)
        return Receipt(Acknowledged.REJECTED, _OTHER)
    return None
