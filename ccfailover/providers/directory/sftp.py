"""A folder of a server that speaks SFTP, by paramiko. Imported when a connection is needed.

Symbolic links on the way are followed by the server, within what it lets this login see; what is
read is held against its manifest all the same.
"""

from __future__ import annotations

import errno
import logging
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Final, TypeVar

import paramiko
from paramiko.message import Message
from paramiko.sftp import SFTP_EOF, SFTP_NO_SUCH_FILE, SFTP_OK, SFTP_PERMISSION_DENIED

from ccfailover.providers.directory.faults import Failed
from ccfailover.providers.directory.files import Entry, Files, Kind, TooMany
from ccfailover.providers.directory.layout import OURS
from ccfailover.providers.directory.local import NoRoot
from ccfailover.runtime import Runtime

T = TypeVar("T")
R = TypeVar("R")
_CHANNELS: Final = 4
"""Calls at a time over one connection; a server of OpenSSH allows ten by default."""
_EXTENDED: Final = 200
_UNSUPPORTED: Final = 8
_ENDED: Final = frozenset({6, 7})
_FILE_MODE: Final = 0o660
_FOLDER_MODE: Final = 0o770

# What the library has to say of a connection it says in its errors, too; without a handler its
# log would go to the terminal, and quote the server.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Channel(paramiko.SFTPClient):
    """The library's client, with an errno for every answer and with OpenSSH's fsync."""

    flushes = True
    renames = True

    def _convert_status(self, msg: Message) -> None:
        code = msg.get_int()
        if code == SFTP_OK:
            return
        if code == SFTP_EOF:
            raise EOFError
        if code == SFTP_NO_SUCH_FILE:
            raise FileNotFoundError(errno.ENOENT, "no such file")
        if code == SFTP_PERMISSION_DENIED:
            raise PermissionError(errno.EACCES, "no right to it")
        if code == _UNSUPPORTED:
            raise OSError(errno.ENOTSUP, "not supported")
        if code in _ENDED:
            raise ConnectionError("the connection is lost")
        raise Failed("it was not done")

    def _read_all(self, n: int) -> bytes:
        """The library takes the end of a connection for the end of a file or of a list."""
        try:
            read: bytes = super()._read_all(n)  # type: ignore[misc]
        except EOFError:
            raise ConnectionError("the connection is lost") from None
        return read

    def flush(self, file: paramiko.SFTPFile) -> None:
        """On disk, where the server can be told to; else when it sees fit."""
        if not self.flushes:
            return
        try:
            self._request(  # type: ignore[attr-defined]
                _EXTENDED, "fsync@openssh.com", file.handle)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            self.flushes = False

    def move(self, old: str, new: str) -> None:
        """The protocol's own rename is made of two steps at OpenSSH, so its extension is used."""
        if self.renames:
            try:
                self.posix_rename(old, new)
                return
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise
                self.renames = False
        self.rename(old, new)


class SftpFiles(Files):
    """`connect` gives a transport that has logged in, or raises one of our errors. A connection
    that failed once is not used again; the next call makes another one."""

    tick = 1.0

    def __init__(self, root: str, connect: Callable[[], paramiko.Transport], runtime: Runtime,
                 *, timeout: float) -> None:
        self._root, self._connect, self._runtime = root, connect, runtime
        self._timeout = timeout
        self._lock = Lock()
        self._transport: paramiko.Transport | None = None
        self._idle: list[Channel] = []

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        with self._lock:
            if self._transport is None or not self._transport.is_active():
                self._idle = []
                self._transport = self._connect()
            transport = self._transport
            channel = self._idle.pop() if self._idle else None
        try:
            if channel is None:
                channel = self._open(transport)
            yield channel
        except (TimeoutError, ConnectionError, EOFError, paramiko.SSHException,
                UnicodeDecodeError, ValueError) as error:
            self._drop(transport)
            if isinstance(error, TimeoutError):
                raise
            raise ConnectionError("the connection is lost") from None
        except TooMany:
            self._drop(transport)  # answers to what was asked ahead are still on their way
            raise
        except OSError:
            self._keep(transport, channel)
            raise
        self._keep(transport, channel)

    def _open(self, transport: paramiko.Transport) -> Channel:
        opened = transport.open_session(timeout=self._timeout)
        opened.settimeout(self._timeout)
        opened.invoke_subsystem("sftp")
        return Channel(opened)

    def _keep(self, transport: paramiko.Transport, channel: Channel | None) -> None:
        with self._lock:
            if channel is not None and self._transport is transport:
                self._idle.append(channel)

    def _drop(self, transport: paramiko.Transport) -> None:
        with self._lock:
            if self._transport is transport:
                self._transport, self._idle = None, []
        transport.close()

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def names(self, path: str, most: int) -> Sequence[Entry]:
        found: list[Entry] = []
        with self._channel() as channel:
            for attributes in channel.listdir_iter(self._at(path)):
                if len(found) >= most:
                    raise TooMany
                found.append(_entry(attributes.filename, attributes))
        return found

    def look(self, path: str) -> Entry:
        with self._channel() as channel:
            try:
                return _entry(path.rpartition("/")[2], channel.lstat(self._at(path)))
            except FileNotFoundError:
                if f"/{OURS}/" not in path:
                    self._see_root(channel)
                raise

    def _see_root(self, channel: Channel) -> None:
        try:
            channel.stat(self._root)
        except FileNotFoundError:
            raise NoRoot(errno.ENOENT, "the root is not there") from None

    def read(self, path: str, most: int) -> bytes:
        with self._channel() as channel:
            # Not opened unseen: reading a pipe would never end.
            if _entry("", channel.lstat(self._at(path))).kind is not Kind.FILE:
                raise OSError(errno.EINVAL, "no regular file")
            with channel.open(self._at(path), "rb") as file:
                parts, left = [], most + 1
                while left and (part := file.read(min(left, 32_768))):
                    parts.append(part)
                    left -= len(part)
        if not left:
            raise TooMany
        return b"".join(parts)

    def write(self, path: str, data: bytes) -> None:
        with self._channel() as channel:
            with self._new(channel, self._at(path)) as file:
                file.write(data)
                channel.flush(file)
            # The library keeps quiet about a close that failed, and that may be the full disk's.
            if not channel.flushes and channel.lstat(self._at(path)).st_size != len(data):
                raise Failed("it was not written whole")

    def _new(self, channel: Channel, where: str) -> paramiko.SFTPFile:
        """The library's own `open` chooses the rights itself; the server's umask narrows these."""
        try:
            return channel.open(where, "wx")
        except Failed:
            self._refuse_another(channel, where)
            raise

    def touch(self, path: str) -> float:
        with self._channel() as channel, channel.open(self._at(path), "wb") as file:
            file.write(b".")
            return float(file.stat().st_mtime or 0)

    def rename(self, old: str, new: str) -> None:
        with self._channel() as channel:
            channel.move(self._at(old), self._at(new))

    def mkdir(self, path: str) -> None:
        with self._channel() as channel:
            try:
                channel.mkdir(self._at(path), _FOLDER_MODE)
            except Failed:
                self._refuse_another(channel, self._at(path))
                raise

    def remove(self, path: str) -> None:
        with self._channel() as channel:
            channel.remove(self._at(path))

    def rmdir(self, path: str) -> None:
        with self._channel() as channel:
            channel.rmdir(self._at(path))

    def mark(self, path: str, said: str) -> None:
        with self._channel() as channel:
            try:
                channel.symlink(said, self._at(path))
            except Failed:
                self._refuse_another(channel, self._at(path))
                raise

    def _refuse_another(self, channel: Channel, where: str) -> None:
        """Protocol 3 has no word for "there is one already"."""
        with suppress(FileNotFoundError):
            channel.lstat(where)
            raise FileExistsError(errno.EEXIST, "there is one already")

    def marked(self, path: str) -> str:
        with self._channel() as channel:
            return channel.readlink(self._at(path)) or ""

    def sync(self, path: str) -> None:
        """The protocol has no word for it; a journaling file system keeps the order of names."""

    def each(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        # A further channel costs as much as some calls do.
        return self._runtime.each(fn, items, min(_CHANNELS, 1 + len(items) // 8))

    def close(self) -> None:
        with self._lock:
            transport, self._transport, self._idle = self._transport, None, []
        if transport is not None:
            transport.close()


def _entry(name: str, found: paramiko.SFTPAttributes) -> Entry:
    mode = found.st_mode or 0
    kind = (Kind.FILE if stat.S_ISREG(mode) else Kind.FOLDER if stat.S_ISDIR(mode)
            else Kind.OTHER)
    return Entry(name, kind, int(found.st_size or 0), float(found.st_mtime or 0))


def reach(host: str, port: int, timeout: float) -> socket.socket:
    """A plain connection; its errors are those of sockets."""
    opened = socket.create_connection((host, port), timeout=timeout)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened
