"""A lever that a person moves; here the person answers at once, as `ccfailover done` would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from ccfailover.errors import StoreError
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import OurDesk, Provider
from ccfailover.providers.manual import ManualProvider
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store
from ccfailover.store.by_hand import DONE, Change, Standing, change, read
from tests.conformance.subjects import SECRETS, RouteSubject, until


class ManualSubject(RouteSubject):
    counts: ClassVar = {}
    throttles = False
    whole = "a person is given one task, with all shares"
    breaks = ("lost",)
    noted = 2  # the task, and that it is done

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.lever = LeverSpec("edge", self.ref, {
            "destinations": {"hq": "CIC 0288", "acme": "CIC 0222", "message": "closed"},
            "begins": {"hq": 100}})
        self.store = open_store(str(folder / "store.db"), SystemRuntime())
        self.moody = Moody(self.store)
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        provider = ManualProvider(
            ProviderSpec("edge", "manual", {"step": step, "instruction": "Set {shares}."}),
            resolve=SECRETS.__getitem__, runtime=SystemRuntime())
        store: Any = Gone() if port == 0 else self.moody
        provider.desk = OurDesk(store, "dana@here[1]", self.person)
        return provider

    def person(self, lever: str) -> None:
        """Does what they are asked, and says so."""
        task = read(self.store, lever).task
        if task is not None:
            self.say(task.to)

    def say(self, shares: Mapping[str, int]) -> None:
        def confirm(now: Standing) -> Change:
            return Standing(shares=dict(shares), by="ann", evidence="ticket"), DONE, {}

        change(self.store, self.lever.lever, confirm, actor="ann@here[2]")

    def truth(self) -> dict[str, int]:
        return dict(read(self.store, self.lever.lever).shares or {"hq": 100})

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self.say(shares)

    def meet(self, *what: str) -> None:
        self.moody.moods += what

    def break_writes(self, number: int, how: str) -> None:
        self.meet(how)

    def mend(self) -> None:
        self.moody.moods.clear()

    def raw(self) -> object:
        """What a person sets there, only that person sees."""
        return self.truth()

    def writes(self) -> int:
        return sum(record.kind.startswith("by_hand.") for record in self.store.read("automation"))

    def nonesuch(self) -> LeverSpec:
        """One of which nobody has ever said how it stands."""
        return LeverSpec("edge", "nonesuch")

    def wait_for(self, shares: Mapping[str, int]) -> None:
        """It is written down, and the person was not told."""
        task = read(self.store, self.lever.lever).task
        until(lambda: task is not None and asdict(task)["to"] == dict(shares))


class Moody:
    """The store, whose next change fails after it was made (`after`), or before (`lost`)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.moods: list[str] = []

    def swap_fact(self, *args: Any, **how: Any) -> bool:
        mood = self.moods.pop(0) if self.moods else ""
        done = self._store.swap_fact(*args, **how) if mood != "lost" else False
        if mood:
            raise StoreError("no answer in time")
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Gone:
    """A store that cannot be reached."""

    path = "postgresql://gone"

    def fact(self, name: str) -> Any:
        raise StoreError("cannot be reached")
