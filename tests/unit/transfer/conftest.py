from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.transfer.world import World


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Makes worlds, and closes their stores."""
    made: list[World] = []

    def make(**more: object) -> World:
        made.append(World(**more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for world in made:
        world.close()
