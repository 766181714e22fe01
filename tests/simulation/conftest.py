"""A running centre, and the patience that real processes need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfailover.simulation.local import CentreSettings, LocalCentre


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCentre]:
    """One for all tests of a module: none of them may leave it changed."""
    settings = CentreSettings(contacts_per_second=0)
    with LocalCentre(tmp_path_factory.mktemp("centre"), settings) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., LocalCentre]]:
    """Starts centres of a test's own, and stops them."""
    started: list[LocalCentre] = []

    def begin(**settings: object) -> LocalCentre:
        made = LocalCentre(tmp_path / f"centre{len(started)}",
                           CentreSettings(**settings))  # type: ignore[arg-type]
        started.append(made)
        made.start()
        return made

    yield begin
    for made in started:
        made.stop()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Fails when something does not come true within 20 seconds."""

    def wait(true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.02)

    return wait
