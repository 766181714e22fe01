"""The few file operations that a backlog of files is made of, wherever the files are.

    LocalFiles(root)      a folder of this machine, or one that is mounted here
    SftpFiles(...)        a folder of a server that speaks SFTP

Paths are relative to the provider's root, with slashes; every part of one was checked by
`layout`. What goes wrong is an OSError: FileNotFoundError, FileExistsError, PermissionError, a
TimeoutError or ConnectionError when nobody knows whether it was done, and else by its errno.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class TooMany(Exception):
    """A folder or a file is larger than anybody should have made it."""


class Kind(Enum):
    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"


@dataclass(frozen=True)
class Entry:
    """One name in a folder, as it is there: a symbolic link is `OTHER`, whatever it points to.

    `modified`: seconds since the epoch by the clock of whoever keeps the files."""

    name: str
    kind: Kind
    size: int
    modified: float


class Files(ABC):
    """Threads may share one."""

    tick: float = 0.0
    """Seconds between two times that `modified` can tell apart."""

    @abstractmethod
    def names(self, path: str, most: int) -> Sequence[Entry]:
        """What is in a folder. Raises TooMany for more than `most` names."""

    @abstractmethod
    def look(self, path: str) -> Entry:
        """One entry, without following it."""

    @abstractmethod
    def read(self, path: str, most: int) -> bytes:
        """A regular file's content. Raises TooMany for more than `most` bytes."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """A new file, on disk when this returns; never over another one."""

    @abstractmethod
    def touch(self, path: str) -> float:
        """Writes a small file, which may be there, and gives the time at which that was."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """In one go: a file or folder is at one of the two places at every moment.

        The caller sees to it that nothing else has the name `new`."""

    @abstractmethod
    def mkdir(self, path: str) -> None: ...

    @abstractmethod
    def remove(self, path: str) -> None: ...

    @abstractmethod
    def rmdir(self, path: str) -> None: ...

    @abstractmethod
    def mark(self, path: str, said: str) -> None:
        """A name that says `said`, made in one go, and refused when there is one already: a
        symbolic link that leads nowhere and is never followed."""

    @abstractmethod
    def marked(self, path: str) -> str:
        """What a mark says."""

    @abstractmethod
    def sync(self, path: str) -> None:
        """The names in a folder are on disk when this returns, where that can be asked for."""

    @abstractmethod
    def each(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`fn` of every item, side by side where that saves waiting."""

    @abstractmethod
    def close(self) -> None: ...
