"""The schema, as numbered lists of statements. A number, once released, is never edited.

`executescript` would commit in the middle, hence lists: a migration happens whole or not at all.
Most statements are the same for both databases; `dialect` says whose list is wanted.
"""

from __future__ import annotations

LATEST = 5


def statements(version: int, dialect: str) -> tuple[str, ...]:
    """What leads from schema `version - 1` to `version` in `sqlite` or `postgres`."""
    from importlib import import_module

    module = import_module(f"{__name__}.m{version:04d}")
    found: tuple[str, ...] = module.STATEMENTS[dialect]
    return found
