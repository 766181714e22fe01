"""Drop folders for tests: batches as a lender's own system writes them, and weather over them."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ccfailover.providers.directory import DirectoryProvider
from ccfailover.providers.directory.files import Entry, Files
from ccfailover.providers.directory.local import LocalFiles

_numbers = itertools.count(1)


def drop_batch(ref: Path, bodies: Sequence[bytes], *, names: Sequence[str] | None = None,
               attributes: Mapping[str, str] | None = None, **said: Any) -> Path:
    """A batch out of sight, then renamed: so that nobody sees half of it. `said` changes the
    manifest; the batch's folder is given back."""
    name = f"batch-{os.getpid()}-{next(_numbers):06d}"
    names = names or [f"{number:06d}.json" for number in range(len(bodies))]
    hidden = ref / "incoming" / f".{name}"
    hidden.mkdir(parents=True)
    for file, body in zip(names, bodies, strict=True):
        (hidden / file).write_bytes(body)
    manifest = {"format": "ccfailover-drop/1", "batch": name, "count": len(bodies), "items": [
        {"file": file, "sha256": hashlib.sha256(body).hexdigest(),
         **({"attributes": dict(attributes)} if attributes else {})}
        for file, body in zip(names, bodies, strict=True)], **said}
    (hidden / "manifest.json").write_text(json.dumps(manifest))
    final = ref / "incoming" / name
    hidden.rename(final)
    return final


def batches(ref: Path) -> list[Path]:
    """Every item that anybody can see, in order."""
    return sorted(path for path in (ref / "incoming").glob("[!.]*/[!.]*")
                  if path.name != "manifest.json" and path.is_file())


class StormyFiles(LocalFiles):
    """A mounted folder whose server answers late or not at all: `weather` holds what comes next.

    `after`: a rename is done, and its answer is lost; `throttled`: a list or a new folder fails."""

    def __init__(self, root: str, weather: list[str], calls: list[str]) -> None:
        super().__init__(root)
        self._weather, self._calls = weather, calls

    def _meets(self, mode: str) -> bool:
        if self._weather[:1] == [mode]:
            del self._weather[0]
            return True
        return False

    def names(self, path: str, most: int) -> Sequence[Entry]:
        if self._meets("throttled"):
            raise OSError(errno.EAGAIN, "busy")
        return super().names(path, most)

    def mkdir(self, path: str) -> None:
        if self._meets("throttled"):
            raise OSError(errno.EAGAIN, "busy")
        super().mkdir(path)

    def rename(self, old: str, new: str) -> None:
        self._calls.append("rename")
        super().rename(old, new)
        if self._meets("after"):
            raise TimeoutError(errno.ETIMEDOUT, "no answer")


class StormyDirectory(DirectoryProvider):
    def __init__(self, *args: Any, weather: list[str], calls: list[str], **more: Any) -> None:
        super().__init__(*args, **more)
        self._make: Callable[[str], Files] = lambda root: StormyFiles(root, weather, calls)

    def _files(self) -> Files:
        return self._make(str(self.spec.params["path"]))
