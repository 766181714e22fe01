"""A claimed file as a work item: held against its manifest, byte by byte."""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Final

from ccfailover.model.items import WorkItem
from ccfailover.providers.bodies import understand
from ccfailover.providers.directory import layout
from ccfailover.providers.directory.files import Files, TooMany
from ccfailover.providers.directory.folder import Folder

_KEPT: Final = 32
_SPARE: Final = 65_536
"""How far over the limit a body is still read, so that its problem can be looked into."""
Lines = Mapping[str, layout.Line]


class Reading:
    """Threads may share it."""

    def __init__(self, folder: Folder, mapping: Mapping[str, str], most_bytes: int) -> None:
        self._folder, self._mapping, self._most = folder, mapping, most_bytes
        self._lock = Lock()
        self._manifests: OrderedDict[str, Lines] = OrderedDict()

    @property
    def most_bytes(self) -> int:
        return self._most + _SPARE

    def item(self, files: Files, claim: layout.Claim, waiting: layout.Waiting) -> WorkItem | None:
        """None when the file is gone from its claim by now."""
        body, problem = b"", None
        try:
            if waiting.size > self.most_bytes:
                raise TooMany
            body = files.read(self._folder.at(claim.path), self.most_bytes)
        except FileNotFoundError:
            return None
        except TooMany:
            problem = f"the file has {max(waiting.size, self.most_bytes)} bytes or more"
        except OSError as error:
            problem = f"the file {_unreadable(error)}"
        line, why = self._line(files, claim.batch, claim.stem)
        found = understand(body, self._mapping, self._most)
        problem = problem or why or found.problem
        if problem is None and line is not None and layout.sha256(body) != line.sha256:
            problem = "its SHA-256 is not the one in the manifest"
        when = datetime.fromtimestamp(max(0.0, min(waiting.modified, 4e9)), UTC)
        return WorkItem(
            item_id="" if problem else found.item_id, message_id=waiting.message, body=body,
            fields=found.fields, handle=claim.handle,
            submitted=(line.submitted if line else None) or found.submitted
            or when.isoformat(timespec="seconds").replace("+00:00", "Z"),
            hops=line.hops if line else 0, receives=claim.claims, problem=problem,
            attributes=dict(line.attributes) if line else {})

    def _line(self, files: Files, batch: str, stem: str) -> tuple[layout.Line | None, str | None]:
        """What the manifest says of the file; else what is wrong."""
        if not batch:
            return None, "it lies in no batch, and so has no manifest"
        try:
            found = self._manifest(files, batch)
        except FileNotFoundError:
            return None, "its batch has no manifest"
        except TooMany:
            return None, "the manifest of its batch is too large"
        except OSError as error:
            return None, f"the manifest of its batch {_unreadable(error)}"
        except ValueError as error:
            return None, f"the manifest of its batch makes no sense: {error}"
        line = found.get(stem)
        return line, None if line else "the manifest of its batch does not list it"

    def _manifest(self, files: Files, batch: str) -> Lines:
        with self._lock:
            if batch in self._manifests:
                self._manifests.move_to_end(batch)
                return self._manifests[batch]
            try:
                raw = files.read(
                    self._folder.at(f"{layout.INCOMING}/{batch}/{layout.MANIFEST}"),
                    layout.MOST_MANIFEST)
            except FileNotFoundError:
                # Taken away with its folder by people who left the item: we kept a copy of ours.
                raw = files.read(self._folder.at(f"{layout.SENT}/{batch}.json"),
                                 layout.MOST_MANIFEST)
            found = self._manifests[batch] = layout.lines(raw)
            while len(self._manifests) > _KEPT:
                self._manifests.popitem(last=False)
            return found


def _unreadable(error: OSError) -> str:
    """What is wrong with the one file. Raises `error` again when it is not the file's fault."""
    if error.errno in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
        return "is no regular file"
    if isinstance(error, PermissionError):
        return "may not be read by this login"
    raise error
