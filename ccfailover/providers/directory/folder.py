"""One backlog's folder at one provider: its paths, its errors, and its server's clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Final

from ccfailover.errors import Unavailable
from ccfailover.providers.directory import layout
from ccfailover.providers.directory.faults import as_provider_error
from ccfailover.providers.directory.files import Files, TooMany
from ccfailover.providers.directory.local import NoRoot
from ccfailover.runtime import SECOND, Runtime

MOST_NAMES: Final = 1_000_000
"""Names in one folder that are looked through."""
CLOCK_SECONDS: Final = 60.0
"""How long the difference of two clocks is believed; they drift apart by far less."""


class Folder:
    """Threads may share it."""

    def __init__(self, provider: str, ref: str, connect: Callable[[], Files],
                 runtime: Runtime) -> None:
        self.provider, self.ref, self.runtime = provider, ref, runtime
        self._connect = connect
        self._lock = Lock()
        self._ready = False
        self._clock: tuple[float, float, float, float] | None = None

    def at(self, path: str) -> str:
        return f"{self.ref}/{path}" if path else self.ref

    @contextmanager
    def asked(self, operation: str, *, writes: bool) -> Iterator[Files]:
        """The files, and whatever goes wrong with them in our words."""
        where = f"{self.ref} {operation}"
        try:
            yield self._connect()
        except NoRoot:
            raise Unavailable("the provider's folder is not there: is it mounted?",
                              in_doubt=False, provider=self.provider, where=where,
                              hint="compare the provider's `path` with the machine") from None
        except (OSError, TooMany) as error:
            raise as_provider_error(error, self.provider, where, writes=writes) from None

    def prepare(self, files: Files) -> None:
        """Makes what is missing in the backlog's folder; that itself has to be there."""
        with self._lock:
            if self._ready:
                return
            files.look(self.ref)
            there = {each.name for each in files.names(self.ref, MOST_NAMES)}
            if layout.OURS in there:
                there |= {f"{layout.OURS}/{each.name}"
                          for each in files.names(self.at(layout.OURS), MOST_NAMES)}
            for path in (each for each in layout.FOLDERS if each not in there):
                with suppress(FileExistsError):
                    files.mkdir(self.at(path))
            self._ready = True

    def new_name(self) -> str:
        return "".join(self.runtime.new_id() for _ in range(4))

    # --- the server's clock ----------------------------------------------------------------------

    def earliest(self, files: Files) -> float:
        """It is this late at the server, or later: seconds since the epoch by its clock."""
        modified, _, after, _ = self._told(files)
        return modified + (self.runtime.monotonic() - after)

    def latest(self, files: Files) -> float:
        """It is this late at the server, or earlier."""
        modified, before, _, tick = self._told(files)
        return modified + tick + (self.runtime.monotonic() - before)

    def guess(self) -> float:
        """Without touching anything: by the server's clock if it is known, else by ours."""
        told = self._clock
        if told is None:
            return self.runtime.now() / SECOND
        return told[0] + (self.runtime.monotonic() - told[2])

    def _told(self, files: Files) -> tuple[float, float, float, float]:
        """A file just written carries the server's time: between `before` and `after` of ours."""
        told = self._clock
        if told is not None and self.runtime.monotonic() - told[2] < CLOCK_SECONDS:
            return told
        before = self.runtime.monotonic()
        modified = files.touch(self.at(layout.CLOCK))
        # A file system that tells no fractions is as coarse as a protocol that has none.
        tick = max(files.tick, 0.01 if modified % 1 else 1.0)
        self._clock = (modified, before, self.runtime.monotonic(), tick)
        return self._clock
