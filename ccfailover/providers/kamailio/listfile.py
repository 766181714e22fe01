"""The dispatcher's list file: `set uri flags priority attrs`, a destination a line.

Lines that are not ours to change come through as they are, byte by byte. The file is replaced by
a rename, so that a reload never meets half of one, and one lock on its folder keeps two writers of
ours apart: two queues may have two sets of one list.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.providers.documents import quoted
from ccfailover.runtime import Runtime

INACTIVE, TRYING, DISABLED, PROBING = 1, 2, 4, 8
"""The bits of a destination's flags."""
CAP: Final = 4 * 1_048_576
_LINE: Final = re.compile(
    r"(?P<set>-?[0-9]{1,10})\s+(?P<uri>\S+)"
    r"(?:\s+(?P<flags>[0-9]{1,4})(?:\s+(?P<priority>-?[0-9]{1,9})(?:\s+(?P<attrs>\S.*))?)?)?")
_PAUSE: Final = 0.02
_LASTING: Final = (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
UNCHANGED: Final = "the shares were not changed"


@dataclass(frozen=True)
class Entry:
    """`attrs` as they stand there, `rweight=50;site=hq`."""

    set_id: int
    uri: str
    flags: int
    priority: str
    attrs: str

    @property
    def line(self) -> str:
        return f"{self.set_id} {self.uri} {self.flags} {self.priority} {self.attrs}".rstrip()

    @property
    def carries(self) -> int:
        """The weight that an edge goes by that loads it."""
        weights = [part.partition("=")[2].strip() for part in self.attrs.split(";")
                   if part.partition("=")[0].strip() == "rweight"]
        weight = int(weights[-1]) if weights and weights[-1].isdigit() else 0
        return 0 if self.flags & DISABLED else weight

    def weighing(self, weight: int) -> str:
        """Its attributes with this `rweight`, the others as they are."""
        parts = [part for part in self.attrs.split(";") if part.strip()]
        fresh = f"rweight={weight}"
        found = [fresh if part.partition("=")[0].strip() == "rweight" else part for part in parts]
        return ";".join(found if fresh in found else [fresh, *found])


@dataclass(frozen=True)
class Line:
    """A line as it stands there, and the destination that it holds, if any."""

    raw: str
    entry: Entry | None


@dataclass(frozen=True)
class Listing:
    """The file as read; `stamp` differs after every replacement, the same content or not."""

    lines: tuple[Line, ...]
    content: bytes
    stamp: str

    def entries(self) -> Iterator[Entry]:
        return (line.entry for line in self.lines if line.entry is not None)

    def rewritten(self, change: Callable[[Entry], Entry],
                  known: Sequence[Line] = ()) -> bytes:
        """The content with each destination as `change` gives it; where that is what one of the
        `known` lines holds, byte by byte as it is there."""
        texts = {line.entry: line.raw for line in known}
        out = []
        for line in self.lines:
            fresh = line.entry if line.entry is None else change(line.entry)
            out.append(line.raw if fresh is None or fresh == line.entry else
                       texts.get(fresh, fresh.line) + "\n")
        return "".join(out).encode("utf-8", "surrogateescape")


class ListFile:
    """Raises Rejected where the file cannot be used or makes no sense, and Unavailable where that
    may pass; its contents are never in an error."""

    def __init__(self, path: str, provider: str, runtime: Runtime) -> None:
        self._shown, self._provider, self._runtime = path, provider, runtime

    def read(self) -> Listing:
        with self._faults("read"), self._place().open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(CAP + 1)
        if len(content) > CAP:
            raise self._rejected(f"it is larger than {CAP >> 20} MiB")
        text = content.decode("utf-8", "surrogateescape")
        lines = tuple(Line(raw, self._entry(raw, number))
                      for number, raw in enumerate(text.splitlines(keepends=True), 1))
        stamp = f"{status.st_ino}.{status.st_mtime_ns}.{status.st_size}"
        return Listing(lines, content, stamp)

    def lines(self, text: str) -> tuple[Line, ...]:
        """Of lines that were read here before."""
        return tuple(Line(raw, self._entry(raw, number))
                     for number, raw in enumerate(text.split("\n"), 1))

    def write(self, content: bytes) -> None:
        """In place of the file, with its owner and mode, whole or not at all."""
        with self._faults("written"):
            place = self._place()
            status = place.stat()
            fresh = place.with_name(f".{place.name}.{self._runtime.new_id()}")
            try:
                with fresh.open("xb") as file:
                    os.fchmod(file.fileno(), status.st_mode & 0o7777)
                    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(file.fileno(), status.st_uid, status.st_gid)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.rename(place)
            finally:
                fresh.unlink(missing_ok=True)
            folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """Alone among those who ask. Raises Unavailable when that takes longer than `seconds`."""
        end = self._runtime.monotonic() + seconds
        with self._faults("locked"):
            folder = os.open(self._place().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while not _take(folder):
                if self._runtime.monotonic() >= end:
                    raise Unavailable("another shift is writing the list", in_doubt=False,
                                      provider=self._provider, where=self._shown,
                                      not_done=UNCHANGED)
                self._runtime.sleep(_PAUSE)
            yield
        finally:
            os.close(folder)  # and the lock with it

    def _place(self) -> Path:
        return Path(os.path.realpath(self._shown))  # a link stays a link

    def _entry(self, raw: str, number: int) -> Entry | None:
        line = raw.strip()
        if not line or line.startswith("#"):
            return None
        match = _LINE.fullmatch(line)
        if match is None:
            raise self._rejected(f"line {number} makes no sense: {quoted(line, 40)}")
        return Entry(int(match["set"]), match["uri"], int(match["flags"] or 0),
                     match["priority"] or "0", match["attrs"] or "")

    @contextmanager
    def _faults(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"it cannot be {done}: {os.strerror(error.errno or errno.EIO)}"
            if isinstance(error, _LASTING):
                raise self._rejected(what) from None
            raise Unavailable(what, in_doubt=False, provider=self._provider, where=self._shown,
                              not_done=UNCHANGED) from None

    def _rejected(self, what: str) -> Rejected:
        return Rejected(what, provider=self._provider, where=self._shown,
                        not_done=UNCHANGED)


def _take(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
