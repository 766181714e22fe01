"""The crash world: one a worker, as its servers take a while to start."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("crash_world", Path(__file__).parent / "world.py")
assert _SPEC is not None and _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules["crash_world"] = _MODULE
_SPEC.loader.exec_module(_MODULE)


@pytest.fixture(scope="session")
def crash_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    world = _MODULE.CrashWorld(tmp_path_factory.mktemp("crash"))
    try:
        yield world
    finally:
        world.stop()
