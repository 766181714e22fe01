"""What is called how in a backlog of files, and what a manifest says.

    <ref>/incoming/<batch>/<file>          waits; a batch appears whole, with its manifest.json
    <ref>/claimed/<until>~<handle>~…       hidden by a claim until that time (ms, server's clock)
    <ref>/working/                         begun by the outsourcer's people, who move files here
    <ref>/acks/<batch>.<anything>.json     what they say of a batch
    <ref>/.ccf/keys/<x>/<digest>.<n>       which batch delivers a key, for ever
    <ref>/.ccf/staging/<batch>/            being written
    <ref>/.ccf/abandoned/<batch>/          will never appear
    <ref>/.ccf/sent/<batch>.json           a copy of each manifest
    <ref>/.ccf/clock                       touched to learn the server's time
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ccfailover.model.items import WorkItem
from ccfailover.providers.documents import parse

INCOMING, CLAIMED, WORKING, ACKS = "incoming", "claimed", "working", "acks"
OURS, KEYS, STAGING = ".ccf", ".ccf/keys", ".ccf/staging"
ABANDONED, SENT, CLOCK = ".ccf/abandoned", ".ccf/sent", ".ccf/clock"
FOLDERS: Final = (INCOMING, CLAIMED, WORKING, ACKS, OURS, KEYS, STAGING, ABANDONED, SENT)
MANIFEST: Final = "manifest.json"
FORMAT: Final = "ccfailover-drop/1"
MOST_MANIFEST: Final = 8 * 1024 * 1024
PART: Final = "[A-Za-z0-9][A-Za-z0-9._-]"
BATCH_NAME: Final = re.compile(rf"{PART}{{0,63}}")
_FILE_NAME: Final = re.compile(rf"({PART}{{0,119}})(?:~([0-9]{{1,4}}))?")
_CLAIM_NAME: Final = re.compile(
    rf"([0-9]{{13}})~([0-9a-f]{{8,40}})~([0-9]{{1,4}})~(-|{PART}{{0,63}})~({PART}{{0,119}})")
_UPLOADING: Final = (".tmp", ".part", ".filepart", ".partial")
LOCK: Final = ".lock"
_STAMP: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-")
_UNDATED: Final = "undated"
"""After every date in the order of names."""
_SHA256: Final = re.compile("[0-9a-f]{64}")
_MOST_COUNT: Final = 9999


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ignored(name: str) -> bool:
    """Uploads on their way, and what belongs to an item without being one."""
    return (name.startswith(".") or name == MANIFEST
            or name.lower().endswith((*_UPLOADING, LOCK)))


@dataclass(frozen=True)
class Waiting:
    """A file that can be claimed: `claims` is how often it has been."""

    batch: str
    stem: str
    claims: int
    size: int = 0
    modified: float = 0.0

    @property
    def path(self) -> str:
        tail = f"~{self.claims}" if self.claims else ""
        return f"{INCOMING}/{self.batch}/{self.stem}{tail}" if self.batch else (
            f"{INCOMING}/{self.stem}{tail}")

    @property
    def message(self) -> str:
        return f"{self.batch}/{self.stem}"

    @property
    def urgency(self) -> tuple[str, str, str]:
        return (self.stem[:16] if _STAMP.match(self.stem) else _UNDATED, self.batch, self.stem)


LOOSE: Final = "-"
"""Stands in a claim's name for the batch of a file that lies in `incoming` itself."""


@dataclass(frozen=True)
class Claim:
    """A claimed file: `until` in ms of the server's clock, `claims` with this one."""

    until: int
    handle: str
    claims: int
    batch: str
    stem: str

    @property
    def name(self) -> str:
        return f"{self.until:013d}~{self.handle}~{self.claims}~{self.batch or LOOSE}~{self.stem}"

    @property
    def path(self) -> str:
        return f"{CLAIMED}/{self.name}"

    @property
    def back(self) -> Waiting:
        return Waiting(self.batch, self.stem, self.claims)


def waiting(batch: str, name: str, size: int, modified: float) -> Waiting | None:
    """A file's name understood; None for a name that nobody should have given it."""
    found = _FILE_NAME.fullmatch(name)
    if found is None:
        return None
    return Waiting(batch, found[1], int(found[2] or 0), size, modified)


def claim(name: str) -> Claim | None:
    found = _CLAIM_NAME.fullmatch(name)
    if found is None:
        return None
    return Claim(int(found[1]), found[2], int(found[3]),
                 "" if found[4] == LOOSE else found[4], found[5])


def next_count(claims: int) -> int:
    return min(_MOST_COUNT, claims + 1)


def file_name(item: WorkItem, key: str) -> str:
    """The same for the same key and item; it sorts by the day the application was submitted."""
    return f"{_stamp(item.submitted)}-{digest(key)[:24]}.json"


def _stamp(submitted: str | None) -> str:
    try:
        moment = datetime.fromisoformat((submitted or "").strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return _UNDATED
    return f"{moment:%Y%m%dT%H%M%SZ}" if moment.year >= 1000 else _UNDATED


# --- manifests -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What a manifest says of one file; only `file` and `sha256` have to be there."""

    file: str
    sha256: str
    key: str
    submitted: str | None
    hops: int
    attributes: Mapping[str, str]


def manifest(batch: str, made: str, items: Sequence[tuple[WorkItem, str, str]]) -> bytes:
    """`items`: each with its key and its file's name."""
    return json.dumps({
        "format": FORMAT, "batch": batch, "made": made, "count": len(items),
        "items": [{
            "id": item.item_id, "key": key, "file": file, "sha256": sha256(item.body),
            "bytes": len(item.body), "submitted": item.submitted, "hops": item.hops,
            "attributes": dict(item.attributes),
        } for item, key, file in items],
    }, indent=1).encode("ascii")


def lines(document: bytes) -> Mapping[str, Line]:
    """File → line. Raises ValueError with a sentence that quotes nothing."""
    found = parse(document)
    if not isinstance(found, dict) or not isinstance(found.get("items"), list):
        raise ValueError("no list of items")
    made: dict[str, Line] = {}
    for raw in found["items"]:
        line = _line(raw)
        if line.file in made:
            raise ValueError("a file is listed twice")
        made[line.file] = line
    count = found.get("count", len(made))
    if count != len(made):
        raise ValueError("the count is not that of the items")
    return made


def _line(raw: object) -> Line:
    if not isinstance(raw, dict):
        raise ValueError("an item is no object")
    file, said, key = raw.get("file"), raw.get("sha256"), raw.get("key", "")
    submitted, hops = raw.get("submitted"), raw.get("hops", 0)
    attributes = raw.get("attributes") or {}
    if not isinstance(file, str) or not re.fullmatch(rf"{PART}{{0,119}}", file):
        raise ValueError("an item has no usable file name")
    if not isinstance(said, str) or not _SHA256.fullmatch(said.lower()):
        raise ValueError("an item has no SHA-256")
    if not isinstance(key, str) or not isinstance(submitted, str | None) or not (
            isinstance(hops, int) and not isinstance(hops, bool) and 0 <= hops < 1_000_000):
        raise ValueError("an item's key, time or hops make no sense")
    if not isinstance(attributes, dict) or not all(
            isinstance(value, str) for value in attributes.values()):
        raise ValueError("an item's attributes make no sense")
    return Line(file, said.lower(), key, (submitted or "")[:64] or None, hops, attributes)
