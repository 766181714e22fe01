"""A folder of this machine. No symbolic link below its root is ever followed: the outsourcer's
people may write there, and a link in place of a folder must not lead us elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from ccfailover.providers.directory.files import Entry, Files, Kind, TooMany

T = TypeVar("T")
R = TypeVar("R")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_MODE: Final = 0o660
_FOLDER_MODE: Final = 0o770
"""The umask narrows both; the outsourcer's people have their rights from the folder's group."""


class NoRoot(OSError):
    """The root itself is not there: not made, or not mounted now."""


class LocalFiles(Files):
    def __init__(self, root: str) -> None:
        self._root = root

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        """A descriptor of a folder below the root, opened part by part."""
        try:
            here = os.open(self._root, _FOLDER)
        except FileNotFoundError:
            raise NoRoot(errno.ENOENT, "the root is not there") from None
        try:
            for part in filter(None, path.split("/")):
                below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)

    @contextmanager
    def _within(self, path: str) -> Iterator[tuple[int, str]]:
        folder, _, name = path.rpartition("/")
        with self._folder(folder) as here:
            yield here, name

    def names(self, path: str, most: int) -> Sequence[Entry]:
        found: list[Entry] = []
        with self._folder(path) as here, os.scandir(here) as entries:
            for entry in entries:
                if len(found) >= most:
                    raise TooMany
                with contextlib.suppress(FileNotFoundError):  # taken since it was listed
                    found.append(_entry(entry.name, entry.stat(follow_symlinks=False)))
        return found

    def look(self, path: str) -> Entry:
        with self._within(path) as (here, name):
            return _entry(name, os.stat(name, dir_fd=here, follow_symlinks=False))

    def read(self, path: str, most: int) -> bytes:
        with self._within(path) as (here, name):
            # Not blocking: a pipe in place of a file would be waited for for ever.
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                             dir_fd=here)
        with open(opened, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise OSError(errno.EINVAL, "no regular file")
            parts, left = [], most + 1
            while left and (part := file.read(left)):
                parts.append(part)
                left -= len(part)
        if not left:
            raise TooMany
        return b"".join(parts)

    def write(self, path: str, data: bytes) -> None:
        with self._within(path) as (here, name):
            opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                             _FILE_MODE, dir_fd=here)
        with open(opened, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view):]
            os.fsync(opened)

    def touch(self, path: str) -> float:
        with self._within(path) as (here, name):
            opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
                             | os.O_CLOEXEC, _FILE_MODE, dir_fd=here)
        with open(opened, "wb", buffering=0) as file:
            file.write(b".")
            return os.fstat(opened).st_mtime

    def rename(self, old: str, new: str) -> None:
        with self._within(old) as (here, name), self._within(new) as (there, other):
            os.rename(name, other, src_dir_fd=here, dst_dir_fd=there)

    def mkdir(self, path: str) -> None:
        with self._within(path) as (here, name):
            os.mkdir(name, _FOLDER_MODE, dir_fd=here)

    def remove(self, path: str) -> None:
        with self._within(path) as (here, name):
            os.unlink(name, dir_fd=here)

    def rmdir(self, path: str) -> None:
        with self._within(path) as (here, name):
            os.rmdir(name, dir_fd=here)

    def mark(self, path: str, said: str) -> None:
        with self._within(path) as (here, name):
            os.symlink(said, name, dir_fd=here)

    def marked(self, path: str) -> str:
        with self._within(path) as (here, name):
            return os.readlink(name, dir_fd=here)

    def sync(self, path: str) -> None:
        with self._folder(path) as here:
            try:
                os.fsync(here)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise  # else this file system has no such thing for folders

    def each(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return [fn(item) for item in items]

    def close(self) -> None:
        """Nothing is kept open between two calls."""


def _entry(name: str, found: os.stat_result) -> Entry:
    kind = (Kind.FILE if stat.S_ISREG(found.st_mode)
            else Kind.FOLDER if stat.S_ISDIR(found.st_mode) else Kind.OTHER)
    return Entry(name, kind, found.st_size, found.st_mtime)
