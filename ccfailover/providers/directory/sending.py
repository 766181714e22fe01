"""Batches that appear whole, and no item twice.

A batch is written under `.ccf/staging/<batch>`, where nobody looks, and appears by one rename to
`incoming/<batch>`. Before its files are written each delivery's key is marked with the batch:
`.ccf/keys/<x>/<digest>.1` is a name that can be made only once and is never removed. Where a batch
is says what became of its keys:

- in `staging`: undecided. Whoever meets the key may abandon the batch, by one rename to
  `.ccf/abandoned/<batch>`; its writer's own rename then fails, and nothing of it was ever seen.
- in `abandoned`: it never appears. The key's next mark (`….2`) may be made.
- in neither: it has appeared, and whoever reads it may have taken it away since.

So a key is in one batch that appears, at most: the writer of `….2` has seen that `….1` never will.
A process killed at any point leaves a batch that is undecided, or one that has appeared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from threading import Lock
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import WorkItem
from ccfailover.providers.directory import layout
from ccfailover.providers.directory.files import Files, Kind
from ccfailover.providers.directory.folder import Folder
from ccfailover.runtime import SECOND

_MOST_MARKS: Final = 1000
_MOST_STAGED: Final = 10_000
_STALE_SECONDS: Final = 86_400.0


class State(Enum):
    UNDECIDED = "undecided"
    ABANDONED = "abandoned"
    APPEARED = "appeared"


@dataclass(frozen=True)
class Parcel:
    item: WorkItem
    key: str

    @property
    def file(self) -> str:
        return layout.file_name(self.item, self.key)


@dataclass(frozen=True)
class Sent:
    """Where the item of one key is: `file` of `batch`; `again` when it was there before."""

    batch: str
    file: str
    again: bool


class Sending:
    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._proved = False
        self._lock = Lock()
        self._met: set[str] = set()

    def send(self, parcels: Sequence[Parcel]) -> Mapping[str, Sent]:
        """Key → where it is. Raises Rejected, or Unavailable, which is in doubt only when the
        batch may have appeared; none of its items was seen by anybody otherwise."""
        batch = self._new_batch()
        with self._folder.asked("put", writes=False) as files:
            self.prove(files)
        try:
            with self._folder.asked("put", writes=False) as files:
                fresh, sent = self._stage(files, batch, parcels)
        except ProviderError:
            # Only this process lets the batch appear, and now it will not.
            self._forget(batch)
            raise
        if not fresh:
            self._forget(batch)
            return sent
        with self._folder.asked("put", writes=True) as files:
            self._appear(files, batch)
        return sent

    def find(self, files: Files, key: str) -> str | None:
        """The batch that delivered `key`; None: none did."""
        for number in range(1, _MOST_MARKS):
            try:
                owner = self._owner(files, self._mark(key, number))
            except FileNotFoundError:
                return None
            match self._state(files, owner):
                case State.APPEARED:
                    return owner
                case State.UNDECIDED:
                    return None
        return None

    def prove(self, files: Files) -> None:
        """Once: the folder is made ready, and the file server does what all this rests on."""
        if self._proved:
            return
        folder = self._folder
        folder.prepare(files)
        name = f"probe-{folder.new_name()}"
        place, gone = (folder.at(f"{each}/{name}") for each in (layout.STAGING, layout.ABANDONED))
        files.mkdir(place)
        try:
            files.mark(f"{place}/mark", "first")
            try:
                files.mark(f"{place}/mark", "second")
            except FileExistsError:
                said = files.marked(f"{place}/mark")
            else:
                said = "second"
            files.remove(f"{place}/mark")
            if said != "first":
                raise Rejected("the file server lets a mark be made twice", hint="deliveries could "
                               "be doubled there: it has to refuse a symbolic link over another",
                               provider=folder.provider, where=f"{folder.ref} put")
            files.rename(place, gone)
            place = gone
        finally:
            with suppress(OSError):
                files.rmdir(place)
        self._sweep(files)
        self._proved = True

    # --- a batch on its way ------------------------------------------------------------------

    def _new_batch(self) -> str:
        return f"{_utc(self._folder)}-{self._folder.new_name()}"

    def _stage(self, files: Files, batch: str,
               parcels: Sequence[Parcel]) -> tuple[list[Parcel], dict[str, Sent]]:
        folder = self._folder
        place = folder.at(f"{layout.STAGING}/{batch}")
        files.mkdir(place)
        owners = files.each(lambda parcel: self._reserve(files, parcel.key, batch), parcels)
        sent = {parcel.key: Sent(owner, parcel.file, owner != batch)
                for parcel, owner in zip(parcels, owners, strict=True)}
        fresh = [parcel for parcel in parcels if not sent[parcel.key].again]
        if not fresh:
            return fresh, sent

        def write(parcel: Parcel) -> None:
            files.write(f"{place}/{parcel.file}", parcel.item.body)

        files.each(write, fresh)
        document = layout.manifest(batch, _utc(folder),
                                   [(each.item, each.key, each.file) for each in fresh])
        files.write(f"{place}/{layout.MANIFEST}", document)
        files.write(folder.at(f"{layout.SENT}/{batch}.json"), document)
        for path in (place, *map(folder.at, (layout.SENT, layout.STAGING, layout.KEYS)),
                     *{self._shard(parcel.key) for parcel in fresh}):
            files.sync(path)
        return fresh, sent

    def _appear(self, files: Files, batch: str) -> None:
        folder = self._folder
        try:
            files.rename(folder.at(f"{layout.STAGING}/{batch}"),
                         folder.at(f"{layout.INCOMING}/{batch}"))
        except FileNotFoundError:
            if self._state(files, batch) is State.APPEARED:
                return
            raise Unavailable("another delivery of one of these items came in between",
                              in_doubt=False, provider=folder.provider,
                              where=f"{folder.ref} put") from None
        except (TimeoutError, ConnectionError):
            raise
        except OSError:
            # Refused, perhaps, and perhaps not: where the batch is says it.
            self._abandon(files, batch)
            if self._state(files, batch) is not State.APPEARED:
                raise
        try:
            files.sync(folder.at(layout.INCOMING))
        except OSError:
            raise Unavailable("the batch is there, and may not be on disk yet", in_doubt=True,
                              provider=folder.provider, where=f"{folder.ref} put") from None

    def _forget(self, batch: str) -> None:
        """A batch that will not appear, tidied away as far as that can be done now."""
        with suppress(ProviderError), self._folder.asked("put", writes=False) as files:
            self._abandon(files, batch)

    # --- keys --------------------------------------------------------------------------------

    def _reserve(self, files: Files, key: str, batch: str) -> str:
        """The batch that delivers `key`: this one, or one that has appeared already."""
        for number in range(1, _MOST_MARKS):
            path = self._mark(key, number)
            try:
                try:
                    files.mark(path, batch)
                except FileNotFoundError:
                    with suppress(FileExistsError):
                        files.mkdir(self._shard(key))
                    files.mark(path, batch)
                return batch
            except FileExistsError:
                owner = self._owner(files, path)
            if self._state(files, owner) is State.UNDECIDED:
                self._give_way(owner)
                self._abandon(files, owner)
            if self._state(files, owner) is State.APPEARED:
                return owner
        raise Rejected("a delivery was abandoned too often", provider=self._folder.provider,
                       where=f"{self._folder.ref} put")

    def _give_way(self, owner: str) -> None:
        """A writer that lives has some time to go on, once; two that would abandon each other for
        ever wake up at different times."""
        with self._lock:
            known, self._met = owner in self._met, {*self._met, owner}
        if not known:
            self._folder.runtime.sleep(0.1 + 0.3 * self._folder.runtime.random())

    def _shard(self, key: str) -> str:
        return self._folder.at(f"{layout.KEYS}/{layout.digest(key)[:1]}")

    def _mark(self, key: str, number: int) -> str:
        return f"{self._shard(key)}/{layout.digest(key)}.{number}"

    def _owner(self, files: Files, path: str) -> str:
        said = files.marked(path)
        if layout.BATCH_NAME.fullmatch(said) is None:
            raise Rejected("the mark of a delivery was tampered with",
                           provider=self._folder.provider, where=f"{self._folder.ref} put",
                           hint=f"see who else writes in {layout.OURS}")
        return said

    def _state(self, files: Files, batch: str) -> State:
        """`staging` first: what has left it is in `abandoned` by then, or has appeared."""
        for place, state in ((layout.STAGING, State.UNDECIDED),
                             (layout.ABANDONED, State.ABANDONED)):
            with suppress(FileNotFoundError):
                files.look(self._folder.at(f"{place}/{batch}"))
                return state
        return State.APPEARED

    def _abandon(self, files: Files, batch: str) -> None:
        """Decides that it never appears, unless it has; its folder stays, empty, to say so."""
        gone = self._folder.at(f"{layout.ABANDONED}/{batch}")
        try:
            files.rename(self._folder.at(f"{layout.STAGING}/{batch}"), gone)
        except FileNotFoundError:
            return
        for entry in files.names(gone, _MOST_STAGED):
            with suppress(FileNotFoundError):
                files.remove(f"{gone}/{entry.name}")

    def _sweep(self, files: Files) -> None:
        """What a killed process left behind, and nobody came for in a day."""
        now = self._folder.earliest(files)
        for entry in files.names(self._folder.at(layout.STAGING), _MOST_STAGED):
            if entry.kind is Kind.FOLDER and now - entry.modified > _STALE_SECONDS:
                self._abandon(files, entry.name)


def _utc(folder: Folder) -> str:
    return f"{datetime.fromtimestamp(folder.runtime.now() / SECOND, UTC):%Y%m%dT%H%M%SZ}"
