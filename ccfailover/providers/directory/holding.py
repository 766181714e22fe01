"""Claims on files: a claimed file is moved out of sight under a name that says until when.

A rename from the very name that was seen is a compare-and-set: of two that want one file, one
finds it gone. So a claim is taken, extended, given back, and taken over by whoever sees that its
time is past, each by one rename, and never two of these. Times are the file server's own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Final

from ccfailover.providers import BacklogMeasure
from ccfailover.providers.directory import layout
from ccfailover.providers.directory.files import Entry, Files, Kind
from ccfailover.providers.directory.folder import MOST_NAMES, Folder

_FORESEEN: Final = 5_000
"""Files that one look through the folder finds for the next claims."""
_FRESH_SECONDS: Final = 30.0
"""How long such a look is used: what has a nearer deadline is seen after that."""

_IDLE_SECONDS: Final = 3600.0


class Holding:
    """Threads may share it. `most_claims`: a file claimed so often is left alone."""

    def __init__(self, folder: Folder, most_claims: int | None) -> None:
        self._folder, self._most = folder, most_claims
        self._lock, self._looking = Lock(), Lock()
        self._next: list[layout.Waiting] = []
        self._looked = 0.0
        self._names: dict[str, str] = {}

    # --- taking ------------------------------------------------------------------------------

    def take(self, files: Files, limit: int, seconds: float, *, most_bytes: int, readable: int
             ) -> list[tuple[layout.Claim, layout.Waiting]]:
        """Up to `limit` files, of `most_bytes` together where it is more than one. One beyond
        `readable` weighs nothing: it is not read."""
        folder = self._folder
        folder.prepare(files)
        chosen: list[layout.Waiting] = []
        weight = 0
        for each in self._foreseen(files, limit):
            weight += each.size if each.size <= readable else 0
            if chosen and weight > most_bytes:
                self._put_back(each)
                continue
            chosen.append(each)
        until = int((folder.latest(files) + seconds) * 1000) + 1
        stamp = folder.new_name()
        wanted = [(layout.Claim(until, f"{stamp}{index:04x}", layout.next_count(each.claims),
                                each.batch, each.stem), each)
                  for index, each in enumerate(chosen)]

        def move(pair: tuple[layout.Claim, layout.Waiting]) -> bool:
            try:
                files.rename(folder.at(pair[1].path), folder.at(pair[0].path))
            except FileNotFoundError:
                return False  # somebody else was first
            return True

        taken = [pair for pair, ok in zip(wanted, files.each(move, wanted), strict=True) if ok]
        with self._lock:
            self._names.update({each.handle: each.name for each, _ in taken})
        return taken

    def _foreseen(self, files: Files, limit: int) -> list[layout.Waiting]:
        now = self._folder.runtime.monotonic()
        with self._looking:
            if not self._next or now - self._looked > _FRESH_SECONDS:
                found = self._look(files)
                with self._lock:
                    self._next, self._looked = found, now
        with self._lock:
            chosen, self._next = self._next[:limit], self._next[limit:]
            return chosen

    def _put_back(self, waiting: layout.Waiting) -> None:
        with self._lock:
            self._next.insert(0, waiting)

    def _look(self, files: Files) -> list[layout.Waiting]:
        """The most urgent of the whole folder; before that, what lapsed is shown again."""
        now = int(self._folder.earliest(files) * 1000)
        lapsed = [claim for claim, _ in self._claims(files) if claim.until <= now]
        files.each(lambda claim: self._show(files, claim), lapsed)
        self._tidy(files, now / 1000)
        return heapq.nsmallest(
            _FORESEEN, (each for each, free in self._waiting(files) if each and free),
            key=lambda each: each.urgency)

    def _tidy(self, files: Files, now: float) -> None:
        """Batches of which nothing is left but the manifest would make every look longer. The
        manifest is kept, in case that an item comes back, and the folder goes only if empty."""
        folder = self._folder
        for entry in self._list(files, layout.INCOMING):
            place = f"{layout.INCOMING}/{entry.name}"
            if (entry.kind is not Kind.FOLDER or now - entry.modified < _IDLE_SECONDS
                    or layout.BATCH_NAME.fullmatch(entry.name) is None):
                continue
            with suppress(FileNotFoundError, NotADirectoryError):
                left = [each.name for each in self._list(files, place)]
                if left not in ([], [layout.MANIFEST]):
                    continue
                if left:
                    manifest = folder.at(f"{place}/{layout.MANIFEST}")
                    with suppress(FileExistsError):
                        files.write(folder.at(f"{layout.SENT}/{entry.name}.json"),
                                    files.read(manifest, layout.MOST_MANIFEST))
                    files.remove(manifest)
                with suppress(OSError):
                    files.rmdir(folder.at(place))

    # --- keeping, giving back, deleting ------------------------------------------------------

    def extend(self, files: Files, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        folder = self._folder
        until = int((folder.latest(files) + seconds) * 1000) + 1

        def act(claim: layout.Claim) -> bool:
            if seconds <= 0:
                return self._show(files, claim)
            later = layout.Claim(until, claim.handle, claim.claims, claim.batch, claim.stem)
            if later.name != claim.name:
                files.rename(folder.at(claim.path), folder.at(later.path))
            with self._lock:
                self._names[claim.handle] = later.name
            return True

        done = self._for_each(files, handles, act)
        if seconds <= 0:
            with self._lock:
                self._next = []
        return done

    def settle(self, files: Files, handles: Sequence[str]) -> Mapping[str, bool]:
        def act(claim: layout.Claim) -> bool:
            files.remove(self._folder.at(claim.path))
            with self._lock:
                self._names.pop(claim.handle, None)
            return True

        return self._for_each(files, handles, act)

    def _for_each(self, files: Files, handles: Sequence[str],
                  act: Callable[[layout.Claim], bool]) -> Mapping[str, bool]:
        """`act` on every claim that still holds. A name that is gone is looked for once: another
        process, or a call whose answer was lost, may have extended it."""
        done = dict.fromkeys(handles, False)
        left = list(done)
        for known in (True, False):
            if not left:
                break
            names = self._known(left) if known else self._found(files, set(left))
            now = int(self._folder.earliest(files) * 1000)
            holding = [claim for name in names if (claim := layout.claim(name)) is not None
                       and claim.until > now]

            def attempt(claim: layout.Claim) -> bool:
                with suppress(FileNotFoundError):
                    return act(claim)
                return False

            done.update(zip((claim.handle for claim in holding),
                            files.each(attempt, holding), strict=True))
            left = [handle for handle in left if not done[handle]]
        return done

    def _known(self, handles: Sequence[str]) -> list[str]:
        with self._lock:
            return [self._names[handle] for handle in handles if handle in self._names]

    def _found(self, files: Files, handles: set[str]) -> list[str]:
        try:
            return [claim.name for claim, _ in self._claims(files) if claim.handle in handles]
        except FileNotFoundError:
            return []

    def _show(self, files: Files, claim: layout.Claim) -> bool:
        """Back where it was, with the count of its claims in its name. False: it was gone."""
        folder, back = self._folder, claim.back
        for _ in range(2):
            try:
                files.rename(folder.at(claim.path), folder.at(back.path))
            except FileNotFoundError:
                if not back.batch:
                    return False
                # Either it is gone, or the folder of its batch is.
                with suppress(FileExistsError):
                    files.mkdir(folder.at(f"{layout.INCOMING}/{back.batch}"))
                continue
            with self._lock:
                self._names.pop(claim.handle, None)
            return True
        with suppress(OSError):  # not needed after all, or in use by now
            files.rmdir(folder.at(f"{layout.INCOMING}/{back.batch}"))
        return False

    # --- looking -----------------------------------------------------------------------------

    def measure(self, files: Files) -> BacklogMeasure:
        """Writes nothing. What cannot be claimed (begun, locked, oddly named) is hidden."""
        files.look(self._folder.ref)
        now = self._folder.guess()
        visible = hidden = 0
        oldest: float | None = None

        def seen(modified: float) -> None:
            nonlocal oldest
            oldest = modified if oldest is None else min(oldest, modified)

        with suppress(FileNotFoundError):  # nothing was ever put there
            for waiting, free in self._waiting(files, seen):
                visible += waiting is not None and free
                hidden += waiting is None or not free
        with suppress(FileNotFoundError):
            for claim, entry in self._claims(files):
                seen(entry.modified)
                visible += claim.until <= now * 1000
                hidden += claim.until > now * 1000
        for entry in self._begun(files):
            seen(entry.modified)
            hidden += 1
        return BacklogMeasure(visible, hidden,
                              None if oldest is None else max(0.0, now - oldest))

    def _list(self, files: Files, path: str) -> Sequence[Entry]:
        return files.names(self._folder.at(path), MOST_NAMES)

    def _claims(self, files: Files) -> Iterator[tuple[layout.Claim, Entry]]:
        for entry in self._list(files, layout.CLAIMED):
            claim = layout.claim(entry.name) if entry.kind is Kind.FILE else None
            if claim is not None:
                yield claim, entry

    def _waiting(self, files: Files, seen: Callable[[float], None] = lambda modified: None,
                 ) -> Iterator[tuple[layout.Waiting | None, bool]]:
        """Every item in `incoming`, and whether it may be claimed; None: it cannot be named."""
        loose = self._list(files, layout.INCOMING)
        for batch in ["", *sorted(entry.name for entry in loose if entry.kind is Kind.FOLDER
                                  and layout.BATCH_NAME.fullmatch(entry.name))]:
            entries = loose
            if batch:
                try:
                    entries = self._list(files, f"{layout.INCOMING}/{batch}")
                except (FileNotFoundError, NotADirectoryError):
                    continue  # taken away, or replaced, since it was listed
            locked = {entry.name.removesuffix(layout.LOCK) for entry in entries
                      if entry.name.endswith(layout.LOCK)}
            for entry in entries:
                if layout.ignored(entry.name) or (not batch and entry.kind is Kind.FOLDER):
                    continue
                seen(entry.modified)
                found = (layout.waiting(batch, entry.name, entry.size, entry.modified)
                         if entry.kind is Kind.FILE else None)
                spent = found is not None and self._most is not None and found.claims >= self._most
                yield found, entry.name not in locked and not spent

    def _begun(self, files: Files) -> Iterator[Entry]:
        """What lies in `working`, also one folder below (a desk, a shift, a batch)."""
        with suppress(FileNotFoundError):
            for entry in self._list(files, layout.WORKING):
                if layout.ignored(entry.name):
                    continue
                if entry.kind is not Kind.FOLDER:
                    yield entry
                    continue
                with suppress(FileNotFoundError, NotADirectoryError):
                    for below in self._list(files, f"{layout.WORKING}/{entry.name}"):
                        if below.kind is Kind.FILE and not layout.ignored(below.name):
                            yield below
