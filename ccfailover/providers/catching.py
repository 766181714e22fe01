"""What libcurl calls back while a reply comes in, kept small because it comes often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pycurl

_HEADER_CAP: Final = 65_536


class Headers(Mapping[str, str]):
    """By lower-case name, the last one wins; taken apart when somebody asks, and few replies are
    asked."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines

    @cached_property
    def _found(self) -> dict[str, str]:
        pairs = (line.decode("latin-1").partition(":") for line in self._lines if b":" in line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    def __getitem__(self, name: str) -> str:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Catch:
    """Collects a reply up to a cap; libcurl stops when fewer bytes are taken than given."""

    def __init__(self, cap: int) -> None:
        self.status = 0
        self.lines: list[bytes] = []
        self.body = bytearray()
        self.cut = False
        self._cap = cap
        self._header_bytes = 0

    def header(self, line: bytes) -> int:
        size = len(line)
        self._header_bytes += size
        if self._header_bytes > _HEADER_CAP:
            return 0
        if line.startswith(b"HTTP/"):
            words = line.split(None, 2)
            self.status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            self.lines = []
        else:
            self.lines.append(line)
        return size

    def data(self, chunk: bytes) -> int:
        room = self._cap - len(self.body)
        self.body += chunk[:room]
        if len(chunk) > room:
            self.cut = True
            return 0
        return len(chunk)


@dataclass(frozen=True)
class Many:
    """A multi handle, whose connections live on between uses, and the easy handles for it."""

    multi: pycurl.CurlMulti
    idle: list[pycurl.Curl] = field(default_factory=list)

    def close(self) -> None:
        for handle in self.idle:
            handle.close()
        self.multi.close()
